"""Measure the time and the memory of one optimizer step without making it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import nn

from ..checks.hooks import overridden
from ..durations import end_of_run
from .unchanged import kept_model, kept_random_states

__all__ = ["MeasuredStep", "measure_step", "refuse_measuring"]

_SHORT = 5.0
"""Seconds of a first pass up to which a second one is measured: the first one includes what happens once."""


@dataclass(frozen=True)
class MeasuredStep:
    """The cost of one optimizer step, without the update of the weights by the optimizer."""

    rows: int
    """Questions of the measured batch."""
    read_seconds: float
    """Time to read and encode the batch."""
    compute_seconds: float
    """Time of its forward and backward pass."""
    batches: int
    """Batches of one step on one process (`gradient_accumulation_steps`)."""
    steps: int | None
    """Steps of the run, if known."""
    reads_beside: bool
    """Whether worker processes read batches in the meantime."""
    peak_bytes: int | None
    """Largest memory in use during the passes: of the GPU, or of the process on a CPU. `None` if it is not known."""
    total_bytes: int | None
    """Memory of the GPU, or of the machine."""

    @property
    def step_seconds(self) -> float:
        """Time of an optimizer step."""
        read, compute = self.read_seconds, self.compute_seconds
        return self.batches * (max(read, compute) if self.reads_beside else read + compute)

    @property
    def run_seconds(self) -> float | None:
        """Time of all steps, without evaluations and saves; `None` for an unknown number of steps."""
        return None if self.steps is None else self.steps * self.step_seconds

    def __str__(self) -> str:
        text = (
            f"a step takes {self.step_seconds:.3g} s ({self.batches} x {self.rows} questions on this process: "
            f"{self.read_seconds:.2g} s to read a batch, {self.compute_seconds:.2g} s to compute its gradients)"
        )
        if self.peak_bytes is not None:
            of = f" of {self.total_bytes / 2**30:.1f}" if self.total_bytes else ""
            text += f" and {self.peak_bytes / 2**30:.1f}{of} GiB of memory, without the optimizer's states"
        return text

    def end(self, now: datetime) -> str | None:
        """Return when the run would end if it began `now`, as text; `None` for an unknown number of steps."""
        if self.steps is None:
            return None
        return end_of_run(self.steps, self.step_seconds, now)


def refuse_measuring(trainer: Any) -> str | None:
    """Return why a step cannot be measured without changing the run or its numbers, `None` if it can."""
    if trainer.own_loss or overridden(trainer, "training_step") is not None:
        return "this subclass of the trainer computes a step in its own way"
    if trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled:
        return "DeepSpeed and FSDP split the model only when the training begins"
    if trainer.args.torch_compile:
        return "torch_compile compiles the model when the training begins"
    hooks = [name for name, weight in trainer.model.named_parameters() if _has_gradient_hooks(weight)]
    if hooks:
        return f"{hooks[0]} has a hook on its gradient, which could update it"
    return None


def _has_gradient_hooks(weight: torch.Tensor) -> bool:
    return bool(getattr(weight, "_post_accumulate_grad_hooks", None) or getattr(weight, "_backward_hooks", None))


def measure_step(trainer: Any, batch: Mapping[str, Any], *, read_seconds: float, steps: int | None) -> MeasuredStep:
    """Compute the gradients of one batch, and measure time and memory.

    Weights, gradients, buffers, hooks, the optimizer and all random states are as before: a training afterwards ends
    with the same weights, bit for bit. Nothing is copied but the model's buffers.

    Args:
        trainer: a `ChartQATrainer` for which `refuse_measuring` returns `None`.
        batch: a training batch of its collator.
        read_seconds: how long it took to read the batch.
        steps: steps of the run, if known.

    Raises:
        torch.OutOfMemoryError: the batch does not fit into the memory of the GPU.
    """
    args, model = trainer.args, trainer.model
    device = args.device
    with kept_random_states(), kept_model(model):
        model.train()
        _checkpoint_activations(model, args)
        with _peak_memory(device) as memory:
            seconds = _timed_pass(trainer, batch, device)
            if seconds <= _SHORT:
                seconds = _timed_pass(trainer, batch, device)
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return MeasuredStep(
        rows=len(batch["rows"]),
        read_seconds=read_seconds,
        compute_seconds=seconds,
        batches=args.gradient_accumulation_steps,
        steps=steps,
        reads_beside=args.dataloader_num_workers > 0,
        peak_bytes=memory.get("peak"),
        total_bytes=memory.get("total"),
    )


def _timed_pass(trainer: Any, batch: Mapping[str, Any], device: torch.device) -> float:
    _wait(device)
    began = time.perf_counter()
    inputs = send_to_device(dict(batch), device)
    with trainer.accelerator.autocast():
        losses, _ = trainer.answer_loss(trainer.model, inputs)
    (losses.sum() / max(losses.numel(), 1)).backward()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _checkpoint_activations(model: nn.Module, args: Any) -> None:
    """Turn activation checkpointing on as `Trainer` does when a training begins; `kept_model` turns it off again."""
    wanted = args.activation_checkpointing or args.gradient_checkpointing
    if not wanted or not getattr(model, "supports_gradient_checkpointing", False):
        return
    settings = dict(args.activation_checkpointing_kwargs or args.gradient_checkpointing_kwargs or {})
    if hasattr(model, "activation_checkpointing_enable"):
        spread = {"every_n_layers": settings.pop("every_n_layers", 1), "offload": settings.pop("offload", False)}
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=settings or None, **spread)
    else:  # before transformers 5.23
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=settings or None)


@contextmanager
def _peak_memory(device: torch.device) -> Iterator[dict[str, int]]:
    """Put the largest memory in use within the block, in bytes, and what there is into the dict that it yields."""
    found: dict[str, int] = {}
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield found
        found.update(
            peak=torch.cuda.max_memory_allocated(device), total=torch.cuda.get_device_properties(device).total_memory
        )
        return
    if device.type != "cpu" or not os.path.exists("/proc/self/statm"):
        yield found
        return
    found.update(total=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), peak=_resident())
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.01):
            found["peak"] = max(found["peak"], _resident())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        ended.set()
        watcher.join()


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
