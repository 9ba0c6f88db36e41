"""Which rows meet in a batch: questions on one chart together, every question once an epoch on any number of ranks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Dataset, Sampler

from .chart_groups import has_chart

ROW_KEY = "chartqa_ft.row"
"""Under this key a record that comes from our loaders carries its `RowKey`; no column of a user is called so."""
CHART_KEY = "chartqa_ft.chart"
"""Under this key it carries the number of its chart, verified by `chart_groups`: equal numbers, the same image."""


class RowKey(NamedTuple):
    """What the sampler asks the dataset for. It carries the epoch, so that worker processes need no shared state."""

    row: int
    epoch: int
    counts: bool
    """False for a row that only fills up a batch: it is encoded without an answer and takes part in nothing."""


class KeyedRows(Dataset):
    """A map-style dataset of records that answers `RowKey`s: the record, plus the key itself under `ROW_KEY`.

    Args:
        records: a `datasets.Dataset` or a list of records.
        groups: for every row the number of its chart, from `chart_groups`: records carry it under `CHART_KEY`, and a
            batch decodes each chart once (a `datasets.Dataset` decodes an image at every access to its row).
        stored_images: hand out the images of a `datasets.Dataset` as they are stored, a dict of `bytes` and `path`
            that `open_image` takes, instead of decoding them; where a format, a transform or a mode is set for them,
            they come as that makes them.
    """

    def __init__(self, records: Any, *, groups: Sequence[int] | None = None, stored_images: bool = False):
        self.records, self.groups = records, groups
        self.decode: Callable[[Any], Any] | None = None
        """What makes a picture of a stored image that is not at hand."""
        feature = (getattr(records, "features", None) or {}).get("image")
        if stored_images and _decodes_plainly(records, feature):
            self.records = records = records.cast_column("image", replace(feature, decode=False))
            self.decode = feature.decode_example
        self.texts = None
        # A transform of the user's own may read the image, and is left to make its records whole.
        if groups is not None and hasattr(records, "remove_columns") and records.format["type"] != "custom":
            self.texts = records.remove_columns("image")

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: RowKey) -> dict[str, Any]:
        return self.opened({**self.records[key.row], **self.keys(key)})

    def opened(self, record: dict[str, Any]) -> dict[str, Any]:
        """A record whose image is here: one that is stored elsewhere (`https://`, `zip://`) is decoded from there."""
        image = record.get("image")
        if self.decode is not None and image is not None and image["bytes"] is None and "://" in (image["path"] or ""):
            record["image"] = self.decode(image)
        return record

    def keys(self, key: RowKey) -> dict[str, Any]:
        """What a record carries beside its own columns."""
        return {ROW_KEY: key} if self.groups is None else {ROW_KEY: key, CHART_KEY: self.groups[key.row]}

    def __getitems__(self, keys: list[RowKey]) -> list[dict[str, Any]]:
        if self.texts is None:
            return [self[key] for key in keys]
        columns = self.texts[[key.row for key in keys]]
        images: dict[int, Any] = {}
        records = []
        for key, *values in zip(keys, *columns.values(), strict=True):
            group = self.groups[key.row]
            if group not in images:
                images[group] = self.opened(self.records[key.row])["image"]
            records.append({**dict(zip(columns, values, strict=True)), "image": images[group], **self.keys(key)})
        return records


def _decodes_plainly(records: Any, feature: Any) -> bool:
    """Whether records decode their image column by themselves, and nothing else happens to it."""
    return (
        hasattr(records, "cast_column")
        and type(feature).__name__ == "Image"
        and feature.decode
        and feature.mode is None
        and records.format["type"] in (None, "python")
        and "image" in records.format["columns"]
    )


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
