"""The metric by which the best checkpoint of a run is chosen, which a resumed run may change."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from transformers import TrainerState

from ..files import read_json
from .checkpoints import STATE_NAME
from .checks.argument_values import FOLLOWING_A_METRIC, schedule_name

logger = logging.getLogger(__name__)

__all__ = ["check_compared_metric", "compared_metric", "forget_best"]


def compared_metric(args: Any) -> list[Any]:
    """Return the name and the direction of the metric that evaluations are compared by, as JSON types.

    Example:
        >>> from types import SimpleNamespace
        >>> compared_metric(SimpleNamespace(metric_for_best_model="eval_loss", greater_is_better=False))
        ['loss', False]
    """
    name = args.metric_for_best_model
    return [None if name is None else name.removeprefix("eval_"), bool(args.greater_is_better)]


def forget_best(state: TrainerState) -> None:
    """Let the next evaluation of a training be the best so far."""
    state.best_metric = state.best_global_step = state.best_model_checkpoint = None


def check_compared_metric(args: Any, state: TrainerState, checkpoint: str | Path) -> None:
    """Forget the best evaluation of a resumed run if it was found by another metric, or in the other direction.

    Early stopping then counts from zero, since the next evaluation is the best one.

    Args:
        args: the arguments of the trainer.
        state: its state, as the checkpoint has it; changed in place.
        checkpoint: the checkpoint. Those of earlier releases do not say what they compared.

    Raises:
        ValueError: the learning rate follows the metric too, and its schedule has compared values of the other one.
    """
    mark = Path(checkpoint) / STATE_NAME
    before = read_json(mark).get("best") if mark.is_file() else None
    if not isinstance(before, list):
        return
    now = compared_metric(args)
    if before == now or now[0] is None:
        return
    what = f"metric_for_best_model={before[0]!r} with greater_is_better={before[1]}"
    if before[0] is not None and schedule_name(args) in FOLLOWING_A_METRIC:
        raise ValueError(
            f"the learning rate of {checkpoint} follows {what} (lr_scheduler_type={schedule_name(args)!r}), and "
            f"cannot go on with {now[0]!r}: keep both, or start a new training from its weights"
        )
    if state.best_metric is not None:
        logger.warning(
            "%s was saved with %s, whose values say nothing about %s: the best evaluation is looked for among those "
            "from here on",
            checkpoint,
            what,
            f"{now[0]!r} with greater_is_better={now[1]}",
        )
    forget_best(state)
