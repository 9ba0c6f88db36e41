"""Rows of token ids: padding, and grouping by length."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence


def as_list(value: Any) -> list:
    """Return a list for a token id that a config stores as a number, a list or `None`.

    Example:
        >>> as_list(None), as_list(2), as_list([2, 3])
        ([], [2], [2, 3])
    """
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple, set)) else [value]


def pad_rows(rows: Iterable[Sequence[int]], value: int) -> torch.Tensor:
    """Pad integer sequences on the right to the longest: int64 of shape (rows, longest).

    Example:
        >>> pad_rows([[5, 6, 7], [8]], 0).tolist()
        [[5, 6, 7], [8, 0, 0]]
    """
    return pad_sequence([torch.tensor(row, dtype=torch.long) for row in rows], batch_first=True, padding_value=value)


def group_by_length(lengths: Sequence[int], device: torch.device) -> Iterator[tuple[int, torch.LongTensor]]:
    """Yield (length, indices of the rows of that length), longest first.

    Example:
        >>> [(length, rows.tolist()) for length, rows in group_by_length([3, 5, 3], torch.device("cpu"))]
        [(5, [1]), (3, [0, 2])]
    """
    rows_of = defaultdict(list)
    for row, length in enumerate(lengths):
        rows_of[length].append(row)
    for length, rows in sorted(rows_of.items(), reverse=True):
        yield length, torch.tensor(rows, device=device)


def has_token_axis(value: Any, mask: torch.Tensor) -> bool:
    """Return whether a value of a batch is a tensor of shape (rows, length, ...), as the mask.

    Example:
        >>> mask, pixels = torch.ones(2, 5), torch.zeros(2, 3, 8, 8)
        >>> has_token_axis(mask, mask), has_token_axis(pixels, mask)
        (True, False)
    """
    return torch.is_tensor(value) and value.shape[:2] == mask.shape
