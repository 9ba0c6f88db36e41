"""Read answers and labels: as text, as a choice of accepted answers, as numbers, as lists.

No function here raises for any string, and none runs code from it.
"""

from __future__ import annotations

import ast
import warnings
from decimal import Decimal
from functools import lru_cache
from typing import Any

LONGEST_LIST = 20_000
"""Characters. A degenerate generation may be megabytes of brackets; no list of answers is this long."""
LONGEST_CACHED = 64
"""Characters. Longer texts almost never repeat, so caching them costs memory and gains nothing."""


def as_text(value: object) -> str:
    """Return the string that is scored for `value`: a string itself, `str(value)` for anything else.

    Example:
        >>> as_text("Yes"), as_text(12.5), as_text(None)
        ('Yes', '12.5', 'None')
    """
    if isinstance(value, str):
        return value
    try:
        return str(value)
    except ValueError:
        # Python refuses to print integers beyond sys.get_int_max_str_digits(); Decimal prints them exactly.
        return str(Decimal(value)) if isinstance(value, int) else object.__repr__(value)


def as_targets(reference: Any) -> list[str]:
    """Return the accepted answers of a question as strings: the items of a list, tuple, set or array, or one answer.

    Example:
        >>> as_targets("Yes"), as_targets(["10", 10.0])
        (['Yes'], ['10', '10.0'])
    """
    if hasattr(reference, "tolist"):
        reference = reference.tolist()
    if isinstance(reference, (list, tuple, set, frozenset)):
        return [as_text(item) for item in reference]
    return [as_text(reference)]


def _parse_number(text: str) -> float | None:
    try:
        if text.endswith("%"):
            return float(text.rstrip("%")) / 100.0
        return float(text)
    except ValueError:
        return None


_cached_number = lru_cache(maxsize=1 << 16)(_parse_number)


def to_number(text: str) -> float | None:
    """Return `float(text)`, a hundredth of it if the text ends in `%` (all trailing `%` are dropped), else `None`.

    Python's float decides: surrounding white space, `1_000`, `1e3`, full-width digits, `nan` and `inf` are numbers,
    `1,000` and `$5` are not.

    Example:
        >>> to_number("12"), to_number("50%"), to_number("1,000")
        (12.0, 0.5, None)
    """
    return _cached_number(text) if len(text) <= LONGEST_CACHED else _parse_number(text)


def to_list(text: str) -> list[Any] | None:
    """Return the Python list that `text` spells out, or `None` if it does not. No code is run.

    Example:
        >>> to_list("[2003, 'Peru']"), to_list("2003"), to_list("[open('x')]")
        ([2003, 'Peru'], None, None)
    """
    if "[" not in text or len(text) > LONGEST_LIST:
        return None
    try:
        with warnings.catch_warnings():
            # The parser warns of "\d" in a label, which does not concern the user.
            warnings.simplefilter("ignore")
            value = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    return value if isinstance(value, list) else None
