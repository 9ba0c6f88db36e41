"""Numbers with a decimal comma (`12,5`, `1.204,50`): how they are read, and how the notation of a data set is found.

A single number does not say which notation it is in: `1.204` is one thing in an English chart and another one in a
German chart. The notation is therefore named by the user, or found once from all labels of a data set, and never
guessed from one answer.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import NamedTuple

logger = logging.getLogger(__name__)

DETECTED = "detect_decimal_comma"
"""The variant that is `decimal_comma` or `pix2struct`, as the labels of the data set decide."""

# Space, no-break space, thin space and narrow no-break space group digits by thousands in French, Czech, Swedish, ...
_SPACE = " \u00a0\u2009\u202f"
_SIGN = r"[+\-\u2212]?"
_END = r"(?:[eE][+-]?\d+)?\s*%*"
_COMMA_NUMBER = re.compile(rf"{_SIGN}(?:[1-9]\d{{0,2}}([.{_SPACE}])\d{{3}}(?:\1\d{{3}})*|\d+)?(?:,\d*)?{_END}")

_BARE = re.compile(rf"\s*{_SIGN}\s*(?:[$€£¥]\s*)?([\d.,{_SPACE}]*\d)\s*(?:[%€$£¥]\s*)*")
_ONLY_COMMA = re.compile(
    rf"\d+,(?:\d{{1,2}}|\d{{4,}})"  # 12,5
    r"|0\d*,\d+|,\d+|\d{4,},\d+"  # 0,125 and 1204,125: no group begins with 0 or has four digits
    rf"|\d{{1,3}}(?:[.{_SPACE}]\d{{3}})+,\d+"  # 1.204,50
    r"|[1-9]\d{0,2}(?:\.\d{3}){2,}"  # 1.204.500
)
_ONLY_POINT = re.compile(
    r"\d+\.(?:\d{1,2}|\d{4,})"
    r"|0\d*\.\d+|\.\d+|\d{4,}\.\d+"
    rf"|\d{{1,3}}(?:[,{_SPACE}]\d{{3}})+\.\d+"
    r"|[1-9]\d{0,2}(?:,\d{2,3})+,\d{3}(?:\.\d+)?"  # 1,204,500 and, in India, 1,00,000
)
_EITHER = re.compile(r"[1-9]\d{0,2}[.,]\d{3}")

_AGREEMENT = 0.9
_LONGEST_NUMBER = 64

_DIGITS_AND_COMMAS = re.compile(r"(?<![\d.,])\d[\d,]*\d")
_GROUPED = re.compile(r"[1-9]\d{0,2}(?:,\d{2,3})*,\d{3}")


def to_point(text: str) -> str | None:
    """Return a number in decimal comma notation as Python writes it, or None if `text` is not such a number.

    A comma is the decimal mark. Points or spaces may separate groups of three digits, one of them throughout a number.
    A sign (also U+2212), an exponent and trailing percent signs are kept. `12.5` is not a number in this notation.

    Example:
        >>> to_point("1.204,50"), to_point("12,5 %"), to_point("1.204"), to_point("12.5")
        ('1204.50', '12.5 %', '1204', None)
    """
    text = text.strip()
    if not _COMMA_NUMBER.fullmatch(text) or not any(char.isdigit() for char in re.split("[eE]", text)[0]):
        return None
    number = text.replace("\u2212", "-").replace(".", "").replace(",", ".")
    digits = number.rstrip("%").rstrip()
    return re.sub(rf"[{_SPACE}]", "", digits) + number[len(digits) :]


def drop_thousands_commas(text: str) -> str:
    """Delete the commas of a text, except those that may be decimal commas.

    A comma between digits goes only if it separates thousands: groups of three digits (in Indian notation of two, but
    for the last one) behind a group that does not begin with 0. So do commas next to a letter or a space.

    Example:
        >>> drop_thousands_commas("1,204.50"), drop_thousands_commas("12,5"), drop_thousands_commas("2008, 2009")
        ('1204.50', '12,5', '2008 2009')
    """
    if "," not in text:
        return text
    kept = _DIGITS_AND_COMMAS.sub(lambda m: m[0].replace(",", "") if _GROUPED.fullmatch(m[0]) else m[0], text)
    return re.sub(r"(?<=[^\d.\s$+\-]),|,(?!\d)", "", kept)


class Notation(NamedTuple):
    """What the labels of a data set say about their decimal mark."""

    mark: str | None
    """`"comma"`, `"point"`, or None if the labels do not decide."""
    comma: int
    """Number of labels that can only be read with a decimal comma."""
    point: int
    """Number of labels that can only be read with a decimal point."""
    either: int
    """Number of labels that both notations read, as different numbers (`1.204`)."""
    n: int
    """Number of labels."""
    example: str | None
    """The first label with a decimal comma."""


def find_notation(labels: Iterable[str | Iterable[str]]) -> Notation:
    """Find the decimal mark of a data set from all of its labels.

    A label decides if only one notation reads it as a number: `12,5`, `0,125`, `1.204,50` and `1.204.500` have a
    decimal comma, their mirror images a decimal point. Labels such as `1.204` follow the others. At least nine tenths
    of the deciding labels have to agree; otherwise `mark` is None.

    Args:
        labels: one per question; a list of accepted answers decides if any of its items does.

    Example:
        >>> find_notation(["12,5", "1.204", "Peru", "7"]).mark
        'comma'
        >>> find_notation(["1.204", "7"]).mark is None
        True
    """
    counts = {"comma": 0, "point": 0, "either": 0}
    n, example = 0, None
    for label in labels:
        n += 1
        kinds = set()
        for item in (label,) if isinstance(label, str) else label:
            kind = _kind(item)
            kinds.add(kind)
            if kind == "comma" and example is None:
                example = item
        for kind in kinds:
            if kind is not None:
                counts[kind] += 1
    deciding = counts["comma"] + counts["point"]
    agreed = [mark for mark in ("comma", "point") if deciding and counts[mark] >= _AGREEMENT * deciding]
    return Notation(agreed[0] if agreed else None, **counts, n=n, example=example)


def _kind(label: str) -> str | None:
    if ("," not in label and "." not in label) or len(label) > _LONGEST_NUMBER:
        return None
    bare = _BARE.fullmatch(label)
    if bare is None:
        return None
    number = bare[1]
    if _EITHER.fullmatch(number):
        return "either"
    if _ONLY_COMMA.fullmatch(number):
        return "comma"
    return "point" if _ONLY_POINT.fullmatch(number) else None


def chosen_variant(variant: str, labels: Iterable[str | Iterable[str]]) -> tuple[str, Notation]:
    """Return the variant that scores a data set, and the notation of its labels.

    Logs a warning if the labels have decimal commas that the variant does not read as numbers, and one if they have to
    decide the notation and do not.

    Args:
        variant: a canonical name (`correctness.variant_name`). `detect_decimal_comma` becomes `decimal_comma` if the
            labels have decimal commas, otherwise `pix2struct`; other names stay.
        labels: of the whole data set, as in `find_notation`.
    """
    found = find_notation(labels)
    if variant == DETECTED:
        if found.mark is None and (found.comma or found.either):
            logger.warning(
                "%s: the labels do not decide whether their decimal mark is a comma (%d of %d labels need a comma, "
                "%d a point, %d can be read both ways); they are scored by the variant 'pix2struct'. Name the "
                "notation: use the variant 'decimal_comma' or 'pix2struct'",
                DETECTED,
                found.comma,
                found.n,
                found.point,
                found.either,
            )
        return ("decimal_comma" if found.mark == "comma" else "pix2struct"), found
    if found.comma and variant not in ("decimal_comma", "exact_match"):
        logger.warning(
            "%d of %d labels look like numbers with a decimal comma, such as %r. The variant %r reads them as text, "
            "so that no tolerance applies to them: use the variant 'decimal_comma' or %r",
            found.comma,
            found.n,
            found.example,
            variant,
            DETECTED,
        )
    return variant, found
