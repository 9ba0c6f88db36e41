"""Rows whose charts are encoded and whose answers are still to come: taken out of one batch, put into another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class EncodedRow:
    """One question: what a decoder needs to answer it."""

    prompt: torch.LongTensor
    """The ids of the prompt, shape (length,)."""
    states: torch.Tensor
    """What the encoder made of the chart, shape (patches, hidden). Rows of one chart hold the same tensor."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows of one shape can stand in one batch without padding; by this the longest prompts come last."""
        return (len(self.prompt), *self.states.shape)


def split_rows(
    prompts: torch.LongTensor, lengths: Sequence[int], states: torch.Tensor, chart_of_row: Sequence[int]
) -> list[EncodedRow]:
    """The rows of a batch, which they outlive without holding its other charts in memory.

    Args:
        prompts: ids, int64 of shape (rows, length), padded on the right.
        lengths: how many of them each row's prompt has.
        states: what the encoder made of the charts, shape (charts, patches, hidden).
        chart_of_row: the number of each row's chart.
    """
    charts = [chart.clone() for chart in states]
    return [
        EncodedRow(ids[:length], charts[chart])
        for ids, length, chart in zip(prompts, lengths, chart_of_row, strict=True)
    ]


def join_rows(rows: Sequence[EncodedRow]) -> tuple[torch.LongTensor, torch.Tensor, torch.LongTensor]:
    """Rows of one `shape` as prompts (rows, length), states (charts, patches, hidden) and each row's chart (rows,)."""
    charts = {id(row.states): row.states for row in rows}
    numbers = {chart: number for number, chart in enumerate(charts)}
    prompts = torch.stack([row.prompt for row in rows])
    index = torch.tensor([numbers[id(row.states)] for row in rows], device=prompts.device)
    return prompts, torch.stack(list(charts.values())), index
