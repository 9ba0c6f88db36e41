"""Mix several data sets by weight: whole charts, in an order that depends on a seed alone."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .chart_groups import has_chart
from .splitting import content_of_charts
from .stored_columns import check_no_transform, column_values

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

__all__ = ["mix_datasets"]


def mix_datasets(
    parts: Mapping[str, Dataset],
    weights: Sequence[float] | None = None,
    *,
    n: int | None = None,
    seed: int = 0,
    without: Dataset | None = None,
) -> Dataset:
    """Mix data sets so that each has its share of the questions.

    Charts are drawn whole, with all their questions. A data set that has fewer questions than its share is repeated:
    every chart comes `k` or `k + 1` times. Of one that has more, charts are drawn without replacement. All charts are
    then put into a random order. The same data sets, weights and seed always give the same rows in the same order, on
    any number of processes. Images are not decoded.

    Args:
        parts: Name -> records as `load_chartqa` returns them, with the columns `image` and `chart_id`.
        weights: The weight of each data set, in the same order; only their ratios count. `None` takes every chart
            once.
        n: Largest number of questions of the mixture, which whole charts may exceed a little. `None`, and at most: the
            smallest number with which every chart comes at least once.
        seed: Seed of the draw and of the order.
        without: Records, such as those of an evaluation, whose charts are left out, even if their files have other
            names. Charts are compared by the bytes of their files.

    Returns:
        The mixture. So that no two charts share an id, and repeated questions get into different batches, a number is
        added to `chart_id` where another chart or another copy of the chart already has it: `"a.png (2)"`.

    Raises:
        ValueError: There is no data set, the weights are not one positive number for each, `n` is not a positive whole
            number, no chart of a data set is left, a column has another type in another data set, or a data set has a
            transform (`with_transform`).
        TypeError: `parts` is no dict of `datasets.Dataset`.

    Example:
        >>> from chartqa_ft import synthetic_chartqa
        >>> small, large = synthetic_chartqa(2, seed=0), synthetic_chartqa(12, seed=1)
        >>> mixed = mix_datasets({"small": small, "large": large}, [1, 3])
        >>> len(small), len(large), len(mixed), len(set(mixed["chart_id"]))
        (18, 107, 143, 16)
    """
    from datasets import concatenate_datasets

    _check_parts(parts)
    shares = _shares(parts, weights)
    parts = _alike(parts)
    held_out = set() if without is None else set(content_of_charts(without))
    charts = {name: _charts(name, records, held_out) for name, records in parts.items()}
    sizes = {name: sum(map(len, groups)) for name, groups in charts.items()}
    if n is not None and (isinstance(n, bool) or not isinstance(n, int) or n < 1):
        raise ValueError(f"n must be a positive number of questions, got {n!r}")
    if shares is None:
        shares = {name: size / sum(sizes.values()) for name, size in sizes.items()}
    total = max(size / shares[name] for name, size in sizes.items())
    total = total if n is None else min(n, total)
    used: set[str] = set()
    tables: list[Dataset] = []
    chosen: list[list[int]] = []
    start = 0
    for number, (name, table) in enumerate(parts.items()):
        copies = _draw(charts[name], round(total * shares[name]), random.Random(f"{seed}/{number}"))
        ids = list(column_values(table, "chart_id"))
        records = table
        for drawn in copies:
            new_ids = _unique_ids(ids, [row for group in drawn for row in group], used)
            if new_ids != ids:
                records = _with_ids(records, new_ids)
            tables.append(records)
            chosen += [[start + row for row in group] for group in drawn]
            start += len(records)
        questions = sum(len(group) for drawn in copies for group in drawn)
        facts = name, questions, len(charts[name]), questions / sizes[name]
        logger.info("%s: %d questions; each of its %d charts comes %.3g times on average", *facts)
    random.Random(f"{seed}/order").shuffle(chosen)
    return concatenate_datasets(tables).select([row for group in chosen for row in group])


def _check_parts(parts: Any) -> None:
    from datasets import Dataset, IterableDataset

    if not isinstance(parts, Mapping):
        raise TypeError(
            f"parts must be a dict of data sets by name, {{'charts': records}}, not a {type(parts).__name__}"
        )
    if not parts:
        raise ValueError("there is no data set to mix")
    for name, records in parts.items():
        if not isinstance(records, Dataset):
            advice = ": pass one of its splits" if isinstance(records, Mapping) else ""
            advice = ": load it without streaming" if isinstance(records, IterableDataset) else advice
            raise TypeError(f"{name} must be a datasets.Dataset to be mixed, not a {type(records).__name__}{advice}")
        check_no_transform(records, name)


def _shares(parts: Mapping[str, Any], weights: Sequence[float] | None) -> dict[str, float] | None:
    """Return the share of each data set, 0 to 1; `None` without weights."""
    if weights is None:
        return None
    given = list(weights) if isinstance(weights, Iterable) and not isinstance(weights, Mapping) else []
    good = all(
        isinstance(weight, (int, float)) and not isinstance(weight, bool) and math.isfinite(weight) and weight > 0
        for weight in given
    )
    if len(given) != len(parts) or not good or not math.isfinite(sum(given)):
        shown = given or weights
        raise ValueError(f"weights must be one positive number for each of the {len(parts)} data sets, got {shown}")
    return {name: weight / sum(given) for name, weight in zip(parts, given, strict=True)}


def _alike(parts: Mapping[str, Dataset]) -> dict[str, Dataset]:
    """Return the data sets with ids that are text, after their columns were compared."""
    from datasets import Value

    first: dict[str, tuple[str, Any]] = {}
    found = {}
    for name, given in parts.items():
        has_text = given.features.get("chart_id", Value("string")) == Value("string")
        records = given if has_text else given.cast_column("chart_id", Value("string"))
        for column, feature in records.features.items():
            where, other = first.setdefault(column, (name, feature))
            if other != feature:
                raise ValueError(
                    f"column {column!r} is {feature} in {name} and {other} in {where}: cast one of them, as with "
                    "records.cast_column, or remove the column"
                )
        found[name] = records
    return found


def _charts(name: str, records: Dataset, held_out: set[Hashable]) -> list[list[int]]:
    """Return the rows of each chart that is not held out, in the order of their first rows."""
    rows_of: dict[Hashable, list[int]] = {}
    for row, content in enumerate(content_of_charts(records)):
        rows_of.setdefault(content, []).append(row)
    left = [rows for content, rows in rows_of.items() if content not in held_out]
    if not left:
        reason = "all of its charts are evaluated on" if rows_of else "it has no records"
        raise ValueError(f"{name}: nothing is left to train on, since {reason}")
    if len(left) < len(rows_of):
        logger.info("%s: %d charts are left out, which are evaluated on", name, len(rows_of) - len(left))
    return left


def _draw(charts: Sequence[list[int]], questions: int, generator: random.Random) -> list[list[list[int]]]:
    """Draw charts until they have as near to `questions` questions as whole charts come, at least one chart.

    Returns:
        The charts of each copy of the data set: all of them, but for the last copy.
    """
    copies: list[list[list[int]]] = []
    while True:
        drawn: list[list[int]] = []
        for chart in generator.sample(charts, len(charts)):
            if (copies or drawn) and 2 * questions < len(chart):  # without it, the number is nearer
                return [*copies, drawn] if drawn else copies
            drawn.append(chart)
            questions -= len(chart)
        copies.append(drawn)


def _unique_ids(ids: Sequence[Any], rows: Sequence[int], used: set[Any]) -> list[Any]:
    """Return ids in which those of some rows are not used yet, and add them to `used`.

    Example:
        >>> _unique_ids(["a.png", "b.png"], [0, 1], {"a.png"})
        ['a.png (2)', 'b.png']
    """
    new: dict[Any, Any] = {}
    for row in rows:
        name, number = ids[row], 1
        if name in new or not has_chart(name):
            continue
        new[name] = name
        while new[name] in used:
            number += 1
            new[name] = f"{name} ({number})"
        used.add(new[name])
    return [new.get(name, name) for name in ids]


def _with_ids(records: Dataset, ids: Sequence[Any]) -> Dataset:
    """Return records with another column of ids. Images are copied only if the records are a selection of rows."""
    columns = records.column_names
    others = records.remove_columns("chart_id")
    feature = records.features["chart_id"]
    return others.add_column("chart_id", list(ids), feature=feature).select_columns(columns)
