"""The resume test of the suite at length: 3 epochs of real charts, killed (-9) in the second, resumed, compared.

    python -m tests.drivers.long_resume FOLDER     # needs ../shared/chartqa; about 8 minutes on 2 cores

On one process and on two, 324 steps each: dropout, drop path, random padding, two workers, an evaluation and a
checkpoint every 20 steps.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from tests.support.common import ROOT
from tests.support.launching import as_command_line, last_step, report, save_tiny
from tests.training.test_resume import DROPOUT, SETTINGS, kill_and_resume

QUESTIONS = 863
EVERY = {"logging_steps": 10, "eval_steps": 20, "save_steps": 20, "eval_subset": 40, "load_best_model_at_end": True}


def main(folder: Path) -> None:
    charts = ROOT.parent / "shared" / "chartqa"
    settings = {
        **SETTINGS,
        **EVERY,
        "model_name_or_path": save_tiny(folder / "tiny", **DROPOUT),
        "dataset_name": charts,
        "train_split": "test",
        "eval_split": "test[:100]",
        "num_train_epochs": 3,
        "per_device_train_batch_size": 4,
    }
    for processes in (1, 2):
        accumulation = {"gradient_accumulation_steps": 2 // processes}
        place = folder / f"{processes}-process"
        place.mkdir()
        step = kill_and_resume(place, {**settings, **accumulation}, processes, steps_per_epoch=-(-QUESTIONS // 8))
        print(f"--num_processes {processes}", *as_command_line({**settings, **accumulation}))
        print(f"killed with -9, resumed from step {step}; steps in all:", last_step(place / "broken").name)
        for run in ("unbroken", "broken"):
            last = last_step(place / run)
            loss = json.loads((last / "trainer_state.json").read_text())["log_history"][-2]
            digest = hashlib.sha256((last / "model.safetensors").read_bytes()).hexdigest()
            scores = {key: report(place / run)[key] for key in ("train_loss", "eval_loss", "eval_relaxed_accuracy")}
            print(f"{run:8s} {last.name} sha256 {digest[:32]} step {loss['step']} {scores}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
