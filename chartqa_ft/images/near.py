"""Find copies of charts by their fingerprints, near-duplicates in another format, size or quality included.

The limits were chosen on 930 charts of ChartQA. In copies of a chart (JPEG of quality 30 and above, scaled by 0.25 to
2), a cell differs by at most 0.2 of the contrast around it, and the hash by at most 16 bits. Two different charts
differ by 0.54 of the contrast somewhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .fingerprints import CELLS

__all__ = ["near_pairs"]

_BITS = 28
"""Bits of two hashes that may differ, of 143."""
_DIFFERENCE = 0.3
"""Difference of a cell that a copy does not reach, as a share of the contrast around the cell."""
_NOISE = 24.0
"""Gray levels that are added to the contrast, so that noise on a plain background does not count."""
_FINE = 200
"""Pixels of the shorter side below which cells are put together by four: they would be smaller than details."""
_ROWS, _PAIRS = 64, 512
"""Rows of fingerprints, and pairs of pictures, that are compared at a time."""


def near_pairs(first: np.ndarray, second: np.ndarray) -> list[tuple[int, int]]:
    """Return the pairs of near-duplicates between two arrays of fingerprints, sorted.

    Charts are compared as a whole and without their margins. What is found are copies in another format, quality or
    size, in gray, and with other margins; not copies in other colors, or that are cut or drawn on.

    Args:
        first: fingerprints, shape (n,), of dtype `FINGERPRINT`.
        second: fingerprints, shape (m,).

    Returns:
        Pairs of an index in `first` and an index in `second`.

    Example:
        >>> from PIL import Image
        >>> from chartqa_ft.images.fingerprints import fingerprint
        >>> chart = Image.new("RGB", (400, 300), "white")
        >>> chart.paste("blue", (50, 80, 120, 250))
        >>> other = chart.copy()
        >>> other.paste("blue", (180, 150, 250, 250))
        >>> charts = np.stack([fingerprint(chart), fingerprint(other)])
        >>> near_pairs(np.stack([fingerprint(chart.resize((200, 150)))]), charts)
        [(0, 0)]
    """
    found: set[tuple[int, int]] = set()
    for part in (0, 1):
        pairs = _similar_hashes(first["hashes"][:, part], second["hashes"][:, part])
        for start in range(0, len(pairs), _PAIRS):
            rows, others = pairs[start : start + _PAIRS].T
            same = _same_cells(first, second, rows, others, part)
            found.update(zip(rows[same].tolist(), others[same].tolist(), strict=True))
    return sorted(found)


def _similar_hashes(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return pairs of indices, int64 of shape (pairs, 2), whose hashes differ by few bits."""
    found: list[np.ndarray] = [np.zeros((0, 2), np.int64)]
    for start in range(0, len(first), _ROWS):
        block = first[start : start + _ROWS]
        bits: np.ndarray = np.zeros((len(block), len(second)), np.uint8)
        for word in range(first.shape[1]):
            bits += np.bitwise_count(block[:, None, word] ^ second[None, :, word])
        pairs = np.argwhere(bits <= _BITS)
        pairs[:, 0] += start
        found.append(pairs)
    return np.concatenate(found)


def _same_cells(first: np.ndarray, second: np.ndarray, rows: np.ndarray, others: np.ndarray, part: int) -> np.ndarray:
    """Return for each pair whether its gray pictures are the same but for noise, bool of shape (pairs,)."""
    one, two = first["cells"][rows, part], second["cells"][others, part]
    small = np.minimum(first["sides"][rows, part], second["sides"][others, part]) < _FINE
    # Most pairs differ by more than the contrast can ever allow, which is found out in a thirtieth of the time.
    gap = (np.maximum(one, two) - np.minimum(one, two)).max(axis=(1, 2))
    same: np.ndarray = small | (gap < _DIFFERENCE * (255 + _NOISE))
    for together, chosen in ((1, np.flatnonzero(same & ~small)), (2, np.flatnonzero(small))):
        if len(chosen):
            pictures = (_merged(cells[chosen].astype(np.float32), together) for cells in (one, two))
            same[chosen] = _largest_difference(*pictures) < _DIFFERENCE
    return same


def _merged(cells: np.ndarray, together: int) -> np.ndarray:
    grid = CELLS // together
    return cells.reshape(len(cells), grid, together, grid, together).mean(axis=(2, 4))


def _largest_difference(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Return the largest difference of two cells, as a share of the contrast around it, shape (pairs,)."""
    contrast = np.maximum(_contrast(one), _contrast(two))
    return (np.abs(one - two) / (contrast + _NOISE)).max(axis=(1, 2))


def _contrast(cells: np.ndarray) -> np.ndarray:
    """Return the range of the values in the 3 x 3 cells around each cell."""
    padded = np.pad(cells, ((0, 0), (1, 1), (1, 1)), mode="edge")
    low = high = padded
    for axis in (1, 2):
        low, high = (_of_three(function, values, axis) for function, values in ((np.minimum, low), (np.maximum, high)))
    return high - low


def _of_three(function: Any, values: np.ndarray, axis: int) -> np.ndarray:
    """Return a function of each value and the two after it along an axis, which becomes two shorter."""
    size = values.shape[axis] - 2
    one, two, three = (np.take(values, range(start, start + size), axis) for start in range(3))
    return function(function(one, two), three)
