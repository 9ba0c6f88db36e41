"""Data loaders of the trainer: rows with keys, grouped by chart, in the same order after a resume."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader

from ..data.chart_groups import chart_groups
from .rows import KeyedRows, KeyedStream
from .sampler import ChartSampler


def has_answers(records: Any) -> bool:
    """Return whether records can be scored: a hidden test set has no answers, or empty ones."""
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
    """Return a `DataLoader` with the batches of all ranks.

    accelerate must still prepare it, which distributes the batches to the ranks in turn. The loader has its own
    generator, so that worker seeds do not change the global random state, which a resumed run restores.

    Args:
        records: A list of records, a `datasets.Dataset` or an `IterableDataset`.
        collate: The collator.
        batch_size: Rows of one batch on one rank.
        accumulation: Batches of one optimizer step on one rank.
        num_replicas: Number of ranks.
        group_by_chart: Whether questions on the same chart come together.
        shuffle: Whether every epoch has a new order; a stream keeps its own.
        drop_last: Whether to leave out the last, incomplete round of batches.
        seed: Seed of the order.
        stored_images: Whether the collator opens the images of a `datasets.Dataset` itself, see `KeyedRows`; a stream
            always decodes its images.
        **loader_arguments: Other arguments of `DataLoader`.
    """
    loader_arguments["generator"] = torch.Generator().manual_seed(seed)
    if not hasattr(records, "__len__"):
        # Workers would change the order of a stream: the process itself reads it.
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
