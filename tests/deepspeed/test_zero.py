"""Two ranks of DeepSpeed, which share one model, do what one process does without it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from chartqa_ft import read_predictions

from ..support.common import ROOT, launcher, relative_l2, run

DRIVER = str(ROOT / "tests" / "deepspeed" / "driver.py")
TIMEOUT = 300
"""Seconds after which ranks count as waiting for each other."""
JOB = {
    "optim": "sgd",
    "learning_rate": 0.5,
    "max_steps": 4,
    "save_strategy": "steps",
    "save_steps": 2,
    # Questions wait for others with prompts of their length: ranks then have different numbers of calls.
    "per_device_eval_batch_size": 2,
    "eval_window": 2,
}


def start(folder: Path, processes: int, **job: object) -> list[dict]:
    """Run the driver to its end and return what every rank wrote."""
    folder.mkdir(exist_ok=True)
    job = {**JOB, "per_device_train_batch_size": 4 // processes, **job}
    run([*launcher(processes), DRIVER, str(folder), json.dumps(job)], timeout=TIMEOUT)
    return [json.loads((folder / f"result-{rank}.json").read_text()) for rank in range(processes)]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    [file] = folder.glob("*model.safetensors")
    return load_file(file)


def distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() >= b.keys() > set()
    for name in a.keys() - b.keys():  # upstream also writes tied weights when DeepSpeed gathers them
        assert any(torch.equal(a[name], a[other]) for other in b)
    flat = [torch.cat([tensors[name].double().flatten() for name in sorted(b)]) for tensors in (a, b)]
    return relative_l2(*flat)


@pytest.fixture(scope="module", params=[False, True], ids=["full", "lora"])
def plain(request, tmp_path_factory) -> tuple[bool, Path, dict]:
    """Whether LoRA is trained, the folder of one process without DeepSpeed, and what it wrote."""
    folder = tmp_path_factory.mktemp("plain")
    [result] = start(folder, 1, stage=0, lora=request.param)
    return request.param, folder, result


@pytest.mark.parametrize("stage", [2, 3])
def test_it_trains_evaluates_saves_resumes_and_pushes(plain, stage, tmp_path):
    lora, folder, expected = plain
    first, second = start(tmp_path, 2, stage=stage, lora=lora)
    assert first["processes"] == 2
    assert first["predictions"] == second["predictions"] == expected["predictions"]
    assert first["losses"] == pytest.approx(expected["losses"], rel=1e-5)
    for key in ("eval_loss", "eval_relaxed_accuracy", "eval_n_human", "eval_n_augmented"):
        assert first["metrics"][key] == second["metrics"][key] == pytest.approx(expected["metrics"][key], rel=1e-5)
    assert distance(weights(tmp_path / "out"), weights(folder / "out")) < 1e-5

    # One file of answers, one push, one card.
    rows = read_predictions(tmp_path / "out" / "predictions" / "eval-step-4.jsonl")
    assert rows == read_predictions(folder / "out" / "predictions" / "eval-step-4.jsonl")
    assert [len(first["pushes"]), len(second["pushes"])] == [1, 0]
    assert first["pushes"] == expected["pushes"]
    assert "README.md" in first["pushes"][0]

    resumed = tmp_path / "resumed"
    shutil.copytree(tmp_path / "out", resumed / "out", ignore=shutil.ignore_patterns("checkpoint-4"))
    again = start(resumed, 2, stage=stage, lora=lora, resume=True)[0]
    assert again["losses"] == first["losses"]
    assert again["predictions"] == first["predictions"]
    assert distance(weights(resumed / "out"), weights(tmp_path / "out")) == 0.0


def test_the_operator_was_built_before():
    # Otherwise every rank would compile it, and one of them wait for the others' lock.
    assert list(Path(os.environ["TORCH_EXTENSIONS_DIR"]).rglob("deepspeed_shm_comm.so"))
