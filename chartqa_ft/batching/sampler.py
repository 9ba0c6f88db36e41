"""Sample rows into batches: charts stay together, and each question comes once per epoch on any number of ranks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from ..data.chart_groups import group_rows
from .rows import RowKey


class ChartSampler(Sampler[RowKey]):
    """Sample row keys so that every `batch_size` consecutive ones contain whole charts where they fit.

    Rows are packed in two stages. First, whole charts in random order fill the rows of one optimizer step
    (`step_size` = batch size x accumulation x ranks). Then the charts of a step fill its batches with exactly
    `batch_size` rows each, and a chart is split only if none fits. The rows of a step therefore depend only on
    `step_size`: 8 rows as 8 x 1, 4 x 2, 2 x 4 or on two ranks are the same 8 rows. The last step of an epoch is
    shorter; if its batches cannot be divided evenly among the ranks, filler rows complete them, which count for
    nothing.

    Args:
        num_rows: Number of rows.
        charts: The id or number of the chart for every row (a row with `None` or "" is a chart of its own); `None` if
            rows do not share charts.
        batch_size: Rows of one batch on one rank.
        step_size: Rows of one optimizer step over all ranks; a multiple of `batch_size` x `num_replicas`.
        num_replicas: Number of ranks, which get the batches in turn.
        shuffle: Whether every epoch has a new order, determined by (seed, epoch); otherwise rows keep their order,
            with charts together.
        drop_last: Leave out the last, incomplete round of batches instead of completing it.
        seed: Seed of the order.

    Raises:
        ValueError: `step_size` is not a multiple of `batch_size` x `num_replicas`.

    Example:
        >>> sampler = ChartSampler(4, charts=["a", "b", "a", "b"], batch_size=2, step_size=2, shuffle=False)
        >>> [key.row for key in sampler]
        [0, 2, 1, 3]
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
    ) -> None:
        if step_size % (batch_size * num_replicas):
            raise ValueError(f"step_size={step_size} is not a multiple of {batch_size} rows on {num_replicas} ranks")
        self._groups = group_rows([None] * num_rows if charts is None else charts)
        self.num_rows, self.batch_size, self.step_size = num_rows, batch_size, step_size
        self.num_replicas, self.shuffle, self.drop_last, self.seed = num_replicas, shuffle, drop_last, seed
        self.epoch = 0

    @property
    def groups(self) -> list[list[int]]:
        """The rows of each chart, in the order of their first rows."""
        return [list(rows) for rows in self._groups]

    def set_epoch(self, epoch: int) -> None:
        """Use the order of this epoch (counted from 0) from the next iteration on."""
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
        groups = self._groups
        if self.shuffle:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(groups))
            groups = [groups[i] for i in order]
        for step in _pack(groups, self.step_size):
            for batch in _pack(step, self.batch_size):
                for rows in batch:
                    yield from rows


def _pack(groups: Sequence[Sequence[int]], capacity: int) -> Iterator[list[Sequence[int]]]:
    """Pack groups into bins of exactly `capacity` rows (the last one may be smaller), in order where possible.

    The earliest group that fits is next; if none fits, the earliest one is split. There is one queue of groups per
    size, so that only the heads of the queues are compared, not all groups.
    """
    waiting: dict[int, OrderedDict[int, Sequence[int]]] = {}
    for position, group in enumerate(groups):
        waiting.setdefault(len(group), OrderedDict())[position] = group
    left = sum(map(len, groups))
    while left:
        packed: list[Sequence[int]] = []
        free = min(capacity, left)
        left -= free
        while free:
            heads = [(next(iter(queue)), size) for size, queue in waiting.items()]
            position, size = min((h for h in heads if h[1] <= free), default=min(heads))
            group = waiting[size].pop(position)
            if not waiting[size]:
                del waiting[size]
            packed.append(group[:free])
            if size > free:
                rest = waiting.setdefault(size - free, OrderedDict())
                rest[position] = group[free:]
                rest.move_to_end(position, last=False)
            free -= len(packed[-1])
        yield packed
