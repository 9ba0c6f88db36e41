"""Held-out charts: divide records so that no chart is on both sides."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from .chart_groups import chart_groups, content_key, stored_key

if TYPE_CHECKING:
    from datasets import Dataset


def split_by_chart(records: Dataset, held_out: float = 0.2, *, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Divide records into those to train on and those that score a model, charts drawn at random.

    A random split of questions would train on the charts that it scores on. Questions on one chart stay together, also
    where copies of its file have different names. The rows keep their order.

    Args:
        records: as `load_chartqa` gives them, with `image` and `chart_id`.
        held_out: share of the charts (not of the questions) to hold out, between 0 and 1; at least one chart.
        seed: of the draw; the same charts for the same records.

    Returns:
        `(train, held out)`.

    Raises:
        ValueError: `held_out` is no share, or there are fewer than two charts.
    """
    from datasets import Image

    if not 0 < held_out < 1:
        raise ValueError(f"held_out must be a share between 0 and 1, not {held_out}")
    groups = chart_groups(records)
    if groups is None:
        raise ValueError("records need the columns image and chart_id to be divided by chart, as load_chartqa gives")
    stored = records.select_columns(["image"]).cast_column("image", Image(decode=False))
    first_row = {group: row for row, group in reversed(list(enumerate(groups)))}
    content = {group: content_key(stored_key(stored[row]["image"])) for group, row in first_row.items()}
    charts = list(dict.fromkeys(content[group] for group in groups))
    if len(charts) < 2:
        raise ValueError(f"{len(charts)} different chart: to hold one out there must be two or more")
    number = min(max(1, round(held_out * len(charts))), len(charts) - 1)
    chosen = {charts[i] for i in random.Random(seed).sample(range(len(charts)), number)}
    sides = [content[group] in chosen for group in groups]
    return (
        records.select([row for row, side in enumerate(sides) if not side]),
        records.select([row for row, side in enumerate(sides) if side]),
    )


def stratified_subset(dataset: Dataset, n: int | float, *, seed: int = 0) -> Dataset:
    """A part of `dataset` with the same mix of sources, for cheap evaluations: always the same rows for one `seed`.

    Every source gets its share of the `n` rows, rounded by largest remainder (ties go to the source that comes first
    in the alphabet), drawn at random without replacement. The rows keep their order.

    Args:
        dataset: Rows with a `source` column; without one it is a plain random subset.
        n: How many rows (an int; all of them where there are fewer), or which share of them (a float, 0 < n <= 1).
        seed: Of the draw.

    Raises:
        ValueError: `n` is not positive, or a float above 1.
        TypeError: `dataset` is a stream, which has no length; use its `.take(n)`.
    """
    if not hasattr(dataset, "select"):
        raise TypeError(f"a {type(dataset).__name__} cannot be divided by source; use .take(n) on a stream")
    if isinstance(n, bool) or n <= 0 or (isinstance(n, float) and n > 1):
        raise ValueError(f"n must be a number of rows (int >= 1) or a share of them (float, 0 < n <= 1), not {n!r}")
    total = len(dataset)
    if isinstance(n, float):
        n = max(1, round(n * total))
    if n >= total:
        return dataset
    strata: dict[str, list[int]] = {}
    has_source = "source" in dataset.column_names
    sources = dataset.with_format(None).select_columns(["source"])["source"] if has_source else [""] * total
    for index, source in enumerate(sources):
        strata.setdefault(source, []).append(index)
    names = sorted(strata)
    sizes = {name: n * len(strata[name]) // total for name in names}
    by_remainder = sorted(names, key=lambda name: -(n * len(strata[name]) % total))
    for name in by_remainder[: n - sum(sizes.values())]:
        sizes[name] += 1
    draw = random.Random(seed)
    return dataset.select(sorted(index for name in names for index in draw.sample(strata[name], sizes[name])))
