"""What decides about the rows of each optimizer step, which a resumed run must have in common with the first one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..batching.sampler import ChartSampler
from ..batching.streams import StreamSampler

__all__ = ["changed_order", "order_of"]

_NAMES = {
    "records": "the number of records in train_dataset",
    "charts": "the number of groups of questions (group_by_chart, chart_id)",
    "rows_per_step": "the number of rows of a step (per_device_train_batch_size x gradient_accumulation_steps x "
    "processes)",
    "rows_per_round": "the number of rows of a batch of all processes, with dataloader_drop_last",
    "drop_last": "dataloader_drop_last",
    "shuffle": "train_sampling_strategy='random'",
    "seed": "the seed of the order (data_seed, or seed)",
    "padding_seed": "the seed of random_padding",
}
"""What `order_of` returns -> what messages call it."""


def order_of(sampler: Any, collate: Any) -> dict[str, Any] | None:
    """Return what decides about the rows of each step, as JSON types; `None` for the samplers of others.

    How the rows of a step are divided into batches and among processes does not matter, and is left out.

    Args:
        sampler: the sampler of a training loader.
        collate: its collator.

    Example:
        >>> sampler = ChartSampler(8, charts=None, batch_size=2, step_size=4, shuffle=False)
        >>> order_of(sampler, list)
        {'rows_per_step': 4, 'drop_last': False, 'records': 8, 'charts': 8, 'shuffle': False}
    """
    if not isinstance(sampler, (ChartSampler, StreamSampler)):
        return None
    together = sampler.batch_size * sampler.num_replicas
    rows = sampler.step_size if isinstance(sampler, ChartSampler) else together * sampler.accumulation
    order: dict[str, Any] = {"rows_per_step": rows, "drop_last": sampler.drop_last}
    if sampler.drop_last:
        order["rows_per_round"] = together
    if isinstance(sampler, ChartSampler):
        order |= {"records": sampler.num_rows, "charts": len(sampler.groups), "shuffle": sampler.shuffle}
        if sampler.shuffle:
            order["seed"] = sampler.seed
    if getattr(collate, "random_padding", None) == "seeded":
        order["padding_seed"] = collate.seed
    return order


def changed_order(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield what differs between the order of a checkpoint and that of a resumed run, as phrases.

    Settings that only one of them has are compared only for the data: whether they are a stream.

    Example:
        >>> list(changed_order({"rows_per_step": 8, "seed": 1}, {"rows_per_step": 8, "seed": 2}))
        ['the seed of the order (data_seed, or seed) was 1 and is 2']
    """
    if ("records" in before) != ("records" in now):
        kinds = ("a stream", "a data set with a length")
        yield f"train_dataset was {kinds['records' in before]} and is {kinds['records' in now]}"
    for name, what in _NAMES.items():
        if name in before and name in now and before[name] != now[name]:
            yield f"{what} was {before[name]} and is {now[name]}"
