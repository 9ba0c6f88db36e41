"""Every family on the device: losses against the CPU, answers in batches against single ones, equal updates."""

from __future__ import annotations

import copy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import nn

from chartqa_ft.training.losses import AnswerLoss

from ...support.common import Gradients
from ...support.families import records
from ...support.family_cases import ready, run_of
from .report import PartResult
from .setting import Setting, different, relative

PRECISIONS = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""Dtype -> largest relative difference of a loss from that in float32 on the CPU."""
SPLITS = ((4, 1), (2, 2), (1, 4))
NEW_TOKENS = 8


def losses_and_answers(setting: Setting, part: PartResult, name: str) -> None:
    """Compare one family's loss with that of the CPU, and its answers in a batch with those of each row alone."""
    model, adapter = ready(name)
    rows = records(2 if setting.tiny else 8)
    batch = adapter.encode(rows)
    expected = mean_loss(model, adapter, batch)
    for dtype, limit in PRECISIONS.items():
        short = str(dtype).removeprefix("torch.")
        if setting.tiny and dtype is torch.float16:
            continue  # the convolutions of some families are not implemented on CPUs
        moved = copy.deepcopy(model).to(setting.device, dtype)
        loss = mean_loss(moved, adapter, setting.to_device(batch))
        part.check(f"{name}, {short}: loss against the CPU", relative(loss, expected), limit)
        together = answers(setting, moved, adapter, rows)
        alone = [answers(setting, moved, adapter, [row])[0] for row in rows]
        wrong = different(together, alone)
        if dtype is torch.float32:
            part.check(f"{name}: answers of a batch that differ from single ones", wrong, 0)
        elif wrong:
            part.note(f"{name}, {short}: {wrong} of {len(rows)} answers of a batch differ from single ones (rounding)")


def mean_loss(model: nn.Module, adapter: Any, batch: dict[str, Any]) -> torch.Tensor:
    """The mean loss of the answer tokens of a batch, as the trainer computes it."""
    args = _NoArguments()
    with torch.no_grad():
        return AnswerLoss(adapter, args)(model, batch)[0].mean()  # type: ignore[arg-type]


class _NoArguments(NamedTuple):
    """The arguments that `AnswerLoss` reads."""

    label_smoothing_factor: float = 0.0
    torch_compile: bool = False


def answers(setting: Setting, model: nn.Module, adapter: Any, rows: list[dict[str, Any]]) -> list[list[int]]:
    batch = setting.to_device(adapter.encode(rows, with_answers=False))
    return adapter.generate(model, batch, max_new_tokens=4 if setting.tiny else NEW_TOKENS).tolist()


class Update(NamedTuple):
    """What one optimizer step computes."""

    loss: float
    gradient: torch.Tensor
    weights: torch.Tensor
    """All weights after the step, as one vector."""


def update_of(setting: Setting, name: str, n: int = 4, *, way: Any = None, **changes: Any) -> Update:
    """Train one step of a family's tiny model in float32 (unless `changes` say otherwise).

    Args:
        way: is called with the model before the training.
        changes: further training arguments.
    """
    model, adapter = ready(name)
    model.to(setting.device)
    if way is not None:
        way(model)
    capture = Gradients()
    settings: dict[str, Any] = {"use_cpu": not setting.cuda, "bf16": False, "fp16": False, "max_grad_norm": 1e9}
    with TemporaryDirectory() as folder:
        run = run_of(Path(folder), model, adapter, records(n), callbacks=[capture], **{**settings, **changes})
        run.train()
    weights = torch.cat([weight.detach().double().flatten() for weight in model.parameters()])
    if capture.vector is None:
        raise RuntimeError(f"{name} took no optimizer step")
    return Update(run.state.log_history[0]["loss"], capture.vector.cpu(), weights.cpu())


def equal_updates(setting: Setting, part: PartResult, name: str) -> None:
    """Compare the gradients of one family's step however its four rows are split into batches."""
    first, *others = (
        update_of(setting, name, per_device_train_batch_size=size, gradient_accumulation_steps=steps)
        for size, steps in SPLITS
    )
    worst = max(relative(other.gradient, first.gradient) for other in others)
    part.check(f"{name}: gradients of 4x1, 2x2 and 1x4", worst, 1e-4)
