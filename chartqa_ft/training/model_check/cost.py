"""Line 9: what a training step costs, and how many questions fit into a batch."""

from __future__ import annotations

import math
import os
import tempfile
from typing import Any

import torch

from ..preflight.measuring import measure_step
from .gradients import fresh_gradients, trainer_of
from .report import CheckLine
from .subject import Subject
from .untouched import untouched

__all__ = ["check_cost"]

_NAME = "cost"
_USABLE = 0.92
"""Share of the memory that a batch may fill: the rest goes to fragments, libraries and other programs."""
_STATES = 2
"""States of AdamW per trainable weight, in its dtype."""


def check_cost(subject: Subject) -> CheckLine:
    """Measure a step of one question and one of several, and extrapolate to the largest batch that fits.

    The line fails if the loss or a gradient is not finite, or if no batch fits.
    """
    rows = list(subject.examples)
    steps = {}
    with tempfile.TemporaryDirectory() as folder, untouched(subject.model):
        trainer = trainer_of(subject, rows, folder)
        collate = trainer.data_collator
        for count in (1, len(rows)) if len(rows) > 1 else (1,):
            batch = collate(rows[:count])
            steps[count] = measure_step(trainer, batch, read_seconds=0.0, steps=None)
    saved = {count: _saved_bytes(subject, count) for count in steps}
    counts = sorted(steps)
    last = steps[counts[-1]]
    weights = sum(weight.numel() * weight.element_size() for weight in subject.model.parameters())
    trained = sum(w.numel() * w.element_size() for w in subject.model.parameters() if w.requires_grad)
    per_row = max((saved[counts[-1]] - saved[1]) / max(counts[-1] - 1, 1), 1.0) if len(counts) > 1 else saved[1]
    fixed = weights + trained * (1 + _STATES)
    total = last.total_bytes or _memory_of_machine()
    if subject.device.type == "cuda" and len(counts) > 1 and last.peak_bytes and steps[1].peak_bytes:
        per_row = max((last.peak_bytes - steps[1].peak_bytes) / (counts[-1] - 1), 1.0)
        fixed = max(steps[1].peak_bytes - per_row, weights + trained) + trained * _STATES
    largest = math.floor((_USABLE * total - fixed) / per_row) if total else None
    finite = _is_finite(subject)
    tokens = subject.adapter.image_tokens(subject.collate(rows, answers=False))
    seconds = last.compute_seconds
    words = [f"{counts[-1]} questions a step: {seconds:.2g} s without the optimizer"]
    if last.peak_bytes:
        words.append(f"peak {_gib(last.peak_bytes)} of {_gib(total)}")
    words.append(f"activations of a question {_gib(per_row)}, weights with gradients and AdamW {_gib(fixed)}")
    if tokens:
        words.append(f"{_range(tokens)} image tokens a chart")
    if largest is not None and largest >= 1:
        words.append(f"about {largest:,} questions fit into a batch (extrapolated)")
    wrong = []
    if not finite:
        wrong.append("the loss or a gradient is NaN or infinite: train in bfloat16 or float32 instead of float16")
    if largest is not None and largest < 1:
        wrong.append(
            f"not even one question fits: weights, gradients and AdamW take {_gib(fixed)} of {_gib(total)}. Train "
            "LoRA weights, or load the base model in 16 or 4 bits"
        )
    return CheckLine(
        _NAME,
        "fail" if wrong else "pass",
        number=seconds,
        words="\n".join([*wrong, "; ".join(words)]),
        details={
            "seconds": seconds,
            "rows": counts[-1],
            "peak_bytes": last.peak_bytes,
            "total_bytes": total,
            "bytes_per_row": per_row,
            "image_tokens": tokens,
            "largest_batch": largest,
            "finite": finite,
        },
        unit="s",
    )


def _saved_bytes(subject: Subject, count: int) -> int:
    """Return the bytes that autograd keeps for the backward pass of some questions, without the weights."""
    weights = {weight.untyped_storage().data_ptr() for weight in subject.model.parameters()}
    seen: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch = subject.collate(list(subject.examples)[:count])
    subject.model.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        losses, outputs = subject.loss(batch)
    del losses, outputs
    return sum(seen.values())


def _is_finite(subject: Subject) -> bool:
    """Return whether the loss of a question and all its gradients are finite."""
    subject.model.train()
    with fresh_gradients(subject.model):
        losses, _ = subject.loss(subject.collate(list(subject.examples)[:1]))
        losses.mean().backward()
        return bool(losses.isfinite().all()) and all(
            bool(weight.grad.isfinite().all()) for weight in subject.model.parameters() if weight.grad is not None
        )


def _memory_of_machine() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _gib(size: float) -> str:
    return f"{size / 2**30:.3g} GiB" if size >= 2**28 else f"{size / 2**20:.3g} MiB"


def _range(counts: list[Any]) -> str:
    return f"{min(counts):,}" if len(set(counts)) == 1 else f"{min(counts):,} to {max(counts):,}"
