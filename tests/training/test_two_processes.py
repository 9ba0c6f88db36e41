"""Two processes do what one does: the same updates, losses, metrics and answers, each question once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from chartqa_ft import read_predictions

from ..support.common import ROOT, drawn_charts, launcher, relative_l2, run
from ..support.families import records

DRIVER = str(ROOT / "tests" / "drivers" / "train_and_evaluate.py")
COMMON = {"optim": "sgd", "learning_rate": 0.5, "num_train_epochs": 4, "max_steps": -1, "random_padding": True}
# Rows of their own shape and pixels packed over all rows, and a question that the encoder reads.
FAMILY = {"rows": 13, "random_padding": False, "learning_rate": 0.05}
# 13 questions are no multiple of 8; 3 are fewer than one step has rows, so that one process gets fillers alone.
# In a window of two small batches questions wait for others, and not for all of them.
JOBS = [
    {"name": "uneven", "rows": 13, "per_device_eval_batch_size": 2, "eval_window": 2},
    {"name": "few", "rows": 3, "generation_num_beams": 2},
    {"name": "wide", "rows": 13, "wide": True},
    {"name": "still", "rows": 13, "learning_rate": 0.0},
    {"name": "stream", "rows": 13, "stream": True, "wide": True, "max_steps": 8, "dataloader_num_workers": 2},
    {"name": "florence2", "family": "florence2", **FAMILY},
    {"name": "qwen2_5_vl", "family": "qwen2_5_vl", **FAMILY},
]


def without_times(metrics: dict) -> dict:
    return {key: value for key, value in metrics.items() if not key.endswith(("_runtime", "_per_second"))}


def test_two_processes_do_what_one_does(tmp_path: Path):
    for processes, accumulation in ((1, 2), (2, 1)):
        jobs = [
            {**COMMON, "per_device_train_batch_size": 4, "gradient_accumulation_steps": accumulation, **job}
            for job in JOBS
        ]
        run(
            [*launcher(processes), DRIVER, str(tmp_path / str(processes)), *map(json.dumps, jobs)],
            timeout=300,
        )
    for job in JOBS:
        name, rows = job["name"], job["rows"]
        one, two = (tmp_path / str(n) / name for n in (1, 2))
        results = [json.loads((folder / "result-0.json").read_text()) for folder in (one, two)]
        other_rank = json.loads((two / "result-1.json").read_text())
        assert [r["num_processes"] for r in (*results, other_rank)] == [1, 2, 2]

        tensors = [torch.load(folder / "tensors.pt", weights_only=True) for folder in (one, two)]
        assert len(tensors[0]["gradients"]) == len(tensors[1]["gradients"]) == 4 * -(-rows // 8)
        for a, b in zip(tensors[0]["gradients"], tensors[1]["gradients"], strict=True):
            assert relative_l2(b, a) <= 1e-6
        flat = [torch.cat([weight.double().flatten() for weight in t["weights"].values()]) for t in tensors]
        assert relative_l2(flat[1], flat[0]) <= 1e-6

        # Weights differ by rounding from the first step on, and so do the losses; answers and scores do not. Where the
        # weights stay as they are, every number of an evaluation is the same to the last bit.
        losses = [[entry["loss"] for entry in result["history"] if "loss" in entry] for result in results]
        assert losses[1] == pytest.approx(losses[0], rel=1e-6)
        assert results[1]["training_loss"] == pytest.approx(results[0]["training_loss"], rel=1e-6)
        metrics = [without_times(result["metrics"]) for result in (*results, other_rank)]
        assert metrics[1] == metrics[2]
        tolerance = 0.0 if name == "still" else 1e-6
        assert metrics[1] == {**metrics[0], "eval_loss": pytest.approx(metrics[0]["eval_loss"], rel=tolerance, abs=0)}
        if name in ("uneven", "few", "wide"):
            assert metrics[1]["eval_relaxed_accuracy"] > 0
        assert metrics[1]["eval_n_human"] + metrics[1]["eval_n_augmented"] == rows

        questions = records(rows) if "family" in job else drawn_charts().select(range(rows))
        answers = [record["answer"] for record in questions]
        assert results[0]["references"] == results[1]["references"] == other_rank["references"] == answers
        assert results[0]["predictions"] == results[1]["predictions"] == other_rank["predictions"]
        files = [read_predictions(f / "predictions" / f"eval-step-{4 * -(-rows // 8)}.jsonl") for f in (one, two)]
        assert files[0] == files[1]
        assert [row["index"] for row in files[0]] == list(range(rows))
