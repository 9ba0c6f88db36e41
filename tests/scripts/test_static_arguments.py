"""The arguments of the training as their source has them are those of the real class."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from chartqa_ft import ChartQATrainingArguments
from chartqa_ft.scripts import finetune_own_data, finetune_unichart, finetune_vlm_lora, parsing, static_arguments
from chartqa_ft.scripts.parsing import ScriptParser
from chartqa_ft.scripts.static_arguments import UNKNOWN, UnreadableError, training_arguments

SCRIPTS = [finetune_unichart, finetune_vlm_lora, finetune_own_data]


def described(parser: ScriptParser) -> dict[str, dict]:
    """Option -> what decides how it is parsed and shown."""
    return {
        action.option_strings[0]: {
            "names": action.option_strings,
            "nargs": action.nargs,
            "const": action.const,
            "default": action.default,
            "choices": None if action.choices is None else [*action.choices],
            "help": action.help,
            "required": action.required,
            "kind": type(action).__name__,
        }
        for action in parser._actions
    }


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__.rpartition(".")[2])
def test_both_parsers_are_the_same(script):
    read, real = (
        described(ScriptParser((script.ScriptArguments, training), first=script.FIRST))
        for training in (training_arguments(), ChartQATrainingArguments)
    )
    assert [*read] == [*real]
    unknown = [name for name, one in read.items() if one["default"] is UNKNOWN]
    assert set(unknown) <= {"--optim"}, "further defaults are no literals: see how to read them"
    without_choices = [name for name, one in read.items() if one["choices"] is None and real[name]["choices"]]
    assert set(without_choices) <= {"--log_level", "--log_level_replica"}
    for name in unknown:
        read[name]["default"] = real[name]["default"]
    for name in without_choices:
        read[name]["choices"] = real[name]["choices"]
    assert read == real


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__.rpartition(".")[2])
@pytest.mark.parametrize(
    "line",
    [
        ["--learning_rate", "1e-3", "--use_cpu", "--eval_strategy", "steps", "--report_to", "none"],
        ["--optim", "adafactor", "--lr_scheduler_type", "linear", "--log_level", "info", "--bf16", "False"],
        ["--label_names", "a", "b", "--fsdp", "--no_log_on_each_node", "--gradient_checkpointing"],
        ["--lr_scheduler_kwargs", '{"num_cycles": 2}', "--debug", "underflow_overflow", "--generation_config", "x"],
    ],
    ids=["usual", "choices", "lists", "objects"],
)
def test_a_line_that_the_real_parser_takes_is_taken(script, line):
    parsers = [
        ScriptParser((script.ScriptArguments, training))
        for training in (training_arguments(), ChartQATrainingArguments)
    ]
    read, real = (vars(parser.parse_args(line)) for parser in parsers)
    assert read.keys() == real.keys()
    assert {name for name in read if str(read[name]) != str(real[name])} <= {"optim", "debug", "generation_config"}


def broken(tmp_path: Path, monkeypatch, change) -> None:
    """A transformers whose training_args.py is another one."""
    folder = static_arguments._folder("transformers")
    for name in ("training_args.py", "training_args_seq2seq.py", "trainer_utils.py", "debug_utils.py"):
        text = (folder / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(change(text) if name == "training_args.py" else text, encoding="utf-8")
    monkeypatch.setattr(static_arguments, "_folder", lambda package: tmp_path)
    training_arguments.cache_clear()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "class TrainingArguments:" + text.partition("class TrainingArguments:")[2] + "\n(",
        lambda text: text.replace("class TrainingArguments:", "class TrainingArguments(Base):"),
        lambda text: text.replace("learning_rate: float = field(", "learning_rate: float = field(**more, "),
        lambda text: text.replace("default_factory=list", "default_factory=make"),
    ],
    ids=["syntax", "bases", "keywords", "factory"],
)
def test_source_of_another_form_is_left_to_the_real_parser(tmp_path, monkeypatch, change, capsys):
    broken(tmp_path, monkeypatch, change)
    try:
        with pytest.raises(UnreadableError):
            training_arguments()
        assert parsing._quick_parser(ScriptParser) is None
        with pytest.raises(SystemExit):
            finetune_unichart.main(["--lerning_rate", "1"])
        assert "unknown arguments: --lerning_rate (did you mean --learning_rate?)" in capsys.readouterr().err
    finally:
        training_arguments.cache_clear()


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("-1", -1),
        ("2 * 3 - 1", 5),
        ("('a', ['b'])", ("a", ["b"])),
        ("SIZE", 7),
        ("twice('x')", {"help": "x", "n": 7}),
        ("unknown", None),
        ("open('x')", None),
        ("f'{x}'", None),
    ],
)
def test_values_that_are_read(tmp_path, source, value):
    path = tmp_path / "module.py"
    path.write_text('SIZE = 7\ndef twice(text):\n    """Doc."""\n    return {"help": text, "n": SIZE}\n')
    module = static_arguments._Module(path)
    node = ast.parse(source, mode="eval").body
    assert module.value_or(node, None) == value
