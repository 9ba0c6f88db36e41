"""What all examples have in common: help, the commands in their docstrings and on the pages, errors in one line."""

from __future__ import annotations

import ast
import dataclasses
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest

from chartqa_ft import ChartQATrainingArguments

from ..support.common import drawn_charts
from ..support.launching import (
    EVALUATE,
    FINETUNE,
    LORA,
    OWN,
    as_command_line,
    example,
    save_tiny,
    write_original_layout,
)
from ..support.pages import TEXTS

EXAMPLES = [FINETUNE, LORA, OWN, EVALUATE]
OLD_NAMES = {
    FINETUNE: set(),
    LORA: {"full"},
    OWN: {"data"},
    EVALUATE: {"split", "max_samples", "batch_size", "num_beams", "max_new_tokens", "variant", "num_workers"},
}


def docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")), clean=False)


def help_of(module: ModuleType, capsys, *line: str, **settings) -> str:
    with pytest.raises(SystemExit) as stopped:
        module.main([*line], **settings)
    assert stopped.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_help_lists_every_argument_with_its_default_and_no_old_name(path, capsys):
    module = example(path)
    text = help_of(module, capsys, "--help_all", description=docstring(path))
    assert docstring(path).strip() in text
    fields = {field.name: field for field in dataclasses.fields(arguments_of(module)) if field.init}
    names = list(fields)
    if path != EVALUATE:
        names += [field.name for field in dataclasses.fields(ChartQATrainingArguments)]
    listed = re.findall(r"^  --(\w+)", text, flags=re.MULTILINE)
    assert set(names) <= set(listed)
    assert len(listed) == len(set(listed))
    assert all(argument.metadata["help"] for argument in fields.values())
    assert f"(default: {fields['dataset_name'].default})" in " ".join(text.split())
    old = getattr(module, "OLD_NAMES", {})
    assert set(old) == OLD_NAMES[path]
    assert not set(old) & set(listed)
    assert {name.removeprefix("no_") for name in old.values()} <= set(listed)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_help_shows_what_people_use_first_in_groups(path, capsys):
    module = example(path)
    text = help_of(module, capsys, "--help")
    listed = re.findall(r"^  --(\w+)", text, flags=re.MULTILINE)
    assert 15 <= len(listed) <= 35
    assert listed == [name for names in module.FIRST.values() for name in names]
    assert re.findall(r"^(\w.*):$", text, flags=re.MULTILINE)[-len(module.FIRST) :] == list(module.FIRST)
    everything = help_of(module, capsys, "--help_all")
    count = len(set(re.findall(r"^  --(?!no_)(\w+)", everything, flags=re.MULTILINE)))
    assert f"--help_all lists all {count} arguments." in text
    for name, value in getattr(module, "DEFAULTS", {}).items():
        if name in listed:
            assert re.search(rf"--{name} .*?\(default: {re.escape(str(value))}\)", " ".join(text.split())), name


def arguments_of(module: ModuleType) -> type:
    return getattr(module, "ScriptArguments", None) or module.EvaluationArguments


@pytest.mark.parametrize(("least", "place"), [(4, "docstring"), (1, "pages")], ids=["docstring", "pages"])
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_commands_that_users_paste_are_ones_that_a_script_takes(path, least, place, tmp_path, monkeypatch, caplog):
    module = example(path)
    taken = []
    last = "evaluate" if path == EVALUATE else "train"
    monkeypatch.setattr(module, last, lambda *args: taken.append(args) or sys.exit())
    text = docstring(path) if place == "docstring" else "\n".join(TEXTS.values())
    script = f"examples/{path.name}"
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines()]
    lines = [line for line in lines if line.startswith(("accelerate launch", "python ")) and script in line]
    commands = [shlex.split(line.removesuffix("..."), comments=True) for line in lines]
    assert len(commands) >= least
    for command in commands:
        line = [part for part in command[command.index(script) + 1 :] if part != "config.yaml"]
        model = ["--model_name_or_path", "out"] if path == EVALUATE else []
        with pytest.raises(SystemExit) as stopped:
            module.main([*model, *line, "--output_dir", str(tmp_path), "--use_cpu"])
        assert stopped.value.code is None, command
    assert len(taken) == len(commands)
    assert "new names" not in caplog.text


def test_mistakes_end_in_one_line(tmp_path):
    data = write_original_layout(tmp_path / "data", train=drawn_charts().select(range(3)))
    model = save_tiny(tmp_path / "tiny")
    base = {"model_name_or_path": model, "dataset_name": data, "eval_split": "train", "use_cpu": True}
    mistakes = [
        (FINETUNE, {"eval_split": "val"}, "has no split 'val'; it has 'train'"),
        (FINETUNE, {"dataset_name": tmp_path / "nowhere"}, "is not a local file or folder"),
        (FINETUNE, {"model_name_or_path": tmp_path / "nowhere"}, "there is no folder"),
        (FINETUNE, {"prompt": "no place for it"}, "has no field {question}"),
        (EVALUATE, {"eval_split": "val"}, "has no split 'val'; it has 'train'"),
        (EVALUATE, {"model_name_or_path": data}, "it is not a checkpoint"),
        (EVALUATE, {"metric_variant": "nonsense"}, "nonsense"),
    ]
    for script, changes, message in mistakes:
        settings = {**base, "output_dir": tmp_path / "out", **changes}
        with pytest.raises(SystemExit) as stopped:
            example(script).main(as_command_line(settings))
        assert message in str(stopped.value.code)
        assert str(stopped.value.code).startswith("error: ")
        assert len(str(stopped.value.code).splitlines()) == 1
