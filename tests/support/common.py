"""What several test modules share: a tiny model, drawn charts, a trainer without surprises, captured gradients."""

from __future__ import annotations

import contextlib
import copy
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import TrainerCallback

from chartqa_ft.data.synthetic.questions import synthetic_chartqa
from chartqa_ft.models.tiny import tiny_unichart
from chartqa_ft.training.arguments import ChartQATrainingArguments
from chartqa_ft.training.trainer import ChartQATrainer

ROOT = Path(__file__).resolve().parents[2]
torch.set_num_threads(1)


@cache
def drawn_charts(n_charts: int = 8, seed: int = 5):
    """Drawn charts as a data set with two or three questions per chart, so that batches mix charts."""
    dataset = synthetic_chartqa(n_charts, seed=seed)
    seen: dict[str, int] = {}
    rows = []
    for index, chart in enumerate(dataset["chart_id"]):
        seen[chart] = seen.get(chart, 0) + 1
        if seen[chart] <= 2 + len(seen) % 2:
            rows.append(index)
    return dataset.select(rows)


@cache
def _tiny(sizes: tuple):
    return tiny_unichart("test", **dict(sizes))


def tiny(**sizes: Any):
    """Fresh copies of the tiny test model and its processor. Small weights keep float32 rounding small."""
    return copy.deepcopy(_tiny(tuple(sorted({"init_std": 0.02, **sizes}.items()))))


def arguments(folder: Path | str, **changes: Any) -> ChartQATrainingArguments:
    """Arguments of a short run on the CPU: one optimizer step unless told otherwise."""
    settings = {
        "max_steps": 1,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "warmup_steps": 0,
        "max_grad_norm": 0.0,
        "random_padding": False,
        "generation_num_beams": 1,
        "generation_max_new_tokens": 6,
        "use_cpu": True,
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
        "report_to": "none",
    }
    return ChartQATrainingArguments(output_dir=str(folder), **{**settings, **changes})


class Items(torch.utils.data.Dataset):
    """A list as a map-style dataset of torch."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, row):
        return self.items[row]


class Gradients(TrainerCallback):
    """Keeps the gradients of the last optimizer step, as one float64 vector."""

    def __init__(self):
        self.vector: torch.Tensor | None = None

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        parts = [p.grad.detach().double().flatten() for p in model.parameters() if p.grad is not None]
        self.vector = torch.cat(parts)


def trainer(folder: Path | str, model=None, records=None, **changes: Any) -> ChartQATrainer:
    """A trainer of the tiny model on drawn charts; `changes` go to the arguments or to the trainer."""
    own = {
        key: changes.pop(key)
        for key in ("eval_dataset", "callbacks", "adapter", "compute_metrics", "peft_config")
        if key in changes
    }
    fresh, processor = tiny()
    return ChartQATrainer(
        fresh if model is None else model,
        arguments(folder, **changes),
        train_dataset=drawn_charts() if records is None else records,
        processing_class=own["adapter"].processor if "adapter" in own else processor,
        **own,
    )


def scored_trainer(folder: Path, scores: Iterable[float], *, metric: str, **changes: Any) -> ChartQATrainer:
    """A trainer whose evaluations, one after each step, find these scores; it loads the best weights at the end."""
    values = iter(scores)
    settings: dict[str, Any] = {
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_strategy": "steps",
        "load_best_model_at_end": True,
        "compute_metrics": lambda prediction: {metric: next(values)},
    }
    return trainer(folder, eval_dataset=drawn_charts().select(range(3)), **{**settings, **changes})


def relative_l2(a: torch.Tensor, b: torch.Tensor) -> float:
    """|a - b| / |b|."""
    return float((a - b).norm() / b.norm())


def checkpointing_enable(model):
    """The method of a model that turns activation checkpointing on, which was renamed in transformers 5.23."""
    return getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable


def launcher(processes: int) -> list[str]:
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_cpu_threads_per_process", "1"]
    several = ["--multi_gpu", "--num_processes", str(processes), "--main_process_port", "0"]
    return command + (several if processes > 1 else ["--num_processes", "1"])


def run(command: list[str], *, timeout: float = 600, **kwargs: Any) -> subprocess.CompletedProcess:
    """Run a command to its end; fails the test with its output when it fails, or after `timeout` seconds."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env=environment(), **pipes, **kwargs) as started:
        try:
            output, errors = started.communicate(timeout=timeout)
            failure = f"ended with {started.returncode}" if started.returncode else ""
        except subprocess.TimeoutExpired:
            kill_all(started, show_stacks=True)  # subprocess.run would kill the launcher alone, and wait for its ranks
            output, errors = started.communicate()
            failure = f"did not end within {timeout} seconds"
    assert not failure, f"{' '.join(command)} {failure}\n{output[-3000:]}\n{errors[-6000:]}"
    return subprocess.CompletedProcess(command, started.returncode, output, errors)


def kill_all(launched: subprocess.Popen, show_stacks: bool = False) -> None:
    """Kill a launcher with all its descendants: torchrun gives every rank a session of its own.

    Args:
        show_stacks: let each write to stderr what its threads are doing before.
    """
    family = [*psutil.Process(launched.pid).children(recursive=True), psutil.Process(launched.pid)]
    if show_stacks:
        for process in family[::-1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGABRT)
        psutil.wait_procs(family, timeout=10)
    for process in family[::-1]:
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    launched.wait(timeout=60)
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive


def environment() -> dict[str, str]:
    own = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1"}
    return {**os.environ, **own}
