"""Data loaders of the trainer: keyed rows, charts together, the same order after a resume."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader

from ..data.chart_groups import chart_groups
from .rows import KeyedRows, KeyedStream
from .sampler import ChartSampler


def has_answers(records: Any) -> bool:
    """Whether records can be scored. A hidden test set has no answers, or empty ones."""
    columns = getattr(records, "column_names", None)
    if columns is not None:
        return "answer" in columns and (not hasattr(records, "__len__") or any(records["answer"]))
    return not isinstance(records, (list, tuple)) or any(record.get("answer") for record in records)


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
    stored_images: bool = False,
    **loader_arguments: Any,
) -> DataLoader:
    """A `DataLoader` over records (a list, a `datasets.Dataset` or `IterableDataset`): the batches of all ranks.

    It is still to be prepared by accelerate, which deals its batches to the ranks in turn. Its own generator keeps
    worker seeds out of the global random state, which a resumed run restores. With `stored_images` the collator opens
    the images of a `datasets.Dataset` itself (`KeyedRows`); a stream decodes its own.
    """
    loader_arguments["generator"] = torch.Generator().manual_seed(seed)
    if not hasattr(records, "__len__"):
        # A stream cannot be split among workers without losing its order: it is read by the process itself.
        loader_arguments.update(
            num_workers=0, prefetch_factor=None, persistent_workers=False, multiprocessing_context=None
        )
        stream = KeyedStream(records, batch_size * num_replicas if num_replicas > 1 else 1)
        return DataLoader(stream, batch_size=batch_size, collate_fn=collate, drop_last=drop_last, **loader_arguments)
    groups = chart_groups(records) if group_by_chart else None
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
        KeyedRows(records, groups=groups, stored_images=stored_images),
        batch_size=batch_size,
        sampler=sampler,
        collate_fn=collate,
        **loader_arguments,
    )
