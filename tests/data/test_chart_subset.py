"""A subset has whole charts, the nearest number of rows, and the sources of the whole in their proportion."""

from __future__ import annotations

import random
from collections import Counter
from itertools import combinations

import pytest

from chartqa_ft.data import chart_subset as module
from chartqa_ft.data.chart_subset import chart_subset
from chartqa_ft.data.splitting import subset_rows


def rows_on(*sizes: int, source: str = "human", start: int = 0) -> tuple[list[str], list[str]]:
    """Sources and chart ids of charts with so many questions each."""
    charts = [f"{number}.png" for number, size in enumerate(sizes, start) for _ in range(size)]
    return [source] * len(charts), charts


def is_whole(chosen: list[int], charts: list[str]) -> bool:
    there = {charts[row] for row in chosen}
    return [row for row, chart in enumerate(charts) if chart in there] == chosen


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("sizes", "n", "number"),
    [
        ([2, 2, 2, 2], 4, 4),
        ([2, 2, 2, 2], 5, 4),  # six are as near: the smaller number
        ([3, 3, 2, 2], 4, 4),  # not one of three, after which nothing fits
        ([3, 3, 3, 4], 8, 7),
        ([5, 5, 5], 3, 5),  # nearer than none
        ([1, 9, 9, 9], 10, 10),
        ([4, 4, 4, 4], 15, 16),  # all, of more than asked for
    ],
)
def test_the_number_of_rows_is_the_nearest(sizes, n, number, seed):
    sources, charts = rows_on(*sizes)
    chosen = chart_subset(sources, charts, n, seed=seed)
    assert len(chosen) == number
    assert is_whole(chosen, charts)


def test_no_choice_of_charts_is_nearer():
    draw = random.Random(0)
    for _ in range(200):
        sizes = [draw.randint(1, 6) for _ in range(draw.randint(1, 8))]
        target = draw.randint(1, sum(sizes))
        sums = {sum(some) for number in range(len(sizes) + 1) for some in combinations(sizes, number)}
        found = module._nearest(sizes, target)
        assert found == sorted(set(found))
        assert sum(sizes[place] for place in found) == min(sums, key=lambda total: (abs(total - target), total))


def test_large_subsets_are_exact_and_keep_the_sources():
    draw = random.Random(1)
    human = rows_on(*(draw.randint(1, 3) for _ in range(3000)))
    machine = rows_on(*(draw.randint(1, 4) for _ in range(1000)), source="augmented", start=3000)
    sources, charts = human[0] + machine[0], human[1] + machine[1]
    total, share = len(sources), len(human[0]) / len(sources)
    for n in (100, 1001, total // 2, total - 7):
        chosen = chart_subset(sources, charts, n)
        assert len(chosen) == n
        assert is_whole(chosen, charts)
        assert abs(Counter(sources[row] for row in chosen)["human"] - share * n) < 1


def test_what_one_source_lacks_goes_to_the_next():
    two, other = rows_on(*[2] * 5), rows_on(*[2] * 5, source="augmented", start=5)
    chosen = chart_subset(two[0] + other[0], two[1] + other[1], 10)
    assert len(chosen) == 10  # five of each are not whole: four and six
    assert sorted(Counter((two[0] + other[0])[row] for row in chosen).values()) == [4, 6]


def test_sources_count_however_they_are_written_and_charts_may_have_several():
    charts = [f"{number // 2}.png" for number in range(40)]
    sources = ["Human", " augmented"] * 10 + ["human "] * 20
    chosen = chart_subset(sources, charts, 12)
    assert is_whole(chosen, charts)
    assert Counter(row < 20 for row in chosen) == {True: 6, False: 6}


def test_the_seed_decides_and_every_chart_has_its_chance():
    sources, charts = rows_on(*[1, 2, 3] * 10)
    assert chart_subset(sources, charts, 12) == chart_subset(sources, charts, 12, seed=0)
    drawn = Counter(charts[row] for seed in range(200) for row in chart_subset(sources, charts, 12, seed=seed))
    assert len(drawn) == 30
    assert max(drawn[chart] / charts.count(chart) for chart in drawn) < 80  # 40 expected


def test_rows_without_charts_are_chosen_one_by_one():
    sources = ["human"] * 3 + ["augmented"] * 7
    assert chart_subset(sources, None, 4, seed=3) == subset_rows(sources, 4, seed=3)
    alone = chart_subset(sources, [None, ""] * 5, 4, seed=3)
    assert (len(alone), Counter(sources[row] for row in alone)) == (4, {"human": 1, "augmented": 3})


def test_a_chart_with_far_more_questions_than_the_subset_is_not_taken_whole():
    sources, charts = rows_on(1000, 900)
    assert len(chart_subset(sources, charts, 10)) == 10


def test_all_rows_if_there_are_no_more():
    sources, charts = rows_on(2, 1)
    assert chart_subset(sources, charts, 3) == chart_subset(sources, charts, 7) == [0, 1, 2]
