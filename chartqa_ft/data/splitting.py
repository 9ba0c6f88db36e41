"""Parts of a dataset: a split by chart for evaluation, and a smaller subset with the same mix of sources."""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from .chart_groups import chart_groups, content_key, stored_key
from .stored_columns import column_values

if TYPE_CHECKING:
    from datasets import Dataset

_Name = TypeVar("_Name", bound=Hashable)


def split_by_chart(records: Dataset, held_out: float = 0.2, *, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Split records into a training set and a held-out set so that no chart is in both.

    A random split of questions would put questions on the same chart on both sides. Here all questions on a chart stay
    together, even if copies of its file have different names. The rows keep their order.

    Args:
        records: A dataset as `load_chartqa` returns it, with the columns `image` and `chart_id`.
        held_out: Fraction of the charts (not of the questions) to hold out, between 0 and 1; at least one chart.
        seed: Seed of the random choice; the same seed chooses the same charts of the same records.

    Returns:
        `(train, held out)`.

    Raises:
        ValueError: `held_out` is not between 0 and 1, there are fewer than two charts, or a column is missing.

    Example:
        >>> from chartqa_ft import synthetic_chartqa
        >>> from chartqa_ft.data import split_by_chart
        >>> train, held_out = split_by_chart(synthetic_chartqa(5, seed=0), 0.2)
        >>> len(set(train["chart_id"])), len(set(held_out["chart_id"]))
        (4, 1)
    """
    if isinstance(held_out, bool) or not isinstance(held_out, int | float) or not 0 < held_out < 1:
        raise ValueError(f"held_out must be a share between 0 and 1, not {held_out!r}")
    content = content_of_charts(records)
    charts = list(dict.fromkeys(content))
    if len(charts) < 2:
        raise ValueError(f"{len(charts)} different chart(s): at least two are needed to hold one out")
    number = min(max(1, round(held_out * len(charts))), len(charts) - 1)
    return _split(records, content, {charts[i] for i in random.Random(seed).sample(range(len(charts)), number)})


def split_by_chart_id(records: Dataset, held_out: Iterable[str]) -> tuple[Dataset, Dataset]:
    """Split records into a training set and a held-out set of given charts, so that no chart is in both.

    Args:
        records: A dataset as `load_chartqa` returns it, with the columns `image` and `chart_id`.
        held_out: The `chart_id` of each chart to hold out. Copies of such a chart that have other names are held out
            too. Ids that no record has are ignored.

    Returns:
        `(train, held out)`; either may be empty.

    Raises:
        ValueError: A column is missing.

    Example:
        >>> from chartqa_ft import synthetic_chartqa
        >>> records = synthetic_chartqa(3, seed=0)
        >>> train, held_out = split_by_chart_id(records, [records["chart_id"][0]])
        >>> set(held_out["chart_id"]) == {records["chart_id"][0]}, len(set(train["chart_id"]))
        (True, 2)
    """
    content = content_of_charts(records)
    names = set(held_out)
    ids = column_values(records, "chart_id")
    return _split(records, content, {content[row] for row, name in enumerate(ids) if name in names})


def content_of_charts(records: Dataset) -> list[Hashable]:
    """Return for every row what tells its chart from others, whatever its file is called."""
    from datasets import Image

    if not hasattr(records, "select_columns") or not hasattr(records, "select"):
        raise TypeError(f"records must be a datasets.Dataset to be split by chart, not a {type(records).__name__}")
    groups = chart_groups(records)
    if groups is None:
        raise ValueError("records need the columns image and chart_id to be split by chart; load_chartqa returns them")
    # Without a format: with that of pandas or Arrow, or with a transform, a row is not a dict of what is stored.
    stored = records.with_format(None).select_columns(["image"]).cast_column("image", Image(decode=False))
    first_row = {group: row for row, group in reversed(list(enumerate(groups)))}
    content = {group: content_key(stored_key(stored[row]["image"])) for group, row in first_row.items()}
    return [content[group] for group in groups]


def _split(records: Dataset, content: list[Hashable], chosen: set[Hashable]) -> tuple[Dataset, Dataset]:
    """Return the rows whose chart is not chosen, and those whose chart is."""
    return (
        records.select([row for row, chart in enumerate(content) if chart not in chosen]),
        records.select([row for row, chart in enumerate(content) if chart in chosen]),
    )


def stratified_subset(dataset: Dataset, n: int | float, *, seed: int = 0) -> Dataset:
    """Choose a random subset with the same mix of sources, for cheap evaluations.

    Every source gets its share of the `n` rows, rounded by the largest remainder method (ties go to the source that
    comes first in the alphabet). Its rows are drawn without replacement and keep their order. The same `seed` always
    chooses the same rows.

    Args:
        dataset: Rows with a `source` column; without that column, the subset is purely random.
        n: Number of rows (an int; all rows if there are fewer), or fraction of the rows (a float, 0 < n <= 1).
        seed: Seed of the random choice.

    Returns:
        The chosen rows; `dataset` itself if all are chosen.

    Raises:
        ValueError: `n` is not positive, or is a float above 1.
        TypeError: `dataset` is a stream, which has no length; use its `.take(n)`.

    Example:
        >>> from datasets import Dataset
        >>> from chartqa_ft import stratified_subset
        >>> dataset = Dataset.from_dict({"source": ["human"] * 25 + ["augmented"] * 75})
        >>> subset = stratified_subset(dataset, 8)
        >>> [subset["source"].count(source) for source in ("human", "augmented")]
        [2, 6]
    """
    if not hasattr(dataset, "select"):
        raise TypeError(f"cannot choose a subset of a {type(dataset).__name__}; use .take(n) on a stream")
    is_number = isinstance(n, int | float) and not isinstance(n, bool)
    if not is_number or not n > 0 or (isinstance(n, float) and n > 1):
        raise ValueError(f"n must be a number of rows (int >= 1) or a fraction of them (float, 0 < n <= 1), not {n!r}")
    total = len(dataset)
    if isinstance(n, float):
        n = max(1, round(n * total))
    if n >= total:
        return dataset
    has_source = "source" in dataset.column_names
    sources = column_values(dataset, "source") if has_source else [""] * total
    return dataset.select(subset_rows(sources, n, seed=seed))


def subset_rows(sources: Iterable[Any], n: int, *, seed: int) -> list[int]:
    """Return the rows that `stratified_subset` chooses, given the source of every row; `n` is at most their number."""
    strata: dict[str, list[int]] = {}
    for index, source in enumerate(sources):
        strata.setdefault(one_source(source), []).append(index)
    names = sorted(strata)
    sizes = shares({name: len(strata[name]) for name in names}, n)
    generator = random.Random(seed)
    return sorted(index for name in names for index in generator.sample(strata[name], sizes[name]))


def one_source(source: Any) -> str:
    """Return the name by which a source is counted: "Human" and " human" are one source, as for the metric."""
    return str(source or "").strip().lower()


def shares(totals: Mapping[_Name, int], n: int) -> dict[_Name, int]:
    """Return the share of each part in `n`, by the largest remainder method; ties go to the part that comes first.

    Example:
        >>> shares({"augmented": 209, "human": 74}, 100)
        {'augmented': 74, 'human': 26}
    """
    total = sum(totals.values())
    sizes = {name: n * size // total for name, size in totals.items()}
    by_remainder = sorted(totals, key=lambda name: -(n * totals[name] % total))
    for name in by_remainder[: n - sum(sizes.values())]:
        sizes[name] += 1
    return sizes
