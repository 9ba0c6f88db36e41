"""`BadSteps`: a run whose loss, gradients or weights are NaN or infinite stops, and names the step and its rows."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback

from .arguments import ChartQATrainingArguments
from .checkpoints import last_checkpoint
from .running_loss import RunningLoss

logger = logging.getLogger(__name__)

__all__ = ["BadSteps", "DivergedError", "never_best", "spoil_gradients"]

_KEY = "bad_steps"
_SHOWN = 8


class DivergedError(ArithmeticError, ValueError):
    """The loss, the gradients or the weights of a training are NaN or infinite."""


@dataclass
class _Step:
    """What is known about one optimizer step on this rank."""

    number: int = 0
    batches: list[tuple[Sequence[Mapping[str, Any]], torch.Tensor]] = field(default_factory=list)
    norm: torch.Tensor | float | None = None
    ready: Any = None


class BadSteps(TrainerCallback):
    """Stops a run at the first optimizer step whose gradient norm is not finite.

    The norm is computed by every step anyway, over all ranks, and a loss that is not finite makes it NaN (see
    `spoil_gradients`). On a GPU its value
    is copied in the background and read one step later, or before anything is logged, evaluated or saved, so that no
    step waits for the device. With `max_bad_steps` above 0 it is read at once, because a step that is skipped must
    not reach the weights.

    Under fp16 the loss scaler skips steps whose gradients overflow, and those do not count. There only the logged
    loss is checked.

    Args:
        args: `max_bad_steps` is read.
        accelerator: the accelerator of the trainer.
        running_loss: the reported loss, from which skipped steps are left out.

    Raises:
        ValueError: `max_bad_steps` is negative, or DeepSpeed is used, which cannot skip a step.
    """

    def __init__(self, args: ChartQATrainingArguments, accelerator: Any, running_loss: RunningLoss) -> None:
        if args.max_bad_steps < 0:
            raise ValueError(f"max_bad_steps must be at least 0, got {args.max_bad_steps}")
        if args.max_bad_steps and args.uses_deepspeed:
            raise ValueError("max_bad_steps needs to skip an optimizer step, which DeepSpeed does not allow: use 0")
        self.args, self.accelerator, self.running_loss = args, accelerator, running_loss
        self._current = _Step()
        self._waiting: _Step | None = None

    # ------------------------------------------------------------------ what a step tells
    def add(self, rows: Sequence[Mapping[str, Any]], loss: torch.Tensor) -> None:
        """Keep the rows of a batch, as the collator describes them, and their loss (0-d)."""
        self._current.batches.append((rows, loss.detach()))

    def gradient_norm(self, norm: torch.Tensor | float | None, model: nn.Module, state: Any) -> None:
        """Take the gradient norm of an optimizer step, before the optimizer updates the weights.

        Args:
            norm: the norm over all ranks before clipping (0-d); `None` where it is not known.
            model: the model, whose gradients are dropped if the step is skipped.
            state: the state of the trainer.

        Raises:
            DivergedError: the norm of this step or of the one before is not finite.
        """
        self._resolve(model, state)
        if norm is None or getattr(self.accelerator, "scaler", None) is not None:
            return
        step, step.norm = self._current, norm.detach() if isinstance(norm, torch.Tensor) else norm
        self._waiting = step
        if isinstance(norm, torch.Tensor) and norm.device.type == "cuda" and self.args.max_bad_steps == 0:
            step.norm = torch.empty((), dtype=norm.dtype, pin_memory=True).copy_(norm.detach(), non_blocking=True)
            step.ready = torch.cuda.Event()
            step.ready.record()
        else:
            self._resolve(model, state)

    def _resolve(self, model: nn.Module | None, state: Any) -> None:
        """Decide about the last step whose norm has not been read."""
        step, self._waiting = self._waiting, None
        if step is None:
            return
        if step.ready is not None:
            step.ready.synchronize()
        norm = float(step.norm) if step.norm is not None else 0.0
        if math.isfinite(norm):
            return
        skipped = state.stateful_callbacks.get(_KEY, {}).get("count", 0)
        if model is None or skipped >= self.args.max_bad_steps:
            raise self._error(step, f"the gradient norm is {norm}", model if step is self._current else None)
        state.stateful_callbacks[_KEY] = {"count": skipped + 1}
        logger.warning(
            "step %d is skipped, since its gradient norm is %s (%d of max_bad_steps=%d). %s",
            step.number,
            norm,
            skipped + 1,
            self.args.max_bad_steps,
            _rows_text(step),
        )
        model.zero_grad(set_to_none=True)
        self.running_loss.discard_step()

    # ------------------------------------------------------------------ when it is decided
    def on_train_begin(self, args, state, control, **kwargs):
        self._current, self._waiting = _Step(), None

    def on_step_begin(self, args, state, control, **kwargs):
        self._current = _Step(number=state.global_step + 1)
        self.running_loss.begin_step()

    def on_step_end(self, args, state, control, **kwargs):
        if control.should_log or control.should_evaluate or control.should_save or control.should_training_stop:
            self._resolve(None, state)

    def on_epoch_end(self, args, state, control, **kwargs):
        self._resolve(None, state)

    def on_log(self, args, state, control, logs=None, **kwargs):
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            self._current.number = state.global_step
            raise self._error(self._current, f"the loss since the last log is {loss}", None)

    def on_train_end(self, args, state, control, model=None, **kwargs):
        self._resolve(None, state)
        self.check_weights(model, state.global_step)  # the last update is checked by no later step

    def check_weights(self, model: nn.Module, step: int) -> None:
        """Refuse to save weights that are not finite. Every rank must call it.

        Raises:
            DivergedError: a trained weight is NaN or infinite, or a buffer, such as a running mean, is NaN.
        """
        weights = [_local(parameter) for parameter in model.parameters() if parameter.requires_grad]
        finite = [weight.isfinite().all() for weight in weights if weight.numel()]
        finite += [~_local(buffer).isnan().any() for buffer in model.buffers() if buffer.is_floating_point()]
        finite = [flag.to(self.accelerator.device) for flag in finite]
        bad = (~torch.stack(finite)).any() if finite else torch.zeros((), dtype=torch.bool)
        if self.args.world_size > 1:
            bad = self.accelerator.reduce(bad.float().to(self.accelerator.device), reduction="sum") > 0
        if bool(bad):
            raise self._error(_Step(number=step), "weights are not finite", model)

    def _error(self, step: _Step, what: str, model: nn.Module | None) -> DivergedError:
        parts = [f"the training has diverged at step {step.number}: {what} (NaN or infinite)"]
        names = [] if model is None else _not_finite(model)
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            parts.append(f"Weights that are not finite: {', '.join(names[:3])}{more}")
        parts.append(_rows_text(step))
        try:
            last = last_checkpoint(self.args.output_dir)
        except (ValueError, OSError):
            last = None
        parts.append(
            f"No checkpoint was written of these weights; the last complete one is {last}"
            if last
            else "No checkpoint was written of these weights"
        )
        parts.append(
            "Lower learning_rate, set max_grad_norm, use bf16=True or fp32 in place of fp16, or look at these charts; "
            "max_bad_steps=n skips up to n such steps"
        )
        return DivergedError(". ".join(filter(None, parts)))


def never_best(metrics: Mapping[str, float], args: ChartQATrainingArguments) -> dict[str, float]:
    """Return the metrics of an evaluation, with that of the best model as NaN if the loss beside it is not finite.

    NaN is never better than another value. A model with a loss of NaN answers nothing, and would be the best with an
    accuracy of 0 if it were the first.

    Example:
        >>> args = ChartQATrainingArguments("out", use_cpu=True, metric_for_best_model="relaxed_accuracy")
        >>> never_best({"eval_loss": float("nan"), "eval_relaxed_accuracy": 0.0}, args)
        {'eval_loss': nan, 'eval_relaxed_accuracy': nan}
    """
    best = args.metric_for_best_model
    name = "" if best is None else best if best.startswith("eval_") else f"eval_{best}"
    losses = [key for key in metrics if key.endswith("_loss") and name.startswith(key.removesuffix("loss"))]
    bad = [key for key in losses if not math.isfinite(metrics[key])]
    if name in metrics and (bad or not math.isfinite(metrics[name])):
        logger.warning(
            "%s is %s, which is not finite (NaN or infinite): this evaluation is not taken for the best",
            (bad or [name])[0],
            metrics[(bad or [name])[0]],
        )
        return {**metrics, name: math.nan}
    return dict(metrics)


def spoil_gradients(loss: torch.Tensor) -> torch.Tensor:
    """Return a loss whose gradients are NaN if it is not finite, and exactly what they were if it is.

    An infinite loss can have finite gradients. With gradients of NaN, the reduced norm tells all ranks of it, before
    the update and without a synchronization of its own.

    Args:
        loss: 0-d, of a batch.

    Example:
        >>> weight = torch.ones((), requires_grad=True)
        >>> spoil_gradients(weight + math.inf).backward()
        >>> weight.grad
        tensor(nan)
    """
    return loss * (loss.detach() * 0 + 1)


def _local(parameter: torch.Tensor) -> torch.Tensor:
    data = parameter.detach()
    return data.to_local() if hasattr(data, "to_local") else data


def _not_finite(model: nn.Module) -> list[str]:
    names = [name for name, weight in model.named_parameters() if not bool(_local(weight).isfinite().all())]
    return names + [name for name, buffer in model.named_buffers() if bool(_local(buffer).isnan().any())]


def _rows_text(step: _Step) -> str:
    """Name the rows of the batches whose loss is not finite, or of all batches if every loss is."""
    bad = [rows for rows, loss in step.batches if not math.isfinite(float(loss))]
    chosen = bad or [rows for rows, _ in step.batches]
    rows = [row for batch in chosen for row in batch if row["index"] >= 0]
    if not rows:
        return ""
    shown = [f"{row['index']} (chart_id {row['chart_id']!r}, {row['question']!r})" for row in rows[:_SHOWN]]
    more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    whose = "of the batch with that loss" if bad else "of this step on this process"
    return f"Rows {whose}: {', '.join(shown)}{more}"
