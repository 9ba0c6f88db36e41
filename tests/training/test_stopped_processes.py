"""What one of two processes meets alone, a signal or a NaN, stops both at the same step."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from chartqa_ft.training.checkpoints import find_damage, last_checkpoint

from ..support.common import ROOT, trainer
from ..support.prepared import Ranks, run_prepared

DRIVER = ROOT / "tests" / "drivers" / "stop_training.py"


def told(folder: Path, how: str) -> list[str]:
    return [(folder / f"{how}-{rank}.txt").read_text() for rank in (0, 1)]


def test_a_signal_to_one_process_saves_and_stops_both(tmp_path):
    with open(tmp_path / "stdout", "w") as stdout, open(tmp_path / "stderr", "w") as stderr:
        ranks = Ranks([DRIVER, tmp_path, "signal"], 2, stdout=stdout, stderr=stderr)
        assert [rank.wait(300) for rank in ranks.started] == [-signal.SIGTERM] * 2
    assert not list(tmp_path.glob("signal-*.txt")), "both died of the signal"
    newest = tmp_path / "out" / "checkpoint-3"
    assert f"SIGTERM: training stopped after step 3, which is saved in {newest}" in (tmp_path / "stderr").read_text()
    assert last_checkpoint(tmp_path / "out") == str(newest)
    (newest / "rng_state_1.pth").rename(tmp_path / "rng")
    assert find_damage(newest) == "is damaged: rng_state_1.pth is missing"
    (tmp_path / "rng").rename(newest / "rng_state_1.pth")
    with pytest.raises(ValueError, match=r"rng_state\.pth.*saved by 2 processes, and there are 1"):
        trainer(tmp_path / "out").train(resume_from_checkpoint=True)
    run_prepared([DRIVER, tmp_path, "resume"], 2, timeout=300)
    assert told(tmp_path, "resume") == ["2 ended at step 5"] * 2
    run_prepared([DRIVER, tmp_path / "nan", "nan"], 2, timeout=300)
    for rank, text in enumerate(told(tmp_path / "nan", "nan")):
        assert text.startswith("2 the training has diverged at step 3: the gradient norm is nan")
        assert ("Rows of the batch with that loss" in text) == (rank == 1)
    assert last_checkpoint(tmp_path / "nan" / "out") == str(tmp_path / "nan" / "out" / "checkpoint-2")
    # Up to the step of the signal, both runs are the same.
    weights = [load_file(tmp_path / name / "checkpoint-2" / "model.safetensors") for name in ("out", "nan/out")]
    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())
