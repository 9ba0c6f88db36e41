"""No program takes an argument that it does not act on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from chartqa_ft.models import load
from chartqa_ft.scripts import (
    check_model,
    evaluate_checkpoint,
    finetune_own_data,
    finetune_unichart,
    finetune_vlm_lora,
)

from ..support.common import drawn_charts
from ..support.launching import QUICK, as_command_line, save_family, save_tiny, write_original_layout
from .test_finetune_own_data import COLUMNS, own_settings, write_own_data

RECORDING = ("next_steps.py", "help_text.py")
"""Modules of the programs that read arguments only to write them down."""


ONLY_IF = {
    # Read when the arguments are made, or where several data sets are given.
    evaluate_checkpoint: {"run_programs"},
    finetune_unichart: {"dataset_weights"},
    finetune_vlm_lora: {"dataset_weights"},
    finetune_own_data: {"dataset_weights"},
}
"""Arguments that a program without others does not read."""


def settings_of(tmp_path: Path, program: ModuleType) -> dict[str, Any]:
    """Arguments with which a program runs on drawn charts."""
    if program is finetune_own_data:
        return own_settings(tmp_path, *write_own_data(tmp_path / "data"), save_tiny(tmp_path / "model"))
    records = drawn_charts()
    data = write_original_layout(tmp_path / "charts", train=records.select(range(6)), val=records.select(range(6, 12)))
    common = {"dataset_name": data, "use_cpu": True}
    if program is check_model:
        model = save_tiny(tmp_path / "model")
        return {**common, "model_name_or_path": model, "lines": "training_batch"}
    if program is evaluate_checkpoint:
        common |= {"eval_split": "val", "generation_max_new_tokens": 2, "generation_num_beams": 1}
        return {**common, "model_name_or_path": save_tiny(tmp_path / "model"), "output_dir": tmp_path / "scores"}
    common |= {**QUICK, "output_dir": tmp_path / "out"}
    if program is finetune_vlm_lora:
        return {**common, "model_name_or_path": save_family("qwen2_5_vl", tmp_path / "model"), "max_pixels": 2048}
    return {**common, "model_name_or_path": save_tiny(tmp_path / "model")}


def watched(kind: type, read: set[str]) -> type:
    """A class whose attributes are noted when one of the programs reads them."""

    class Watched(kind):
        def __getattribute__(self, name: str) -> Any:
            file = Path(sys._getframe(1).f_code.co_filename)
            if file.parent.name == "scripts" and file.name not in RECORDING:
                read.add(name)
            return super().__getattribute__(name)

    return Watched


@pytest.mark.parametrize(
    ("program", "action"),
    [
        (evaluate_checkpoint, "evaluate"),
        (check_model, "check"),
        (finetune_unichart, "train"),
        (finetune_vlm_lora, "train"),
        (finetune_own_data, "train"),
    ],
)
def test_every_argument_is_read(tmp_path, monkeypatch, program, action):
    read: set[str] = set()
    acts: Callable[..., Any] = getattr(program, action)
    names: set[str] = set()

    def run(script: Any, *args: Any) -> Any:
        names.update(field.name for field in fields(script))
        script.__class__ = watched(type(script), read)
        return acts(script, *args)

    monkeypatch.setattr(program, action, run)
    columns = COLUMNS if program is finetune_own_data else []
    program.main([*as_command_line(settings_of(tmp_path, program)), *columns])
    assert len(names) > 15
    assert names - read == ONLY_IF.get(program, set())


def test_prompts_reach_the_model(tmp_path, monkeypatch):
    """`evaluate` and `check` ask with the system message and the prompts of their arguments."""
    model = save_family("qwen2_5_vl", tmp_path / "model")
    seen, loaded = [], load.load_checkpoint

    def noting(*args: Any, **settings: Any) -> Any:
        found = loaded(*args, **settings)
        seen.append(found[2])
        return found

    monkeypatch.setattr(load, "load_checkpoint", noting)
    for program in (evaluate_checkpoint, check_model):
        settings = settings_of(tmp_path / program.__name__, program) | {"model_name_or_path": model}
        own = ["--system_prompt", "Read charts.", "--prompts", "table=As a table:"]
        program.main([*as_command_line(settings), *own])
    assert len(seen) == 2
    for adapter in seen:
        assert "Read charts." in adapter.prompt_text("How many?")
        assert adapter.given_prompts["table"] == "As a table:"


@pytest.mark.parametrize(
    ("argument", "value"),
    [("image_dir", "charts"), ("split", "val"), ("column_map", "question=q"), ("on_error", "skip"), ("task", "table")],
)
def test_arguments_about_data_need_data(tmp_path, argument, value):
    model = save_tiny(tmp_path / "model")
    with pytest.raises(SystemExit, match=f"--{argument} is about a data set: name one with --data"):
        check_model.main([str(model), "--use_cpu", f"--{argument}", value])
