"""Two and three processes do what one does: the same updates, losses, metrics and answers, each question once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from chartqa_ft import read_predictions

from ..support.common import ROOT, drawn_charts, relative_l2
from ..support.families import records
from ..support.launching import without_times
from ..support.prepared import run_prepared

DRIVER = ROOT / "tests" / "drivers" / "train_and_evaluate.py"
COMMON = {"optim": "sgd", "learning_rate": 0.5, "num_train_epochs": 4, "max_steps": -1, "random_padding": True}
# Rows of their own shape and pixels packed over all rows, and a question that the encoder reads.
FAMILY = {"rows": 13, "random_padding": False, "learning_rate": 0.05}
# At a rate of 0.5, rounding grows 30-fold in the 8 steps of this job, to 2e-6 of the last gradient.
WORKERS = {"dataloader_num_workers": 2, "learning_rate": 0.05}
PARTS = {"freeze": ["vision"], "learning_rate": 0.005, "learning_rates": {"projector": 0.02}}
# 13 questions are no multiple of 12; 3 are fewer than one step has rows, so that one process gets fillers alone.
# In a window of two small batches questions wait for others, and not for all of them.
JOBS = [
    {"name": "uneven", "rows": 13, "per_device_eval_batch_size": 2, "eval_window": 2},
    {"name": "few", "rows": 3, "generation_num_beams": 2},
    {"name": "wide", "rows": 13, "wide": True},
    {"name": "still", "rows": 13, "learning_rate": 0.0},
    {"name": "stream", "rows": 13, "stream": True, "wide": True, "max_steps": 8, **WORKERS},
    {"name": "florence2", "family": "florence2", **FAMILY},
    {"name": "qwen2_5_vl", "family": "qwen2_5_vl", **FAMILY},
    # Parts without gradients, which the reduction must not wait for, and groups of the optimizer by part.
    {"name": "parts", "family": "llava", **FAMILY, "rows": 3, **PARTS},
]


LAYOUTS = {1: (4, 3), 2: (6, 1), 3: (4, 1)}
"""Number of processes -> (rows of a batch, batches of a step): 12 rows in every step."""
WITH_THREE = ("uneven", "few", "stream")
DECIDED = {
    "name": "decided",
    "rows": 3,
    "own_metric": True,
    "metric_for_best_model": "own",
    "greater_is_better": True,
    "load_best_model_at_end": True,
    "eval_strategy": "steps",
    "save_strategy": "steps",
    "eval_steps": 1,
    "save_steps": 1,
}


def layout(processes: int, *, accumulates: bool) -> dict[str, int]:
    batch, accumulation = LAYOUTS[processes]
    if not accumulates:  # upstream does not know where a stream ends, and adds its last batches to the next step
        batch, accumulation = batch * accumulation, 1
    return {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation}


def results_of(folder: Path, processes: int) -> list[dict]:
    return [json.loads((folder / f"result-{rank}.json").read_text()) for rank in range(processes)]


@pytest.mark.long
def test_several_processes_do_what_one_does(tmp_path: Path):
    for processes in LAYOUTS:
        jobs = [
            {**COMMON, **layout(processes, accumulates="stream" not in job), **job}
            for job in [*JOBS, *([DECIDED] if processes == 2 else [])]
            if processes < 3 or job["name"] in WITH_THREE
        ]
        run_prepared([DRIVER, tmp_path / str(processes), *map(json.dumps, jobs)], processes, timeout=300)
    for job in JOBS:
        for processes in (2, 3) if job["name"] in WITH_THREE else (2,):
            compare(job, tmp_path / "1" / job["name"], tmp_path / str(processes) / job["name"], processes)

    # The second process alone would have found every step better than the one before, and gone on.
    for result in results_of(tmp_path / "2" / "decided", 2):
        assert result["best"] == {"metric": -1.0, "step": 1, "last": 2}


def compare(job: dict, one: Path, other: Path, processes: int) -> None:
    """Check that the processes in folder `other` did what the one in folder `one` did."""
    name, rows = job["name"], job["rows"]
    [expected], (first, *ranks) = results_of(one, 1), results_of(other, processes)
    assert [r["num_processes"] for r in (expected, first, *ranks)] == [1, *[processes] * processes]

    tensors = [torch.load(folder / "tensors.pt", weights_only=True) for folder in (one, other)]
    assert len(tensors[0]["gradients"]) == len(tensors[1]["gradients"]) == 4 * -(-rows // 12)
    rounding = 1e-6 if processes == 2 else 1e-5  # the mean over three ranks, times three, is not exact
    for a, b in zip(tensors[0]["gradients"], tensors[1]["gradients"], strict=True):
        assert relative_l2(b, a) <= rounding
    flat = [torch.cat([weight.double().flatten() for weight in t["weights"].values()]) for t in tensors]
    assert relative_l2(flat[1], flat[0]) <= rounding

    # Weights differ by rounding from the first step on, and so do the losses; answers and scores do not. Where the
    # weights stay as they are, every number of an evaluation is the same to the last bit.
    losses = [[entry["loss"] for entry in result["history"] if "loss" in entry] for result in (expected, first)]
    assert losses[1] == pytest.approx(losses[0], rel=rounding)
    assert first["training_loss"] == pytest.approx(expected["training_loss"], rel=rounding)
    metrics = without_times(first["metrics"])
    assert all(without_times(rank["metrics"]) == metrics for rank in ranks)
    before = without_times(expected["metrics"])
    tolerance = 0.0 if name == "still" else rounding
    assert metrics == {**before, "eval_loss": pytest.approx(before["eval_loss"], rel=tolerance, abs=0)}
    if name in ("uneven", "few", "wide"):
        assert metrics["eval_relaxed_accuracy"] > 0
    assert metrics["eval_n_human"] + metrics["eval_n_augmented"] == rows

    questions = records(rows) if "family" in job else drawn_charts().select(range(rows))
    answers = [record["answer"] for record in questions]
    assert all(result["references"] == answers for result in (expected, first, *ranks))
    assert all(result["predictions"] == expected["predictions"] for result in (first, *ranks))
    files = [read_predictions(f / "predictions" / f"eval-step-{4 * -(-rows // 12)}.jsonl") for f in (one, other)]
    assert files[0] == files[1]
    assert [row["index"] for row in files[0]] == list(range(rows))
