"""A subset of whole charts with the same mix of sources, for cheap evaluations."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from .chart_groups import has_chart
from .splitting import one_source, shares, subset_rows

_EXACT = 64
"""Number of rows that are chosen exactly, at the end. Those before are taken as they are drawn."""


def chart_subset(sources: Sequence[Any], charts: Sequence[Any] | None, n: int, *, seed: int = 0) -> list[int]:
    """Choose rows as `stratified_subset` does, but all questions on a chart or none of them.

    An evaluation encodes a chart once for all of its questions, so that whole charts cost less than as many single
    questions. The charts of every source are drawn at random, until the source has its share of the `n` rows, or as
    near to it as whole charts come; the last ones are chosen for that. What a source lacks is added to the share of
    the next. Charts with questions of several sources count as a source of their own.

    Args:
        sources: The source of every row.
        charts: The `chart_id` of every row; a row with `None` or "" is a chart of its own. `None` if there are none.
        n: Number of rows.
        seed: Seed of the random choice; the same seed always chooses the same rows.

    Returns:
        The numbers of the rows in ascending order: all rows if there are no more than `n`. With one source their
        number is the nearest to `n`, of two that are equally near the smaller one; with several it is near `n`. Where
        each chart has so many questions that no chart is nearer to `n` than one, and where there are no charts, there
        are `n` rows, as in `stratified_subset`.

    Example:
        >>> chart_subset(["human"] * 5, ["a", "a", "b", "b", "c"], 3, seed=1)
        [2, 3, 4]
        >>> chart_subset(["human"] * 4, ["a", "a", "b", "b"], 3)  # two rows are as near as four
        [0, 1]
    """
    if n >= len(sources):
        return list(range(len(sources)))
    if charts is None:
        return subset_rows(sources, n, seed=seed)
    rows_of: defaultdict[Any, list[int]] = defaultdict(list)
    for row, chart in enumerate(charts):
        rows_of[("chart", chart) if has_chart(chart) else row].append(row)
    strata: defaultdict[tuple[str, ...], list[list[int]]] = defaultdict(list)
    for rows in rows_of.values():
        strata[tuple(sorted({one_source(sources[row]) for row in rows}))].append(rows)
    totals = {names: sum(map(len, strata[names])) for names in sorted(strata)}
    wanted = shares(totals, n)
    generator = random.Random(seed)
    chosen: list[int] = []
    lacking = 0
    # The largest source comes last, as it has the most choice.
    for names in sorted(totals, key=lambda names: (totals[names], names)):
        drawn = generator.sample(strata[names], len(strata[names]))
        lacking += wanted[names]
        rows = [row for place in _nearest([*map(len, drawn)], lacking) for row in drawn[place]]
        lacking -= len(rows)
        chosen += rows
    return sorted(chosen) or subset_rows(sources, n, seed=seed)


def _nearest(sizes: Sequence[int], target: int) -> list[int]:
    """Return the places of some sizes whose sum is as near to `target` as possible, the first ones where they can be.

    Example:
        >>> _nearest([3, 3, 2, 2], 4)
        [2, 3]
    """
    total = sum(sizes)
    if target > total - target:  # choose what is left out, so that there is as much choice at the end
        left_out = set(_within(sizes, total - target, above=True))
        return [place for place in range(len(sizes)) if place not in left_out]
    return _within(sizes, target)


def _within(sizes: Sequence[int], target: int, *, above: bool = False) -> list[int]:
    """Return places as `_nearest` does. Of two sums that are equally near it takes the smaller, or that `above`."""
    taken, rest = [], []
    for place, size in enumerate(sizes):
        if target > _EXACT and size <= target:
            taken.append(place)
            target -= size
        elif size <= 2 * target:  # a larger one is farther from the target than none
            rest.append(place)
    if target <= 0:
        return taken
    # Bit s of reached[i] says whether some of the sizes from i on have the sum s.
    reached = [1]
    for place in reversed(rest):
        reached.append((reached[-1] | reached[-1] << sizes[place]) & ((1 << 2 * target + 1) - 1))
    sums = [number for number in range(2 * target + 1) if reached[-1] >> number & 1]
    left = min(sums, key=lambda number: (abs(number - target), -number if above else number))
    for place in rest:
        reached.pop()
        if left >= sizes[place] and reached[-1] >> left - sizes[place] & 1:
            taken.append(place)
            left -= sizes[place]
    return sorted(taken)
