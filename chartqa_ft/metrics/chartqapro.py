"""The rule of ChartQAPro (Masry et al. 2025, arXiv:2504.05506): lists, years, numbers within 5 %, texts by ANLS."""

from __future__ import annotations

import re
from functools import lru_cache

from .anls import anls
from .answers import LONGEST_LIST, as_text, to_list
from .entries import is_missing, plain
from .tolerance import within_tolerance

_BRACKETED = re.compile(r"\[(.*)\]")
_UNQUOTED_WORD = re.compile(r"(?<!['\w])\w['\w]*")


def _pro_items(text: str) -> list[str]:
    return [as_text(item).strip(" '") for item in to_list(text) or ()]


@lru_cache(maxsize=1 << 12)
def _pro_targets(target: str) -> tuple[str, ...]:
    """Return the items of a target. As in the original, every unquoted word of a bracketed list is quoted first.

    This turns `[Germany, United States]` into the items `Germany` and `UnitedStates`. A list with a decimal point no
    longer parses then, and is read as it was.
    """
    bracketed = _BRACKETED.fullmatch(target.strip())
    if bracketed:
        quoted = to_list("[" + _UNQUOTED_WORD.sub(r"'\g<0>'", bracketed.group(1)) + "]")
        if quoted is not None:
            return tuple(_pro_items(as_text(quoted))) or (target,)
    return tuple(_pro_items(target)) or (target,)


def _pro_item(prediction: str, target: str) -> float:
    target = target.strip().strip("%").strip()
    prediction = prediction.strip().strip("%").strip()
    try:
        t = float(target.strip("%"))
        p = float(prediction.strip("%"))
    except ValueError:
        return anls(prediction, target)
    if t == 0.0:
        return 1.0 if p == 0.0 else 0.0
    return 1.0 if within_tolerance(p, t) else 0.0


_YEAR_WORDS = {"YES": True, "TRUE": True, "NO": False, "FALSE": False, "": False}


def _is_year(flag: object, name: str) -> bool:
    flag = plain(flag)
    if is_missing(flag):
        return False
    word = flag.strip().upper() if isinstance(flag, str) else None
    if word in _YEAR_WORDS:
        return _YEAR_WORDS[word]
    if word is None and flag in (0, 1):
        return bool(flag)
    raise ValueError(f"{name} must be 'YES', 'NO', a boolean or a list of them, and is or holds {flag!r}")


def flags_of(year_flags: object, name: str = "year_flags") -> list[bool]:
    """Return the year flags of a question as booleans; an empty list if there are none.

    Args:
        year_flags: `"YES"`, `"NO"`, a boolean, a list of these or its text, or None.
        name: what an error calls them.

    Raises:
        ValueError: a flag is anything else.

    Example:
        >>> flags_of("YES"), flags_of(["NO", True]), flags_of(None)
        ([True], [False, True], [])
    """
    given = plain(year_flags)
    if isinstance(given, str):
        given = to_list(given) or given
    if is_missing(given):
        return []
    return [_is_year(flag, name) for flag in (given if isinstance(given, (list, tuple)) else [given])]


def _flags(year_flags: object, count: int) -> list[bool]:
    flags = flags_of(year_flags)
    if len(flags) < count:
        flags *= count
    return flags or [False] * count


def chartqapro(prediction: str, target: str, *, year_flags: object = None, exact: bool = False) -> float:
    """Score like vis-nlp/ChartQAPro: lists item by item, numbers within 5 %, texts by ANLS.

    Missing and surplus items score 0. Percent signs at the ends of an item are dropped: `83%` equals 83, and does not
    equal 0.83. The official script strips the answers before it calls this rule: see `chartqapro_official`.

    Args:
        prediction: the predicted answer.
        target: the label.
        year_flags: the data set's `Year` column for this question: `"YES"`/`"NO"` or booleans, one for all items or
            one per item. Flagged items must match exactly. `None` means no years.
        exact: require every item to match exactly. lmms-eval does this for questions of the types Fact Checking and
            Multi Choice; the official script computes the switch and never passes it on.

    Returns:
        A float between 0 and 1.

    Example:
        >>> chartqapro("[2008, 51]", "[2007, 50]"), chartqapro("2008", "2007", year_flags="YES")
        (1.0, 0.0)
    """
    targets = _pro_targets(target) if len(target) <= LONGEST_LIST else (target,)
    predictions = _pro_items(prediction) or [prediction]
    flags = _flags(year_flags, len(targets))
    total = 0.0
    for p, t, flag in zip(predictions, targets, flags):  # noqa: B905 - unpaired items add nothing and count below
        if flag or exact:
            total += 1.0 if p.strip().lower() == t.strip().lower() else 0.0
        else:
            total += _pro_item(p, t)
    return total / max(len(predictions), len(targets))


def chartqapro_official(prediction: str, target: str, *, year_flags: object = None, exact: bool = False) -> float:
    """Score like `evaluate_predictions.py` of vis-nlp/ChartQAPro as a whole, as published figures are computed.

    It is `chartqapro` after periods, and then line breaks, have been stripped from the ends of both sides, so that
    `.5` becomes `5`. The means of `relaxed_accuracy` by question type, and over all questions, are those of the script
    if the columns `question_type` and `year_flags` are those of `load_chartqa`.

    Args:
        prediction, target, year_flags, exact: as in `chartqapro`.

    Returns:
        A float between 0 and 1.

    Example:
        >>> chartqapro_official("Yes.", "Yes"), chartqapro("Yes.", "Yes")
        (1.0, 0.75)
    """
    return chartqapro(_stripped(prediction), _stripped(target), year_flags=year_flags, exact=exact)


def _stripped(text: str) -> str:
    return text.strip(".").strip("\n")
