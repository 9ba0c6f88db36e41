"""Numbers as charts print them."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

_CURRENCY = "$€£¥₹"
_NUMBER = re.compile(
    rf"([+\-\u2212]?)\s*(?:[{_CURRENCY}]\s*)?([+\-\u2212]?)"
    r"([0-9]+|[1-9][0-9]{0,2}(?:,[0-9]{2,3})*,[0-9]{3}|[1-9][0-9]{0,2}(?: [0-9]{3})+|(?=\.[0-9]))"
    r"(\.[0-9]*)?([eE][+\-]?[0-9]{1,3})?"
    rf"\s*([%{_CURRENCY}]?)"
)
_LONGEST = 64


class Number(NamedTuple):
    """A number as it is printed in a chart."""

    value: float
    """The number before the sign of the unit: 83 for `83%`."""
    is_percent: bool
    """Whether a percent sign follows."""


def read_number(text: str) -> Number | None:
    """Return the number that a cell holds, or None if it holds something else.

    Commas or spaces may separate thousands; a sign (also U+2212), a currency sign before or behind the number, an
    exponent and one percent sign are read. `12,5` is not a number: nothing says whether its comma is a decimal one.

    Example:
        >>> read_number("1,204"), read_number(" -3.5 %"), read_number("0.57$").value, read_number("12,5")
        (Number(value=1204.0, is_percent=False), Number(value=-3.5, is_percent=True), 0.57, None)
    """
    text = text.strip()
    found = _NUMBER.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None or (found[1] and found[2]):
        return None
    digits = found[3].replace(",", "").replace(" ", "")
    value = float(f"{digits}{found[4] or ''}{found[5] or ''}" if digits else f"0{found[4]}{found[5] or ''}")
    if not math.isfinite(value):
        return None
    is_negative = (found[1] or found[2]) in ("-", "\u2212")
    return Number(-value if is_negative else value, found[6] == "%")
