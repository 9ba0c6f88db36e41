"""`trainer.check()`: what a call would do otherwise than asked, or could not do, found before its first step.

Every check is a function of a `CheckContext` that yields `Finding`s. Register it with `@register_check("train")` in a
module that `training/trainer.py` imports. Checks that need only the arguments of the trainer run when it is created
(`trainer_arguments.py`, `argument_values.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

logger = logging.getLogger(__name__)

Call = Literal["train", "evaluate", "predict"]
Level = Literal["error", "warning", "info"]

CALLS: tuple[Call, ...] = ("train", "evaluate", "predict")
"""The calls of the trainer that checks run for."""


@dataclass(frozen=True)
class Finding:
    """Something that a check found."""

    name: str
    """What it concerns: an argument, a method, a column."""
    level: Level
    """`"error"`: the call is refused. `"warning"`: it runs, probably otherwise than meant. `"info"`: good to know."""
    message: str
    """What is wrong, and why."""
    advice: str = ""
    """What to do."""

    def __str__(self) -> str:
        return f"{self.message}: {self.advice}" if self.advice else self.message


@dataclass(frozen=True)
class CheckContext:
    """What a check may look at."""

    trainer: Any
    """The `ChartQATrainer`."""
    call: Call
    """The call that the check precedes."""
    records: Any = None
    """The records of the call: the training data, or the evaluation data, which may be a dict of data sets."""


@dataclass
class CheckResult:
    """The findings of all checks, in their order.

    Example:
        >>> result = CheckResult([Finding("max_steps", "error", "max_steps=0 trains nothing", "set it to 1 or more")])
        >>> result.ok, str(result)
        (False, 'error: max_steps=0 trains nothing: set it to 1 or more')
        >>> result.raise_errors()
        Traceback (most recent call last):
        ...
        ValueError: max_steps=0 trains nothing: set it to 1 or more
    """

    findings: list[Finding] = field(default_factory=list)

    @property
    def errors(self) -> list[Finding]:
        """The findings for which a call is refused."""
        return [finding for finding in self.findings if finding.level == "error"]

    @property
    def warnings(self) -> list[Finding]:
        """The findings for which a call runs, probably otherwise than meant."""
        return [finding for finding in self.findings if finding.level == "warning"]

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return not self.errors

    def raise_errors(self) -> None:
        """Raise one `ValueError` with all errors, if there are any."""
        raise_all([str(finding) for finding in self.errors])

    def __str__(self) -> str:
        return "\n".join(f"{finding.level}: {finding}" for finding in self.findings) or "nothing found"


Check = Callable[[CheckContext], Iterable[Finding]]

CHECKS: list[tuple[Check, frozenset[str]]] = []
"""The registered checks with the calls that they run for, in the order in which they run."""

FIRST_CHECKS: list[Check] = []
"""Checks of what all others count on."""


def register_check(*calls: Call, first: bool = False) -> Callable[[Check], Check]:
    """Add a check that runs before these calls of the trainer.

    Args:
        calls: `"train"`, `"evaluate"` and `"predict"`; without any, the check runs before each of them.
        first: Run it before each call, and the others only if it finds no error.

    Example:
        >>> @register_check("train")
        ... def check_seed(context):
        ...     if context.trainer.args.seed == 13:
        ...         yield Finding("seed", "warning", "seed=13 brings bad luck", "use another one")
        >>> CHECKS.pop()[0].__name__
        'check_seed'
    """

    def register(check: Check) -> Check:
        if first:
            FIRST_CHECKS.append(check)
        else:
            CHECKS.append((check, frozenset(calls or CALLS)))
        return check

    return register


def run_checks(context: CheckContext) -> CheckResult:
    """Run all checks that are registered for the call of `context`."""
    found = CheckResult([finding for check in FIRST_CHECKS for finding in check(context)])
    if not found.errors:
        found.findings.extend(finding for check in _checks_of(context.call) for finding in check(context))
    return found


def _checks_of(call: Call) -> Iterator[Check]:
    for check, calls in list(CHECKS):
        if call in calls:
            yield check


def raise_all(messages: Iterable[str]) -> None:
    """Raise one `ValueError` with all messages, if there are any.

    Example:
        >>> raise_all(["a=0 is wrong", "b=0 is wrong"])
        Traceback (most recent call last):
        ...
        ValueError: 2 things to change:
        - a=0 is wrong
        - b=0 is wrong
    """
    found = list(dict.fromkeys(messages))
    if len(found) == 1:
        raise ValueError(found[0])
    if found:
        raise ValueError("\n- ".join([f"{len(found)} things to change:", *found]))
