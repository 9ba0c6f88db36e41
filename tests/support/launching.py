"""Start the examples as a user does: models and data on disk, running scripts, and reading their results."""

from __future__ import annotations

import importlib
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from chartqa_ft import relaxed_accuracy
from chartqa_ft.metrics.predictions import FIELDS, read_predictions
from chartqa_ft.models.tiny import tiny_unichart
from chartqa_ft.training.running_loss import last_checkpoint

from .common import ROOT, launcher, run
from .families import build
from .prepared import Ranks, run_prepared

FINETUNE = ROOT / "examples" / "finetune_unichart.py"
LORA = ROOT / "examples" / "finetune_vlm_lora.py"
OWN = ROOT / "examples" / "finetune_own_data.py"
EVALUATE = ROOT / "examples" / "evaluate_checkpoint.py"
TIMEOUT = 400
"""Seconds after which a started script counts as hanging."""
QUICK = {
    "optim": "sgd",
    "learning_rate": 0.5,
    "warmup_steps": 0,
    "max_steps": 4,
    "eval_steps": 2,
    "save_steps": 2,
    "logging_steps": 1,
    "generation_max_new_tokens": 5,
    "use_cpu": True,
    "disable_tqdm": True,
}
"""Arguments of a short training run."""


def example(path: Path) -> ModuleType:
    """The module of an example, for what needs no process of its own."""
    return importlib.import_module(f"chartqa_ft.scripts.{path.stem}")


def save_tiny(folder: Path, **sizes: Any) -> Path:
    """The tiny test model and its processor as a checkpoint."""
    model, processor = tiny_unichart("test", **sizes)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def save_family(name: str, folder: Path) -> Path:
    """The tiny model of a family and its processor as a checkpoint."""
    model, processor = build(name)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def write_original_layout(folder: Path, **splits: Any) -> Path:
    """Records as the folder that ChartQA comes in: per split `png/*.png` and a JSON file of each source."""
    for split, records in splits.items():
        (folder / split / "png").mkdir(parents=True)
        questions: dict[str, list[dict[str, str]]] = {"human": [], "augmented": []}
        for record in records:
            name = f"{record['chart_id']}.png"
            record["image"].save(folder / split / "png" / name)
            questions[record["source"]].append(
                {"imgname": name, "query": record["question"], "label": record["answer"]}
            )
        for source, rows in questions.items():
            (folder / split / f"{split}_{source}.json").write_text(json.dumps(rows), encoding="utf-8")
    return folder


def as_command_line(settings: dict[str, Any]) -> list[str]:
    return [f"--{key}={value}" for key, value in settings.items()]


def start(script: Path, settings: dict[str, Any], processes: int = 1) -> subprocess.CompletedProcess:
    """`accelerate launch script --key=value ...` to its end; fails the test with its output when it fails."""
    return run([*launcher(processes), str(script), *as_command_line(settings)], timeout=TIMEOUT)


def start_python(script: Path, settings: dict[str, Any]) -> subprocess.CompletedProcess:
    """As `start`, without launcher."""
    return run([sys.executable, str(script), *as_command_line(settings)], timeout=TIMEOUT)


def start_prepared(script: Path, settings: dict[str, Any], processes: int = 1) -> subprocess.CompletedProcess:
    """As `start`, without launcher and imports."""
    return run_prepared([script, *as_command_line(settings)], processes, timeout=TIMEOUT)


def start_and_kill(
    script: Path, settings: dict[str, Any], processes: int, *, after_step: int, log: Path
) -> tuple[str, int]:
    """Start training, kill all its processes (SIGKILL) once a whole checkpoint later than `after_step` exists.

    Returns:
        What it had written to stdout and stderr, and the step of the last whole checkpoint.
    """
    output = Path(settings["output_dir"])
    with open(log, "w") as file:
        ranks = Ranks([script, *as_command_line(settings)], processes, stdout=file, stderr=file)
        try:
            deadline = time.monotonic() + TIMEOUT
            while not any(step > after_step for step in whole_checkpoints(output)):
                codes = [rank.poll() for rank in ranks.started]
                assert codes == [None] * processes, f"ended before it was killed:\n{log.read_text()[-4000:]}"
                assert time.monotonic() < deadline, f"no checkpoint after {after_step}:\n{log.read_text()[-4000:]}"
                time.sleep(0.005)
        finally:
            ranks.kill()
    assert [rank.returncode for rank in ranks.started] == [-signal.SIGKILL] * processes
    return log.read_text(), int(last_checkpoint(output).rpartition("-")[2])


def whole_checkpoints(output: Path) -> list[int]:
    return [int(file.parent.name.rpartition("-")[2]) for file in output.glob("checkpoint-*/chartqa_state.json")]


def last_step(output: Path) -> Path:
    """The checkpoint of the last step that was saved."""
    return max(output.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))


def rows_by_step(text: str) -> dict[tuple[int, int], list[str]]:
    """(optimizer step, rank) -> the row lists of its batches in order, from the log at level debug."""
    found: dict[tuple[int, int], list[str]] = {}
    for step, rank, rows in re.findall(r"step (\d+) rank (\d+) rows \[([-\d, ]+)\]", text):
        found.setdefault((int(step), int(rank)), []).append(rows)
    return found


def report(output: Path) -> dict[str, Any]:
    return json.loads((output / "metrics.json").read_text(encoding="utf-8"))


def answers(output: Path) -> list[dict[str, Any]]:
    rows = read_predictions(output / "predictions.jsonl")
    assert all(tuple(row) == FIELDS for row in rows)
    return rows


def without_times(metrics: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for key, value in metrics.items()
        if not key.endswith(("_runtime", "_per_second", "_preparation_time"))
    }


def saved(folder: Path, file: str) -> dict[str, Any]:
    return json.loads((folder / file).read_text(encoding="utf-8"))


def check_against_predictions(
    metrics: dict[str, Any], rows: list[dict[str, Any]], variant: str = "pix2struct"
) -> None:
    """The metrics are those of the predictions file."""
    again = relaxed_accuracy(
        predictions=[row["prediction"] for row in rows],
        references=[row["answer"] for row in rows],
        sources=[row["source"] for row in rows],
        variant=variant,
    )
    assert {key: metrics[f"eval_{key}"] for key in again} == again
    assert sum(row["correct"] for row in rows) / len(rows) == metrics["eval_relaxed_accuracy"]


def complaints(text: str) -> list[str]:
    """Lines of a run's output with a failure or a deprecation that its user cannot fix."""
    words = ("DeprecationWarning", "FutureWarning", "Traceback (most recent call last)", "missing keys")
    return [line for line in text.splitlines() if any(word in line for word in words)]
