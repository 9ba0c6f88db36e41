"""The files that a checkpoint of a stranger brings: their values are checked, and damage is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st

from chartqa_ft.evaluation.results import EvaluationResult, read_scores, write_scores
from chartqa_ft.files import read_json
from chartqa_ft.models.chartqa_config import read_settings
from chartqa_ft.models.load import _peft_config
from chartqa_ft.models.load_checks import check_json_files
from chartqa_ft.training.checkpoints import find_damage, last_checkpoint, mark_checkpoint, missing_states
from chartqa_ft.training.running_loss import RunningLoss

from .fuzzing import damaged, fuzz, in_time, json_texts, outcome, written

SETTINGS = {"prompt": "{question}", "max_length": 128, "adapter": "causal", "compat": False, "metric_variant": None}
SCORES = [
    EvaluationResult(step=5, prefix="eval_", metrics={"eval_n": 2.0}, decoding={"num_beams": 1}, rows=[{"index": 0}])
]
STATE = {"window": [1.5, 3], "total": [2.5, 7], "epoch": 1, "batches": 2, "step": 5, "world_size": 1, "run": "ab"}
PEFT = {
    "peft_type": "LORA",
    "base_model_name_or_path": "base",
    "r": 4,
    "lora_alpha": 8,
    "target_modules": ["q_proj"],
    "rank_pattern": {},
    "modules_to_save": None,
    "task_type": None,
}


def restored(folder: Path) -> RunningLoss:
    """The running loss after a resume, with what the log and the next checkpoint take from it."""
    losses = RunningLoss(Accelerator(cpu=True))
    losses.restore(folder)
    losses.since_start()
    losses.end_epoch()
    return losses


def read_mark(folder: Path) -> None:
    """What a resume reads of a mark: `last_checkpoint` passes over damaged checkpoints."""
    assert last_checkpoint(folder.parent) in (None, str(folder))
    if find_damage(folder) is None:
        restored(folder)
        missing_states(folder, ranks=range(1), world_size=1, scaler=False, sharded=False)


READERS: dict[str, tuple[Any, Callable[[Path], Any]]] = {
    "chartqa_config.json": (SETTINGS, read_settings),
    "chartqa_scores.json": (None, lambda folder: read_scores(folder, folder)),
    "chartqa_state.json": (STATE, read_mark),
    "adapter_config.json": (PEFT, lambda folder: (check_json_files(folder), _peft_config(folder))),
    "config.json": ({"model_type": "llava"}, check_json_files),
    "metrics.json": ({"eval_n": 2.0}, lambda folder: read_json(folder / "metrics.json")),
}


@pytest.fixture(scope="module", params=READERS)
def case(request, tmp_path_factory) -> SimpleNamespace:
    content, read = READERS[request.param]
    folder = tmp_path_factory.mktemp("run") / "checkpoint-5"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(b"")
    if content is None:
        content = json.loads(write_scores({5: SCORES[0]}, folder, folder).read_text())
    return SimpleNamespace(
        path=folder / request.param, content=content, read=lambda: read(folder), names=(request.param, str(folder))
    )


@fuzz()
@given(text=json_texts(), data=st.data())
def test_any_value_of_a_field_is_checked(case, text, data):
    content = case.content[0] if isinstance(case.content, list) else case.content
    key = data.draw(st.sampled_from([*content, "other"]))
    fields = {name: written(value) for name, value in content.items()} | {key: text}
    whole = "{" + ", ".join(f'"{name}": {value}' for name, value in fields.items()) + "}"
    case.path.write_text(f"[{whole}]" if isinstance(case.content, list) else whole)
    outcome(case.read, *case.names)


@fuzz()
@given(data=st.data())
def test_any_damage_is_named(case, data):
    case.path.write_bytes(data.draw(damaged(written(case.content).encode())))
    outcome(case.read, *case.names)


@fuzz()
@given(text=json_texts())
def test_any_json_in_the_place_of_a_file_is_checked(case, text):
    case.path.write_text(text)
    outcome(case.read, *case.names)


@fuzz()
@given(data=st.data(), text=json_texts())
def test_any_list_of_files_in_a_mark_is_checked(tmp_path_factory, data, text):
    folder = tmp_path_factory.mktemp("run") / "checkpoint-5"
    folder.mkdir()
    (folder / "model.safetensors.index.json").write_text(f'{{"weight_map": {text}}}')
    mark_checkpoint(folder, STATE)
    if data.draw(st.booleans()):
        mark = json.loads((folder / "chartqa_state.json").read_text())
        entry = data.draw(json_texts())
        (folder / "chartqa_state.json").write_text(
            json.dumps({**mark, "files": "?"}).replace('"?"', f'{{"a": {entry}}}')
        )
    with in_time():
        reason = find_damage(folder)
    assert reason is None or reason.startswith("is damaged: ")
