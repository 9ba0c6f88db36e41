"""Average normalized Levenshtein similarity (ANLS): how similar are two texts?"""

from __future__ import annotations

from collections import Counter
from typing import Any

_LONGEST_EXACT = 1 << 15
"""Characters up to which every similarity is exact."""
_LONGEST = 1 << 20
"""Characters above which only equal texts are similar."""
_FIRST_BOUND = 64
"""Edits for which `edit_distance` looks first."""


def edit_distance(a: str, b: str, *, limit: int | None = None) -> int:
    """Return the Levenshtein distance of two strings in code points, or `limit + 1` if it is above `limit`.

    Uses the bit-parallel recurrence of Myers 1999 as simplified by Hyyrö 2003: one Python integer holds a column of
    the table (bit j: does the cell rise or fall against cell j - 1). Of each column only the rows are computed that a
    path of at most `limit` edits can reach (Ukkonen 1985), and none once all of them are above `limit`.

    Args:
        a: a text.
        b: another text.
        limit: the largest distance of interest; `None` for any. The smaller, the faster.

    Example:
        >>> edit_distance("kitten", "sitting"), edit_distance("kitten", "sitting", limit=1)
        (3, 2)
    """
    a, b = _without_common_ends(a, b)
    if len(a) < len(b):
        a, b = b, a
    most = len(a) if limit is None else min(limit, len(a))
    if len(a) - len(b) > most or (Counter(a) - Counter(b)).total() > most:
        return most + 1
    if not b:
        return len(a)
    bound = min(most, max(_FIRST_BOUND, len(a) - len(b)))
    while (distance := _distance_within(a, b, bound)) > bound:
        if bound == most:
            return most + 1
        bound = min(most, 4 * bound)
    return distance


def _without_common_ends(a: str, b: str) -> tuple[str, str]:
    """Return two texts without what they begin with in common, and what they end with."""
    start = _common_start(a, b)
    a, b = a[start:], b[start:]
    end = _common_start(a[::-1], b[::-1])
    return a[: len(a) - end], b[: len(b) - end]


def _common_start(a: str, b: str) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _distance_within(a: str, b: str, bound: int) -> int:
    """Return the distance of `a` and the not longer `b` if it is at most `bound`, else a larger number."""
    # A path from corner to corner with at most `bound` edits leaves the diagonal by at most this many rows.
    above = (bound - (len(a) - len(b))) // 2
    below = above + len(a) - len(b)
    step = max(64, (above + below) // 4)
    # The window holds the rows of all columns of a step. Above it the table is taken to rise with every column, below
    # it with every row: no path is cheaper than it is, and those within the bound do not go there.
    top = bottom = distance = 0
    rises = falls = 0
    for first in range(0, len(b), step):
        columns = b[first : first + step]
        new_top = min(max(0, first - above), len(a) - 1)
        new_bottom = min(len(a), first + len(columns) + below)
        rises, falls = rises >> (new_top - top), falls >> (new_top - top)
        rises |= ((1 << (new_bottom - bottom)) - 1) << (bottom - new_top)
        distance += new_bottom - bottom
        top, bottom = new_top, new_bottom
        height = bottom - top
        positions = _positions(a[top:bottom])
        mask, last = (1 << height) - 1, 1 << (height - 1)
        for char in columns:
            match = positions.get(char, 0)
            diagonal = (((match & rises) + rises) ^ rises) | match | falls
            right_rises = falls | (~(diagonal | rises) & mask)
            right_falls = diagonal & rises
            if right_rises & last:
                distance += 1
            elif right_falls & last:
                distance -= 1
            right_rises = right_rises << 1 | 1
            rises = (right_falls << 1 | ~(diagonal | right_rises)) & mask
            falls = diagonal & right_rises & mask
        if _least_total(rises, falls, distance, height, (len(b) - first - len(columns)) - (len(a) - bottom)) > bound:
            return bound + 1
    return distance + len(a) - bottom


def _positions(text: str) -> dict[str, int]:
    """Return for each character of a text the integer whose bits are its positions."""
    positions: dict[str, int] = {}
    for j, char in enumerate(text):
        positions[char] = positions.get(char, 0) | 1 << j
    return positions


def _least_total(rises: int, falls: int, distance: int, height: int, surplus: int) -> int:
    """Return a lower bound of the whole distance, given a column of the table.

    Args:
        rises: the cells that are larger than the one above.
        falls: the cells that are smaller.
        distance: the lowest cell.
        height: the number of cells below the first.
        surplus: the columns left minus the rows left below the lowest cell: that many edits follow at least.
    """
    import numpy as np  # other metrics do without it

    up, down = (
        np.unpackbits(np.frombuffer(bits.to_bytes((height + 7) // 8, "little"), np.uint8), bitorder="little")[:height]
        for bits in (rises, falls)
    )
    climb = np.concatenate([[0], np.cumsum(up.astype(np.int32) - down)])
    rows_left: Any = height - np.arange(height + 1)
    return int((distance - climb[-1] + climb + np.abs(surplus - rows_left)).min())


def anls(prediction: str, target: str, *, threshold: float = 0.5) -> float:
    """Return the normalized Levenshtein similarity of two texts, between 0 and 1, ignoring case.

    `1 - d / n` if `d / n < threshold` else 0, with the edit distance d and the length n of the longer text (Biten et
    al. 2019, arXiv:1907.00490, eq. 1). Runs of white space count as one space. Lengths are those of the upper-case
    texts, as in the `anls` package, which matters for `ß`.

    So that no text takes longer than a few seconds, the result for texts of more than 32,768 characters is 0 if more
    than `2**29 / n` characters differ, and for more than 1,048,576 characters if any differs.

    Args:
        prediction: the predicted text.
        target: the label.
        threshold: share of differing characters from which texts are not similar at all.

    Example:
        >>> anls("Unlikely", "likely"), anls("Peru", "Chile")
        (0.75, 0.0)
    """
    for name, text in (("prediction", prediction), ("target", target)):
        if not isinstance(text, str):
            raise TypeError(f"{name} must be a text, and is {text!r}")
    prediction = " ".join(prediction.lower().split())
    target = " ".join(target.lower().split())
    if prediction == target:
        return 1.0
    length = max(len(prediction.upper()), len(target.upper()))
    if abs(len(prediction) - len(target)) / length >= threshold:
        return 0.0  # at least that many insertions
    limit = int(threshold * length)
    if length > _LONGEST_EXACT:
        limit = min(limit, _LONGEST_EXACT**2 // 2 // length) if length <= _LONGEST else 0
    distance = edit_distance(prediction, target, limit=limit)
    if distance > limit:
        return 0.0
    share = distance / length
    return 1 - share if share < threshold else 0.0
