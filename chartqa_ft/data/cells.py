"""Cells of raw records as text: numbers, dates, lists and the names of files."""

from __future__ import annotations

import ast
import base64
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from .record_errors import RecordProblem

# Names of files are shorter, images are longer: 255 is the longest name on common file systems.
# How an image in base64 begins (PNG, GIF, WebP, JPEG, BMP, TIFF) -> its shortest length. Names of files may begin with
# the short ones, but are not that long without a dot.
_IMAGES_IN_BASE64 = {"iVBORw0K": 40, "R0lGOD": 40, "UklGR": 40, "/9j/": 256, "Qk": 256, "SUkq": 256, "TU0A": 256}
_STARTS = tuple(_IMAGES_IN_BASE64)
_MOST_DIGITS = 4300  # Python's own limit for integers
_TOO_LONG = "thousands of digits"
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]+={0,2}\s*")


def plain_text(value: Any) -> str | None:
    """Return a cell as a person would write it, or None for an empty cell.

    Raises:
        RecordProblem: The value is not text, a number, a truth value or a date.

    Example:
        >>> [plain_text(value) for value in (14.0, 1e-05, True, "a", None)]
        ['14', '0.00001', 'Yes', 'a', None]
    """
    if value is None or isinstance(value, str):
        return value
    if hasattr(value, "item") and not isinstance(value, bytes):  # a numpy scalar
        value = value.item()
    if isinstance(value, bool):
        return "Yes" if value else "No"
    if isinstance(value, int):
        try:
            return str(value)
        except ValueError as error:
            raise RecordProblem("malformed record", f"an integer has {_TOO_LONG}") from error
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        value = Decimal(repr(value)) + 0  # no "-0"
    if isinstance(value, Decimal):
        if value.is_finite() and abs(value.adjusted()) > _MOST_DIGITS:
            raise RecordProblem("malformed record", f"a number has {_TOO_LONG}")
        text = format(value, "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise RecordProblem("ambiguous record", f"expected text or a number, found {shorten(value)}")


def unquote(value: Any) -> Any:
    """Return the only element of a list of one text that went through CSV; every other value stays as it is.

    Lists in ChartQA's own notation, `[14]` or `[a, b]`, are not changed.

    Example:
        >>> [unquote(value) for value in ("['14']", "[14]", "['a', 'b']", 14)]
        ['14', '[14]', "['a', 'b']", 14]
    """
    if isinstance(value, str) and re.fullmatch(r"""\[\s*(['"]).*\1\s*\]""", value.strip(), re.DOTALL):
        try:
            parsed = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return value
        if isinstance(parsed, list) and len(parsed) == 1 and isinstance(parsed[0], str):
            return parsed[0]
    return value


def from_base64(text: str) -> bytes | None:
    """Return the bytes of an image written as text in base64 or as a `data:` URL, None for any other text.

    Example:
        >>> from_base64("data:image/png;base64,iVBORw0KGgo=")
        b'\\x89PNG\\r\\n\\x1a\\n'
        >>> from_base64("charts/1.png") is None
        True
    """
    is_url = text[:5] == "data:" and ";base64," in text[:100]
    if is_url:
        text = text.partition(";base64,")[2]
    elif not (_is_long_enough(text) and _BASE64.fullmatch(text)):
        return None
    text = "".join(text.split())
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        return b""


def _is_long_enough(text: str) -> bool:
    if not text.startswith(_STARTS):  # nearly every cell
        return False
    return any(text.startswith(start) and len(text) >= least for start, least in _IMAGES_IN_BASE64.items())


def as_list(value: Any) -> list[Any]:
    """Return a cell as a list: of no element for an empty cell, of one for a single value."""
    if value is None:
        return []
    if hasattr(value, "tolist") and getattr(value, "ndim", None):
        value = value.tolist()
    return list(value) if isinstance(value, list | tuple) else [value]


def as_name(value: Any) -> str | None:
    """Return the name of a file or chart, or None if the cell holds none."""
    text = None if isinstance(value, Mapping | bytes | list) else plain_text(value)
    return text if text and text.strip() else None


def shorten(value: Any) -> str:
    """Return the `repr` of a value, cut to a length that fits into a message."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # integers of thousands of digits, lists in lists
        return f"a {type(value).__name__} that is too long to show"
    return text if len(text) <= 120 else f"{text[:100]}... ({len(text):,} characters)"
