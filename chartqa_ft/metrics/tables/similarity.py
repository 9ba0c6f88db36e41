"""Normalized Levenshtein similarity of all pairs of two lists of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..anls import edit_distance

if TYPE_CHECKING:
    import numpy as np

_WORD = 64
_PAIRS_AT_ONCE = 1 << 13
_MOST_WORK = 1 << 28
"""Characters of one list times characters of the other up to which texts of more than 64 characters are compared."""


def similarities(a: Sequence[str], b: Sequence[str], *, threshold: float = 0.5, strict: bool = False) -> np.ndarray:
    """Return `1 - d / n` for each pair of texts, with the edit distance d and the length n of the longer text.

    Case and white space count. Two empty texts are equal.

    Args:
        a, b: texts.
        threshold: the largest share of edits `d / n`; pairs above it have the similarity 0.
        strict: also give pairs *at* the threshold the similarity 0, as Biten et al. 2019 define it. The code of
            DePlot gives them `1 - threshold`.

    Returns:
        Floats of shape (len(a), len(b)).

        So that the time is bounded, texts of more than 64 characters are only tested for equality if
        the characters of the long texts on both sides, multiplied, are more than 2**28.

    Example:
        >>> similarities(["2019", "Total"], ["2018"]).tolist()
        [[0.75], [0.0]]
    """
    import numpy as np

    rows, row_of = _distinct(a)
    columns, column_of = _distinct(b)
    if not rows or not columns:
        return np.zeros((len(a), len(b)))
    lengths = np.maximum.outer(np.array([len(x) for x in rows]), np.array([len(x) for x in columns]))
    distance = lengths.copy()
    places = {text: j for j, text in enumerate(columns)}
    short_rows = [i for i, x in enumerate(rows) if 0 < len(x) <= _WORD]
    short_columns = [j for j, x in enumerate(columns) if 0 < len(x) <= _WORD]
    if short_rows and short_columns:
        distance[np.ix_(short_rows, short_columns)] = _short_distances(
            [rows[i] for i in short_rows], [columns[j] for j in short_columns]
        )
    _long_distances(rows, columns, threshold, distance)
    for i, text in enumerate(rows):
        if text in places:
            distance[i, places[text]] = 0
    share = distance / np.maximum(lengths, 1)
    similar = share < threshold if strict else share <= threshold
    return np.where(similar, 1 - share, 0.0)[np.ix_(row_of, column_of)]


def _distinct(texts: Sequence[str]) -> tuple[list[str], list[int]]:
    """Return the distinct texts, and for each text its place among them."""
    places: dict[str, int] = {}
    place_of = [places.setdefault(text, len(places)) for text in texts]
    return list(places), place_of


def _long_distances(rows: list[str], columns: list[str], threshold: float, distance: np.ndarray) -> None:
    """Enter the distances of the pairs with a text of more than 64 characters, where they are within the threshold."""
    long_rows = [x for x in rows if len(x) > _WORD]
    long_columns = [x for x in columns if len(x) > _WORD]
    # A short text comes into question for a long one only if it has enough characters.
    enough = (1 - threshold) * _WORD
    work = sum(map(len, long_rows)) * sum(len(x) for x in columns if len(x) >= enough)
    work += sum(map(len, long_columns)) * sum(len(x) for x in rows if enough <= len(x) <= _WORD)
    if work > _MOST_WORK:
        return
    candidates = [(j, y, len(y)) for j, y in enumerate(columns) if len(y) >= enough]
    for i, x in enumerate(rows):
        if len(x) < enough:
            continue
        for j, y, length in candidates:
            longer = max(len(x), length)
            if longer > _WORD and abs(len(x) - length) <= threshold * longer:
                distance[i, j] = min(longer, edit_distance(x, y, limit=int(threshold * longer)))


def _short_distances(rows: list[str], columns: list[str]) -> np.ndarray:
    """Return the distances of texts of 1 to 64 characters, for all pairs at once.

    The bit-parallel recurrence of Myers 1999 (see `anls.edit_distance`), with one 64-bit integer per pair.
    """
    import numpy as np

    codes = {char: k for k, char in enumerate(sorted({char for text in columns for char in text}))}
    lengths = np.array([len(text) for text in columns])
    letters = np.zeros((lengths.max(), len(columns)), np.int64)
    for j, text in enumerate(columns):
        letters[: len(text), j] = [codes[char] for char in text]
    found: np.ndarray = np.empty((len(rows), len(columns)), np.int64)
    at_once = max(1, _PAIRS_AT_ONCE // len(columns))
    for first in range(0, len(rows), at_once):
        found[first : first + at_once] = _block(rows[first : first + at_once], codes, letters, lengths)
    return found


def _block(rows: list[str], codes: dict[str, int], letters: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    import numpy as np

    positions: np.ndarray = np.zeros((len(rows), len(codes)), np.uint64)
    for i, text in enumerate(rows):
        for place, char in enumerate(text):
            if char in codes:
                positions[i, codes[char]] |= np.uint64(1 << place)
    one = np.uint64(1)
    last = np.array([[len(text) - 1] for text in rows], np.uint64)
    score = np.repeat(last + one, len(lengths), axis=1)
    found = score.copy()
    rises = np.full(score.shape, ~np.uint64(0))
    falls = np.zeros(score.shape, np.uint64)
    for column in range(len(letters)):
        match = positions[:, letters[column]]
        diagonal = (((match & rises) + rises) ^ rises) | match | falls
        right_rises = falls | ~(diagonal | rises)
        right_falls = diagonal & rises
        score += (right_rises >> last) & one
        score -= (right_falls >> last) & one
        right_rises = (right_rises << one) | one
        rises = (right_falls << one) | ~(diagonal | right_rises)
        falls = diagonal & right_rises
        ends = lengths == column + 1
        if ends.any():
            found[:, ends] = score[:, ends]
    return found
