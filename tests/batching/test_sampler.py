"""Order of rows: whole charts, exact batches, equal steps however they are split, every question once per epoch."""

from __future__ import annotations

from collections import Counter

import pytest

from chartqa_ft.batching.rows import RowKey
from chartqa_ft.batching.sampler import ChartSampler

CHARTS = ["a", "a", "b", "c", "c", "c", "d", "e", "e", "f", "g", "h", "h", "h", "i"]


def sampler(charts=CHARTS, **changes):
    settings = {"charts": charts, "batch_size": 4, "step_size": 8, "seed": 3}
    return ChartSampler(len(charts), **{**settings, **changes})


def rows(keys):
    return [key.row for key in keys]


def batches(items, size):
    return [items[i : i + size] for i in range(0, len(items), size)]


def test_order_without_shuffling_is_exact():
    keys = list(sampler(shuffle=False))
    # step 1 takes a, b, c, d and, for the last row, f; its batches hold a+b+d and c+f whole
    assert rows(keys) == [0, 1, 2, 6, 3, 4, 5, 9, 7, 8, 10, 14, 11, 12, 13]
    assert keys[0] == RowKey(row=0, epoch=0, counts=True)


def test_every_row_once_an_epoch_and_another_order_in_the_next():
    epochs = sampler()
    orders = []
    for epoch in range(3):
        epochs.set_epoch(epoch)
        keys = list(epochs)
        assert {key.epoch for key in keys} == {epoch}
        assert Counter(rows(keys)) == Counter(range(len(CHARTS)))
        orders.append(rows(keys))
    assert orders[0] != orders[1] != orders[2]
    epochs.set_epoch(1)
    assert rows(epochs) == orders[1]


def test_rows_of_a_step_do_not_depend_on_how_it_is_split():
    steps = {
        (size, ranks): [sorted(step) for step in batches(rows(sampler(batch_size=size, num_replicas=ranks))[:15], 8)]
        for size, ranks in [(8, 1), (4, 1), (2, 1), (1, 1), (4, 2)]
    }
    first = steps[8, 1]
    assert all(step == first for step in steps.values())


def test_charts_stay_whole_where_they_fit():
    charts = [f"chart {i // 2}" for i in range(64)]
    for batch in batches(rows(sampler(charts)), 4):
        assert all(count == 2 for count in Counter(charts[row] for row in batch).values())


def test_a_chart_larger_than_a_batch_is_split_and_loses_nothing():
    keys = list(sampler(["big"] * 11 + ["small"], batch_size=4, step_size=4))
    assert Counter(rows(keys)) == Counter(range(12))


def test_filler_rows_complete_the_round_of_all_ranks_and_count_for_nothing():
    keys = list(sampler(num_replicas=2))
    assert len(keys) == 16 == len(sampler(num_replicas=2))
    assert [key.counts for key in keys] == [True] * 15 + [False]
    assert Counter(rows(keys[:15])) == Counter(range(15))
    tiny = list(ChartSampler(1, charts=None, batch_size=2, step_size=4, num_replicas=2))
    assert [key.counts for key in tiny] == [True, False, False, False]


def test_drop_last_leaves_out_the_incomplete_round():
    keys = list(sampler(num_replicas=2, drop_last=True))
    assert len(keys) == 8 == len(sampler(num_replicas=2, drop_last=True))
    assert all(key.counts for key in keys)


def test_without_charts_rows_are_shuffled_one_by_one():
    keys = rows(ChartSampler(100, charts=None, batch_size=4, step_size=8, seed=1))
    assert sorted(keys) == list(range(100)) != keys


def test_a_step_that_batches_cannot_fill_is_refused():
    with pytest.raises(ValueError, match="step_size=6 is not a multiple of 4 rows on 1 ranks"):
        sampler(step_size=6)


def test_rows_without_a_chart_id_are_charts_of_their_own():
    assert sampler(["a", None, "a", None, "", ""], batch_size=2, step_size=2).groups == [[0, 2], [1], [3], [4], [5]]


def test_rows_that_follow_one_another_are_kept_as_a_range():
    grouped = sampler(["a", "a", "b", "a", "c", "c", "b"], batch_size=2, step_size=2)
    assert grouped.groups == [[0, 1, 3], [2, 6], [4, 5]]
    assert grouped._groups[-1] == range(4, 6)
    assert sampler([0, 0, 1, "", None], batch_size=2, step_size=2)._groups == [
        range(2),
        range(2, 3),
        range(3, 4),
        range(4, 5),
    ]
