"""The command line and YAML files of scripts, old names of arguments, and errors in one line."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from chartqa_ft import scripts
from chartqa_ft.scripts import ScriptParser, parse, parse_mapping
from chartqa_ft.scripts.arguments import DataArguments, ModelArguments
from chartqa_ft.scripts.parsing import replace_aliases

from ..support.common import run
from ..support.launching import FINETUNE, as_command_line, example


@dataclass
class Script(DataArguments, ModelArguments):
    small: bool = False


def parsed(tmp_path: Path, *line: str):
    defaults = {"learning_rate": 1e-4, "output_dir": str(tmp_path / "out")}
    return parse(
        [*line, "--use_cpu"],
        Script,
        description="",
        defaults=defaults,
        defaults_with={"small": {True: {"learning_rate": 1e-5, "max_steps": 7}, False: {"weight_decay": 0.1}}},
    )


def test_a_switch_brings_defaults_that_the_command_line_and_the_file_overrule(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("small: true\ncolumn_map: {image: file, question: the question}\n")
    assert parsed(tmp_path)[1].learning_rate == 1e-4
    script, args = parsed(tmp_path, str(file))
    assert (args.learning_rate, args.max_steps, args.weight_decay, script.small) == (1e-5, 7, 0.0, True)
    assert parse_mapping(script.column_map) == {"image": "file", "question": "the question"}
    assert parsed(tmp_path, str(file), "--learning_rate", "2e-3")[1].learning_rate == 2e-3
    args = parsed(tmp_path, str(file), "--small", "False")[1]
    assert (args.learning_rate, args.weight_decay) == (1e-4, 0.1)
    file.write_text("")
    assert parsed(tmp_path, str(file))[1].learning_rate == 1e-4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- learning_rate\n", "must contain lines like 'learning_rate: 1e-4', not a list"),
        ("a: [1\n", "run.yaml cannot be read: it is not valid YAML: see line 1, column 4 to line 2, column 1"),
        (None, "run.yaml cannot be read: [Errno 2] No such file"),
    ],
)
def test_a_yaml_file_that_cannot_be_read_is_named(tmp_path, capsys, text, message):
    if text is not None:
        (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(SystemExit):
        parsed(tmp_path, str(tmp_path / "run.yaml"))
    assert message in capsys.readouterr().err


def test_pairs():
    assert parse_mapping(None) is None
    assert parse_mapping(["image=a=b", "question=q"]) == {"image": "a=b", "question": "q"}
    with pytest.raises(ValueError, match="'question' is not a pair like image=file"):
        parse_mapping(["image=file", "question"])


def test_yaml_means_what_the_command_line_means(tmp_path):
    settings = {
        "model_name_or_path": "a/model",
        "output_dir": str(tmp_path / "out"),
        "learning_rate": 3e-05,
        "compat": False,
        "max_length": 300,
        "eval_subset": 0.5,
        "lr_scheduler_kwargs": {"num_cycles": 2},
        "prompt": "Q: {question} -- A:",
        "use_cpu": True,
    }
    written = yaml.safe_dump(settings) + "fp16: null\nadam_epsilon: 1e-7\n"
    (tmp_path / "run.yaml").write_text(written)
    module = example(FINETUNE)

    def parse_line(line: list[str]):
        return parse(line, module.ScriptArguments, description=module.__doc__, defaults=module.DEFAULTS)

    line = {**settings, "lr_scheduler_kwargs": '{"num_cycles": 2}', "adam_epsilon": "1e-7"}
    wanted = parse_line(as_command_line(line))
    script, args = parse_line([str(tmp_path / "run.yaml")])
    assert (script, args.to_dict()) == (wanted[0], wanted[1].to_dict())
    assert (script.compat, script.max_length, script.prompt) == (False, 300, "Q: {question} -- A:")
    assert (args.learning_rate, args.adam_epsilon, args.lr_scheduler_kwargs) == (3e-05, 1e-07, {"num_cycles": 2})
    assert (args.eval_strategy, args.save_total_limit, args.load_best_model_at_end) == ("steps", 2, True)
    changed, _ = parse_line([str(tmp_path / "run.yaml"), "--max_length", "200"])
    assert changed.max_length == 200


def test_texts_in_yaml_are_read_as_they_are_written(tmp_path):
    texts = {
        "model_revision": "1.10",
        "output_dir": "2024_01",
        "hub_model_id": "007",
        "run_name": "12:30",
        "eval_split": "on",
        "train_split": "2024-01-05T10:00:00Z",
        "eval_strategy": "no",
        "save_strategy": "no",
    }
    others = [
        "dataset_name: [1.10, 007, on]",
        "compat: off",
        "do_train: on",
        "use_cpu: yes",
        "max_steps: 1_000",
        "learning_rate: 5.0e-5",
        "weight_decay: .5",
        "seed: 0x10",
        "max_grad_norm: .inf",
        "lr_scheduler_kwargs: {num_cycles: 2}",
    ]
    lines = [f"{name}: {value}" for name, value in texts.items()]
    (tmp_path / "run.yaml").write_text("\n".join([*lines, *others]))
    script, args = parse([str(tmp_path / "run.yaml")], Script, description="")
    for name, text in texts.items():
        found = getattr(script if hasattr(script, name) else args, name)
        assert getattr(found, "value", found) == text, name
    assert (script.dataset_name, script.other_datasets) == ("1.10", ["007", "on"])
    assert (script.compat, args.do_train, args.use_cpu) == (False, True, True)
    assert (args.max_steps, args.learning_rate, args.weight_decay, args.seed) == (1000, 5e-5, 0.5, 16)
    assert (args.max_grad_norm, args.lr_scheduler_kwargs) == (float("inf"), {"num_cycles": 2})


@pytest.mark.parametrize(
    ("text", "value"), [("on", True), ("Off", False), ("YES", True), ("no", False), ("true", True)]
)
def test_booleans_have_the_words_of_yaml_on_the_command_line_too(tmp_path, text, value):
    (tmp_path / "run.yaml").write_text(f"small: {text}\nfull: {text}\n")
    (script,) = ScriptParser(Script).parse([f"--small={text}", f"--check={text}"])
    assert (script.small, script.check) == (value, str(value))
    (script,) = ScriptParser(Script, aliases={"full": "no_compat"}).parse([str(tmp_path / "run.yaml")])
    assert (script.small, script.compat) == (value, not value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("no_such_argument: 1", "no_such_argument"),
        ("learning_rate: fast", "learning_rate"),
        ("eval_subset: -1", "--eval_subset must be a number of questions"),
        ("generation_max_length: 20", "--generation_max_length 20 counts the prompt"),
        ("max_length: 1.5", "invalid int value: '1.5'"),
    ],
)
def test_wrong_entries_are_named(tmp_path, capsys, line, message):
    (tmp_path / "run.yaml").write_text(f"output_dir: {tmp_path}\nuse_cpu: true\n{line}\n")
    with pytest.raises(SystemExit):
        example(FINETUNE).main([str(tmp_path / "run.yaml")])
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) <= 3


# ---------------------------------------------------------------------- old names
ALIASES = {"variant": "metric_variant", "data": "dataset_name", "full": "no_small"}


def with_aliases(*line: str):
    line = [*line, "--use_cpu", "--output_dir", "out"]
    return parse(line, Script, description="", defaults_with={"small": {True: {"seed": 7}}}, aliases=ALIASES)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["--variant", "a"], ["--metric_variant", "a"]),
        (["--variant=a=b", "--seed", "1"], ["--metric_variant=a=b", "--seed", "1"]),
        (["--seed", "-1", "--data", "x", "--lora"], ["--seed", "-1", "--dataset_name", "x", "--lora"]),
        (["--full"], ["--small=False"]),
        (["--full", "False", "--data=x"], ["--small=True", "--dataset_name=x"]),
        (["--full=yes"], ["--small=False"]),
        (["--full=perhaps"], ["--small=perhaps"]),
        (["--full", "no", "stray"], ["--small=True", "stray"]),
        (["--prompt=--variant", "--datas", "x", "data"], ["--prompt=--variant", "--datas", "x", "data"]),
        (["--variant", "a", "--metric-variant=a"], ["--metric_variant", "a", "--metric-variant=a"]),
        (["--full", "--no-small", "--small", "no"], ["--small=False", "--no-small", "--small", "no"]),
    ],
)
def test_old_names_are_replaced(line, expected):
    assert replace_aliases(line, ALIASES) == expected


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (["--variant", "a", "--metric_variant", "b"], "--variant and --metric_variant"),
        (["--metric-variant=b", "--variant=a"], "--variant and --metric_variant"),
        (["--full", "--small"], "--full and --small"),
        (["--small=1", "--full", "True"], "--full and --small"),
        (["--full=0", "--no_small"], "--full and --small"),
    ],
)
def test_two_values_for_one_argument_are_refused(line, named, capsys):
    with pytest.raises(ValueError, match=f"{named} mean the same argument and have different values"):
        replace_aliases(line, ALIASES)
    with pytest.raises(SystemExit):
        with_aliases(*line)
    assert f"{named} mean the same" in capsys.readouterr().err


def test_old_names_in_a_file_are_overridden_by_either_name(tmp_path, caplog, capsys):
    file = tmp_path / "run.yaml"
    file.write_text("variant: lenient\ndata: x\nfull: false\n")
    script, args = with_aliases(str(file))
    assert (args.metric_variant, args.seed, script.dataset_name, script.small) == ("lenient", 7, "x", True)
    assert caplog.messages == [
        "Some arguments have new names: use --metric_variant instead of --variant, --dataset_name instead of --data, "
        "--small True instead of --full"
    ]
    for line in (["--metric_variant", "unichart", "--small", "no"], ["--variant=unichart", "--full"]):
        script, args = with_aliases(str(file), *line)
        assert (args.metric_variant, args.seed, script.small) == ("unichart", 42, False)
    file.write_text("metric_variant: lenient\n")
    assert with_aliases(str(file), "--variant", "unichart")[1].metric_variant == "unichart"
    file.write_text("variant: lenient\nmetric_variant: unichart\n")
    with pytest.raises(SystemExit):
        with_aliases(str(file))
    assert "leave out --variant" in capsys.readouterr().err


def test_old_names_are_warned_of_by_the_first_process_alone(monkeypatch, caplog):
    parser = ScriptParser(DataArguments, aliases=ALIASES)
    monkeypatch.setenv("RANK", "1")
    assert parser.parse(["--data", "x"])[0].dataset_name == "x"
    assert caplog.messages == []
    monkeypatch.setenv("RANK", "0")
    assert parser.parse(["--data", "x"])[0].dataset_name == "x"
    assert len(caplog.messages) == 1


def test_unknown_names_are_not_completed(capsys):
    """`--max_eval` is no short form of --max_eval_samples, in no script."""
    with pytest.raises(SystemExit):
        ScriptParser(DataArguments).parse(["--max_eval", "3"])
    assert "unknown arguments: --max_eval (did you mean --max_eval_samples?)" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        ScriptParser(DataArguments).parse(["--train_split", "a", "b"])
    assert "b is not the value of any argument" in capsys.readouterr().err


# ---------------------------------------------------------------------- imports
@pytest.mark.parametrize(
    ("code", "without"),
    [
        ("import chartqa_ft.scripts", ["numpy", "yaml", "transformers", "torch", "datasets"]),
        ("from chartqa_ft.scripts import DataArguments", ["numpy", "yaml", "transformers", "torch", "datasets"]),
        ("from chartqa_ft.scripts import command_line", ["yaml", "transformers", "torch", "datasets"]),
        ("from chartqa_ft.scripts import ScriptParser", ["torch", "datasets", "peft", "chartqa_ft.training"]),
    ],
)
def test_modules_import_no_more_than_they_need(code, without):
    loaded = run([sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"]).stdout.split()
    assert "chartqa_ft.scripts" in loaded
    assert not set(without) & set(loaded)


def test_every_public_name_is_there():
    assert [name for name in scripts.__all__ if not hasattr(scripts, name)] == []
    assert dir(scripts) == scripts.__all__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = scripts.nothing


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (["question=a", "answer=b", "question=c"], "column_map has question twice: leave out one of them"),
        (['{"question": 5}'], "column_map: the value of question must be a text, not 5"),
        (['{"question": "a", "answer": {"b": 1}}'], "column_map: the value of answer must be a text, not {'b': 1}"),
    ],
)
def test_mappings_that_are_not_understood_are_named(parts, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_mapping(parts)
