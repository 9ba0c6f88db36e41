"""The learning rate and other settings of an optimizer after a resume: those of the arguments."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

logger = logging.getLogger(__name__)

__all__ = ["keeping_settings"]

_CONSTANT = ("weight_decay", "betas", "eps", "momentum", "dampening", "nesterov", "amsgrad", "maximize", "alpha")
"""Settings of a parameter group that no optimizer of torch changes by itself."""


@contextmanager
def keeping_settings(optimizer: Any, scheduler: Any) -> Iterator[None]:
    """Keep the settings of an optimizer while its states are loaded within this context.

    `load_state_dict` brings the settings of the run that wrote the states. Where the arguments of this run ask for
    others, these are used: a new learning rate is scaled by the schedule as the old one was. With the same arguments,
    nothing changes.

    Args:
        optimizer: the optimizer as it was created; `None` does nothing.
        scheduler: its schedule. Those without `base_lrs`, which lower the rate by what they saw, keep the old rate.

    Raises:
        ValueError: the states are those of another kind of optimizer.

    Example:
        >>> import torch
        >>> def start(rate):
        ...     optimizer = torch.optim.SGD([torch.zeros(1)], lr=rate)
        ...     return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
        >>> optimizer, scheduler = start(1.0)
        >>> _ = optimizer.step(), scheduler.step()
        >>> states = optimizer.state_dict(), scheduler.state_dict()
        >>> optimizer, scheduler = start(0.1)
        >>> with keeping_settings(optimizer, scheduler):
        ...     optimizer.load_state_dict(states[0])
        ...     scheduler.load_state_dict(states[1])
        >>> optimizer.param_groups[0]["lr"], scheduler.base_lrs, scheduler.get_last_lr()
        (0.05, [0.1], [0.05])
    """
    groups = getattr(optimizer, "param_groups", None)
    if not groups:
        yield
        return
    asked = [{name: group[name] for name in (*_CONSTANT, "initial_lr") if name in group} for group in groups]
    yield
    loaded = getattr(optimizer, "param_groups", groups)
    # torch takes the states of any optimizer, and fails at the first step.
    defaults = getattr(getattr(optimizer, "optimizer", optimizer), "defaults", {})
    lost = sorted({name for name in defaults for group in loaded if name not in group})
    if lost:
        raise ValueError(f"they lack {', '.join(lost)}, which the optimizer of this run has")
    if len(loaded) != len(asked):
        return
    changed: dict[str, tuple[Any, Any]] = {}
    for number, (group, own) in enumerate(zip(loaded, asked, strict=True)):
        for name in _CONSTANT:
            if name in own and name in group and group[name] != own[name]:
                changed[name] = group[name], own[name]
                group[name] = own[name]
        old, new = group.get("initial_lr"), own.get("initial_lr")
        if old is None or new is None or old == new or not hasattr(scheduler, "base_lrs"):
            continue
        changed["learning rate"] = float(old), float(new)
        group["initial_lr"] = scheduler.base_lrs[number] = new
        # Of a rate of 0 the schedule leaves nothing to scale.
        rate = new * (group["lr"] / old) if old else new * _factor(scheduler, number)
        group["lr"] = rate
        if hasattr(scheduler, "_last_lr"):
            scheduler._last_lr[number] = rate
    for name, (old, new) in changed.items():
        logger.warning("%s: %s of the arguments is used in place of %s, which the resumed run had", name, new, old)


def _factor(scheduler: Any, number: int) -> float:
    """Return the factor of a `LambdaLR` schedule at its current step; 1 for others."""
    factors = getattr(scheduler, "lr_lambdas", None)
    return float(factors[number](scheduler.last_epoch)) if factors else 1.0
