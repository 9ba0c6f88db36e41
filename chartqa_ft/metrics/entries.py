"""Check the arguments of metrics, and turn lists of any library into lists of Python's values.

Every error names the argument, and the index of the entry if there is one.
"""

from __future__ import annotations

import datetime
import math
import operator
from collections.abc import Hashable, Iterable, Mapping, Set
from numbers import Number, Real
from typing import Any

from .answers import as_text

_WRONG_LISTS = (str, bytes, bytearray, memoryview, Mapping, Set)
_COLLECTIONS = (list, tuple, Set)


def listed(name: str, given: Any) -> list[Any]:
    """Return the entries of a list, array, tensor, column or iterator.

    Raises:
        TypeError: `given` is a single value, has no order, or has more than one dimension.

    Example:
        >>> listed("predictions", iter(["7", "8"]))
        ['7', '8']
    """
    if type(given) is list:
        return given
    if isinstance(given, _WRONG_LISTS):
        raise TypeError(
            f"{name} must be a list with one entry per question, and is "
            + (f"the single string {given[:40]!r}" if isinstance(given, str) else f"a {type(given).__name__}")
        )
    dimensions = getattr(given, "ndim", 1)
    if isinstance(dimensions, int) and dimensions != 1:
        raise TypeError(
            f"{name} must be a list with one entry per question, and is a {type(given).__name__} of {dimensions} "
            "dimensions; decode token ids to texts first"
        )
    if type(given).__module__.startswith("torch"):
        return given.tolist()
    try:
        return list(given)
    except TypeError as error:
        if not isinstance(given, Iterable):
            raise TypeError(f"{name} must be a list with one entry per question, and is {given!r}") from error
        raise


def plain(value: Any) -> Any:
    """Return the value of a tensor, a pyarrow scalar or an array without dimensions as Python's; others unchanged."""
    if hasattr(value, "as_py"):
        return value.as_py()
    if type(value).__module__.startswith("torch") or getattr(value, "ndim", None):
        return value.tolist() if hasattr(value, "tolist") else value
    if hasattr(value, "tolist") and not isinstance(value, Number):
        return value.tolist()
    return value


def is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN or one of pandas' missing values.

    Example:
        >>> is_missing(float("nan")), is_missing("nan")
        (True, False)
    """
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, Real) and not isinstance(value, int) and math.isnan(value)


def prediction_text(value: Any, where: str) -> str:
    """Return the text that is scored for a prediction: a string itself, `str(value)` for numbers, dates and None.

    Raises:
        TypeError: it is anything else; the message begins with `where`.

    Example:
        >>> prediction_text(12.5, "prediction"), prediction_text(None, "prediction")
        ('12.5', 'None')
    """
    if isinstance(value, str):
        return as_text(value)
    value = plain(value)
    if isinstance(value, (str, Number, datetime.date, datetime.time)) or is_missing(value):
        return as_text(value)
    advice = "decode it" if isinstance(value, bytes) else "pass the text of one answer"
    raise TypeError(f"{where} is {_short(value)}, a {type(value).__name__}: {advice}")


def target_texts(value: Any, where: str) -> str | list[str]:
    """Return the label of a question as text, or its accepted answers as texts if there are several.

    None and NaN among several accepted answers are left out.

    Raises:
        TypeError, ValueError: it is missing, empty or neither text nor number; the message begins with `where`.

    Example:
        >>> target_texts("Yes", "target"), target_texts(["10", 10.0], "target")
        ('Yes', ['10', '10.0'])
    """
    if isinstance(value, str):
        return as_text(value)
    value = plain(value)
    if isinstance(value, _COLLECTIONS):
        given = [_label_text(item, f"{where}[{i}]") for i, item in enumerate(value) if not is_missing(plain(item))]
        if not given:
            raise ValueError(f"{where} is {_short(value)}: a label needs an accepted answer; leave the question out")
        return given
    return _label_text(value, where)


def _label_text(value: Any, where: str) -> str:
    value = plain(value)
    if is_missing(value):
        raise ValueError(f"{where} is {value!r}: a question without a label cannot be scored; leave it out")
    return prediction_text(value, where)


def group_labels(name: str, labels: list[Any]) -> list[Any]:
    """Return the labels by which questions are grouped, with None for those that are missing.

    Raises:
        TypeError: a label is neither text nor number.

    Example:
        >>> group_labels("sources", ["human", float("nan")])
        ['human', None]
    """
    try:
        distinct: Iterable[Any] = set(labels)
    except TypeError:
        distinct = labels
    if all(type(label) is str or label is None for label in distinct):
        return labels
    found = []
    for i, label in enumerate(labels):
        value = plain(label)
        if not isinstance(value, (str, Number)) and not is_missing(value):
            raise TypeError(f"{name}[{i}] is {_short(value)}, a {type(value).__name__}, and must be a text or None")
        found.append(None if is_missing(value) else value)
    return found


def chart_labels(labels: list[Any]) -> list[Hashable]:
    """Return the chart of each question as a key that can be compared.

    Raises:
        TypeError: a chart has no hash.
    """
    found = []
    for i, label in enumerate(labels):
        value = label if type(label) is str or label is None else plain(label)
        try:
            hash(value)
        except TypeError:
            raise TypeError(f"chart_ids[{i}] is {_short(value)}, and must be a text, a number or None") from None
        found.append(value)
    return found


def whole_number(name: str, value: Any, low: int) -> int:
    """Return an integer of any library as Python's.

    Raises:
        TypeError: it is not an integer.
        ValueError: it is below `low`.

    Example:
        >>> whole_number("n_resamples", 100, 1)
        100
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer of at least {low}, and is {value!r}") from None
    if number < low:
        raise ValueError(f"{name} must be at least {low}, and is {number}")
    return number


def fraction(name: str, value: Any) -> float:
    """Return a number between 0 and 1 as a float.

    Raises:
        TypeError: it is not a number.
        ValueError: it is outside.

    Example:
        >>> fraction("accuracy", 1)
        1.0
    """
    value = plain(value)
    if not isinstance(value, Real):
        raise TypeError(f"{name} must be a number between 0 and 1, and is {value!r}")
    number = float(value)
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"{name} must lie between 0 and 1, and is {value!r}")
    return number


def truth(name: str, value: Any) -> bool:
    """Return a boolean of any library as Python's.

    Raises:
        TypeError: it is none. A text such as "no" would count as true.

    Example:
        >>> truth("exact_choice", False)
        False
    """
    if value is True or value is False:
        return value
    if type(value).__name__ not in ("bool", "bool_"):
        raise TypeError(f"{name} must be True or False, and is {value!r}")
    return bool(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
