"""The functions that a program may call."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .limits import CONTAINERS, NUMBERS, Limits, ProgramError

_DIGITS = 400
"""Decimal places, more than a float has. `round(5, -10**9)` would compute an integer of a gigabyte."""


def _items(name: str, value: Any) -> Any:
    if type(value) not in CONTAINERS:
        raise ProgramError(f"{name}() needs a list, and gets a value of type {type(value).__name__}")
    return value


def _sum(limits: Limits, values: Any, start: Any = 0) -> Any:
    # Sums of lists copy what was summed before for each further list.
    limits.spend(len(_items("sum", values)))
    if not isinstance(start, NUMBERS) or not all(isinstance(value, NUMBERS) for value in values):
        raise ProgramError("sum() is only supported for numbers")
    return sum(values, start)


def _extreme(choose: Callable[..., Any]) -> Callable[..., Any]:
    def call(limits: Limits, *values: Any, **default: Any) -> Any:
        if len(values) == 1:
            _items(choose.__name__, values[0])
        limits.deep(*values)
        return choose(*values, **default)

    return call


def _len(limits: Limits, value: Any) -> int:
    return len(_items("len", value))


def _abs(limits: Limits, value: Any) -> Any:
    if not isinstance(value, NUMBERS):
        raise ProgramError(f"abs() needs a number, and gets a value of type {type(value).__name__}")
    return abs(value)


def _round(limits: Limits, number: Any, ndigits: Any = None) -> Any:
    if not isinstance(number, NUMBERS) or not (ndigits is None or isinstance(ndigits, int)):
        raise ProgramError("round() needs a number and the number of decimal places")
    if ndigits is not None and abs(ndigits) > _DIGITS:
        raise ProgramError(f"round() takes at most {_DIGITS} decimal places")
    return round(number, ndigits)


def _sorted(limits: Limits, values: Any, *, reverse: Any = False) -> list[Any]:
    if not isinstance(reverse, int):
        raise ProgramError("reverse of sorted() must be True or False")
    within = limits.deep(_items("sorted", values))
    limits.spend(within * math.ceil(math.log2(len(values) + 1)))
    return sorted(values, reverse=bool(reverse))


def _range(limits: Limits, *bounds: Any) -> range:
    if not all(isinstance(bound, int) for bound in bounds):
        raise ProgramError("range() needs integers")
    made = range(*bounds)
    limits.size(range, len(made))
    return made


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sum": _sum,
    "min": _extreme(min),
    "max": _extreme(max),
    "len": _len,
    "abs": _abs,
    "round": _round,
    "sorted": _sorted,
    "range": _range,
}
KEYWORDS: dict[str, frozenset[str]] = {
    "sum": frozenset({"start"}),
    "min": frozenset({"default"}),
    "max": frozenset({"default"}),
    "round": frozenset({"number", "ndigits"}),
    "sorted": frozenset({"reverse"}),
    "print": frozenset({"sep", "end"}),
}
