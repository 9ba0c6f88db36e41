"""Rows with an encoded chart that wait for generation: split from one batch, joined to another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class EncodedRow:
    """What a decoder needs to answer one question."""

    prompt: torch.LongTensor
    """Ids of the prompt, int64 of shape (length,)."""
    states: torch.Tensor
    """Encoder states of the chart, shape (patches, hidden). Rows of one chart hold the same tensor."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(length, patches, hidden). Rows of equal shape fit into one batch without padding; sorting by it puts the
        longest prompts last."""
        return (len(self.prompt), *self.states.shape)


def split_rows(
    prompts: torch.LongTensor, lengths: Sequence[int], states: torch.Tensor, chart_of_row: Sequence[int]
) -> list[EncodedRow]:
    """Split a batch into rows, which do not keep the other charts of the batch in memory.

    Args:
        prompts: Ids, int64 of shape (rows, length), padded on the right.
        lengths: Length of the prompt of each row.
        states: Encoder states of the charts, shape (charts, patches, hidden).
        chart_of_row: Index of each row's chart.

    Example:
        >>> first, second = split_rows(torch.tensor([[5, 6], [7, 0]]), [2, 1], torch.zeros(1, 4, 8), [0, 0])
        >>> second.prompt, second.shape, first.states is second.states
        (tensor([7]), (1, 4, 8), True)
    """
    charts = [chart.clone() for chart in states]
    return [
        EncodedRow(ids[:length], charts[chart])
        for ids, length, chart in zip(prompts, lengths, chart_of_row, strict=True)
    ]


def join_rows(rows: Sequence[EncodedRow]) -> tuple[torch.LongTensor, torch.Tensor, torch.LongTensor]:
    """Join rows of equal `shape` into (prompts, states, chart indices).

    Returns:
        Prompts, int64 of shape (rows, length); states, shape (charts, patches, hidden); and the index of each row's
        chart, int64 of shape (rows,).

    Example:
        >>> rows = split_rows(torch.tensor([[5, 6], [7, 8]]), [2, 2], torch.zeros(1, 4, 8), [0, 0])
        >>> prompts, states, chart_index = join_rows(rows)
        >>> prompts.tolist(), tuple(states.shape), chart_index.tolist()
        ([[5, 6], [7, 8]], (1, 4, 8), [0, 0])
    """
    charts = {id(row.states): row.states for row in rows}
    numbers = {chart: number for number, chart in enumerate(charts)}
    prompts = torch.stack([row.prompt for row in rows])
    index = torch.tensor([numbers[id(row.states)] for row in rows], device=prompts.device)
    return prompts, torch.stack(list(charts.values())), index
