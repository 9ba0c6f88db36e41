"""A stratified subset has the right number of rows of every source."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from datasets import (
    Dataset,
)

from chartqa_ft.data.splitting import stratified_subset

from ..support.chart_records import (
    texts,
)


def sources(**counts: int) -> Dataset:
    names = [name for name, count in counts.items() for _ in range(count)]
    random.Random(0).shuffle(names)
    return Dataset.from_dict({"source": names, "row": list(range(len(names)))})


@pytest.mark.parametrize(
    ("counts", "n", "expected"),
    [
        ({"human": 50, "augmented": 50}, 10, {"human": 5, "augmented": 5}),
        ({"human": 74, "augmented": 209}, 100, {"human": 26, "augmented": 74}),  # 26.15, 73.85
        ({"a": 1, "b": 1, "c": 1}, 2, {"a": 1, "b": 1}),  # a tie: the first in the alphabet
        ({"a": 3, "b": 3, "c": 4}, 5, {"a": 2, "b": 1, "c": 2}),  # 1.5, 1.5, 2
        ({"human": 97, "augmented": 3}, 10, {"human": 10}),  # 9.7, 0.3
        ({"human": 6, "augmented": 14}, 0.25, {"human": 1, "augmented": 4}),  # 1.5, 3.5: a tie
        ({"human": 400, "augmented": 463}, 100, {"human": 46, "augmented": 54}),  # 46.35, 53.65
        ({"human": 3}, 1, {"human": 1}),
        ({"human": 40, "augmented": 60}, 0.001, {"augmented": 1}),  # at least one row
    ],
)
def test_stratified_subset_by_largest_remainder(counts, n, expected):
    dataset = sources(**counts)
    subset = stratified_subset(dataset, n)
    assert Counter(subset["source"]) == expected
    rows = texts(subset, "row")
    assert rows == sorted(set(rows))
    assert texts(stratified_subset(dataset, n), "row") == rows


def test_stratified_subset_draws_at_random_but_always_the_same():
    dataset = sources(human=30, augmented=70)
    assert texts(stratified_subset(dataset, 6), "row") != texts(stratified_subset(dataset, 6, seed=1), "row")
    drawn = Counter(row for seed in range(300) for row in texts(stratified_subset(dataset, 10, seed=seed), "row"))
    assert len(drawn) == 100
    assert max(drawn.values()) < 60  # 30 expected
    assert texts(stratified_subset(dataset, 6), "row") == texts(
        stratified_subset(dataset.with_format("torch"), 6), "row"
    )


def test_stratified_subset_edges():
    dataset = sources(human=3, augmented=4)
    for n in (7, 8, 1.0):
        assert stratified_subset(dataset, n) is dataset
    assert len(stratified_subset(dataset.remove_columns("source"), 2)) == 2
    for n in (0, -1, 0.0, 1.5, True):
        with pytest.raises(ValueError, match="n must be a number of rows"):
            stratified_subset(dataset, n)
    with pytest.raises(TypeError, match=r"use \.take\(n\)"):
        stratified_subset(dataset.to_iterable_dataset(), 2)
