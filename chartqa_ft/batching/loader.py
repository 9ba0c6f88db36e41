"""Data loaders of the trainer: rows with keys, grouped by chart, in the same order after a resume."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader

from ..data.chart_groups import has_chart, stored_charts
from .records import Records, RecordStream, as_records, hinted_chart_ids
from .rows import KeyedRows
from .sampler import ChartSampler
from .streams import StreamRows, StreamSampler


def chart_loader(
    records: Any,
    collate: Callable[[list[dict[str, Any]]], dict[str, Any]],
    *,
    batch_size: int,
    accumulation: int,
    num_replicas: int,
    group_by_chart: bool,
    shuffle: bool,
    drop_last: bool,
    seed: int,
    rank: int = 0,
    stored_images: bool = False,
    find_bad: Callable[[Mapping[str, Any]], str | None] | None = None,
    **loader_arguments: Any,
) -> DataLoader:
    """Return a `DataLoader` with the batches of all ranks.

    accelerate must still prepare it, which distributes the batches to the ranks in turn. The loader has its own
    generator, so that worker seeds do not change the global random state, which a resumed run restores.

    Args:
        records: Records of any kind that `as_records` takes.
        collate: The collator.
        batch_size: Rows of one batch on one rank.
        accumulation: Batches of one optimizer step on one rank.
        num_replicas: Number of ranks.
        group_by_chart: Whether questions on the same chart come together.
        shuffle: Whether every epoch has a new order; a stream keeps its own.
        drop_last: Whether to leave out the last, incomplete round of batches.
        seed: Seed of the order.
        rank: Number of this rank, for which the records of a stream are kept.
        stored_images: Whether the collator opens the images of a `datasets.Dataset` itself, see `KeyedRows`; those of
            a stream are always decoded before.
        find_bad: What is wrong with a record of a stream that is to be left out, see `StreamSampler`.
        **loader_arguments: Other arguments of `DataLoader`.
    """
    loader_arguments["generator"] = torch.Generator().manual_seed(seed)
    records = as_records(records)
    if isinstance(records, RecordStream):
        reader = StreamSampler(
            records,
            batch_size=batch_size,
            accumulation=accumulation,
            num_replicas=num_replicas,
            rank=rank,
            drop_last=drop_last,
            pickled=loader_arguments.get("num_workers", 0) > 0,
            find_bad=find_bad,
        )
        return DataLoader(
            StreamRows(records.decoder),
            batch_size=batch_size,
            sampler=reader,
            collate_fn=collate,
            **loader_arguments,
        )
    groups, shared = _charts(records) if group_by_chart else (None, None)
    sampler = ChartSampler(
        len(records),
        charts=groups,
        batch_size=batch_size,
        step_size=batch_size * accumulation * num_replicas,
        num_replicas=num_replicas,
        shuffle=shuffle,
        drop_last=drop_last,
        seed=seed,
    )
    return DataLoader(
        KeyedRows(records, groups=shared, stored_images=stored_images),
        batch_size=batch_size,
        sampler=sampler,
        collate_fn=collate,
        **loader_arguments,
    )


def _charts(records: Any) -> tuple[list[Any] | None, list[int | None] | None]:
    """Return (the chart by which each row is grouped, the chart whose stored picture it shares).

    The second one is `None` where the picture is known only when the row is read: where code makes it, where the image
    is loaded already and may be drawn on, or where it is one of several equal files. The collator compares these.
    """
    if isinstance(records, Records):
        ids = hinted_chart_ids(records)
        return None if ids is None else [chart if has_chart(chart) else None for chart in ids], None
    found = stored_charts(records)
    if found is None:
        return None, None
    if isinstance(records, (list, tuple)):
        return list(found.numbers), None
    return list(found.numbers), [None if r in found.by_content else n for r, n in enumerate(found.numbers)]
