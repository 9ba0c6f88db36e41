"""Which rows meet in a batch: questions on one chart together, every question once an epoch on any number of ranks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from ..data.chart_groups import has_chart
from .rows import RowKey


class ChartSampler(Sampler[RowKey]):
    """Yields row keys so that consecutive runs of `batch_size` hold whole charts wherever they fit.

    Rows are dealt in two steps. First whole charts, in random order, fill the rows of one optimizer step
    (`step_size` = batch size x accumulation x ranks); then the charts of a step fill its batches to exactly
    `batch_size` rows, and a chart is split only where none fits. The rows of a step therefore depend on `step_size`
    alone: 8 rows as 8 x 1, 4 x 2, 2 x 4 or on two ranks are the same 8 rows. The last step of an epoch is shorter;
    when its batches do not divide among the ranks, filler rows that count for nothing complete them.

    Args:
        charts: for every row, the id or number of its chart (a row with `None` or "" is a chart of its own); `None`
            when rows do not share charts.
        num_rows: how many rows there are.
        batch_size: rows of one batch on one rank.
        step_size: rows of one optimizer step over all ranks; a multiple of `batch_size` x `num_replicas`.
        num_replicas: how many ranks the batches are dealt to, in turn.
        shuffle: a new order every epoch, drawn from (seed, epoch); without it rows keep their order, charts together.
        drop_last: leave out the last, incomplete round of batches instead of filling it.
    """

    def __init__(
        self,
        num_rows: int,
        *,
        charts: Sequence[Any] | None,
        batch_size: int,
        step_size: int,
        num_replicas: int = 1,
        shuffle: bool = True,
        drop_last: bool = False,
        seed: int = 0,
    ):
        if step_size % (batch_size * num_replicas):
            raise ValueError(f"step_size={step_size} is no multiple of {batch_size} rows on {num_replicas} ranks")
        self.groups = _group_rows(num_rows, charts)
        self.num_rows, self.batch_size, self.step_size = num_rows, batch_size, step_size
        self.num_replicas, self.shuffle, self.drop_last, self.seed = num_replicas, shuffle, drop_last, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Take the order of this epoch (counted from 0) from the next iteration on."""
        self.epoch = epoch

    def __len__(self) -> int:
        round_size = self.batch_size * self.num_replicas
        if self.drop_last:
            return self.num_rows // round_size * round_size
        return -(-self.num_rows // round_size) * round_size if self.num_replicas > 1 else self.num_rows

    def __iter__(self) -> Iterator[RowKey]:
        epoch, yielded = self.epoch, 0
        for row in self._order(epoch):
            if yielded == len(self):
                return
            yield RowKey(row, epoch, True)
            yielded += 1
        for filler in range(len(self) - yielded):
            yield RowKey(filler % self.num_rows, epoch, False)

    def _order(self, epoch: int) -> Iterator[int]:
        groups = self.groups
        if self.shuffle:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(groups))
            groups = [groups[i] for i in order]
        for step in _pack(groups, self.step_size):
            for batch in _pack(step, self.batch_size):
                for part in batch:
                    yield from part


def _group_rows(num_rows: int, charts: Sequence[Any] | None) -> list[list[int]]:
    """Rows of each chart, charts in the order of their first row; a row without an id is a chart of its own."""
    if charts is None:
        return [[row] for row in range(num_rows)]
    groups: dict[Any, list[int]] = {}
    for row, chart in enumerate(charts):
        groups.setdefault(("chart", chart) if has_chart(chart) else row, []).append(row)
    return list(groups.values())


def _pack(groups: Sequence[list[int]], capacity: int) -> Iterator[list[list[int]]]:
    """Deal groups to bins of exactly `capacity` rows (the last one may be smaller), in order as far as they fit.

    The earliest group that fits goes first; when none does, the earliest one is split. Groups wait in one queue per
    size, so that a bin costs a look at the queue heads and not at all groups.
    """
    waiting: dict[int, OrderedDict[int, list[int]]] = {}
    for position, group in enumerate(groups):
        waiting.setdefault(len(group), OrderedDict())[position] = group
    left = sum(map(len, groups))
    while left:
        parts, room = [], min(capacity, left)
        left -= room
        while room:
            heads = [(next(iter(queue)), size) for size, queue in waiting.items()]
            position, size = min((h for h in heads if h[1] <= room), default=min(heads))
            group = waiting[size].pop(position)
            if not waiting[size]:
                del waiting[size]
            parts.append(group[:room])
            if size > room:
                rest = waiting.setdefault(size - room, OrderedDict())
                rest[position] = group[room:]
                rest.move_to_end(position, last=False)
            room -= len(parts[-1])
        yield parts
