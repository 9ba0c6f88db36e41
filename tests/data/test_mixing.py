"""Mixtures of data sets: shares, whole charts, a reproducible order, and no chart of the evaluation."""

from __future__ import annotations

import logging
from collections import Counter

import pytest
from datasets import DatasetDict

from chartqa_ft.batching.sampler import ChartSampler
from chartqa_ft.data import chart_groups as grouping
from chartqa_ft.data import mix_datasets, synthetic_chartqa
from chartqa_ft.data.splitting import content_of_charts


def six_each(records):
    """Six questions of each chart, chart by chart."""
    rows: dict[str, list[int]] = {}
    for row, chart in enumerate(records["chart_id"]):
        rows.setdefault(chart, []).append(row)
    return records.select([row for own in rows.values() for row in own[:6]]).flatten_indices()


@pytest.fixture(scope="module")
def parts():
    """Two data sets of 10 and 4 charts, in which each chart has 6 questions; their charts have the same names."""
    large, small = six_each(synthetic_chartqa(10, seed=1)), six_each(synthetic_chartqa(4, seed=2))
    names = dict(zip(dict.fromkeys(small["chart_id"]), dict.fromkeys(large["chart_id"]), strict=False))
    return {"large": large, "small": small.map(lambda row: {"chart_id": names[row["chart_id"]]})}


def rows_of(mixed):
    """The questions of a mixture with their charts, in order."""
    return list(zip(content_of_charts(mixed), mixed["chart_id"], mixed["question"], mixed["answer"], strict=True))


def questions_from(parts, mixed):
    """How many questions of a mixture are from each part."""
    home = {content: name for name, part in parts.items() for content in content_of_charts(part)}
    return Counter(home[content] for content in content_of_charts(mixed))


@pytest.mark.parametrize(
    ("weights", "n", "questions"),
    [
        (None, None, {"large": 60, "small": 24}),
        ([5, 2], None, {"large": 60, "small": 24}),
        ([0.5, 0.5], None, {"large": 60, "small": 60}),
        ([1, 3], None, {"large": 60, "small": 180}),
        ([3, 1], None, {"large": 72, "small": 24}),
        ([0.7, 0.3], 60, {"large": 42, "small": 18}),
        ([1, 1000], 24, {"large": 6, "small": 24}),
    ],
)
def test_each_data_set_has_its_share_in_whole_charts(parts, weights, n, questions):
    mixed = mix_datasets(parts, weights, n=n)
    assert questions_from(parts, mixed) == questions
    assert mixed.features == parts["large"].features
    of_charts = Counter(mixed["chart_id"])
    assert set(of_charts.values()) == {6}
    assert len({(chart, content) for content, chart, *_ in rows_of(mixed)}) == len(of_charts)
    asked = {(content, *texts) for content, _, *texts in rows_of(mixed)}
    assert asked <= {(content, *texts) for part in parts.values() for content, _, *texts in rows_of(part)}
    if n is None:  # every chart comes k or k + 1 times
        copies = Counter(content for content, *_ in {(content, chart) for content, chart, *_ in rows_of(mixed)})
        for part in parts.values():
            found = [copies[content] for content in set(content_of_charts(part))]
            assert 1 <= min(found) <= max(found) <= min(found) + 1


def test_the_same_seed_gives_the_same_order_and_another_seed_another(parts):
    first, again, other = (mix_datasets(parts, [2, 1], n=60, seed=seed) for seed in (3, 3, 4))
    assert rows_of(first) == rows_of(again)
    assert rows_of(first) != rows_of(other)
    origin = [content in set(content_of_charts(parts["small"])) for content in content_of_charts(first)]
    assert origin not in (
        sorted(origin),
        sorted(origin, reverse=True),
    )  # mixed, also for a sampler that keeps the order


def test_a_selection_of_rows_is_mixed_as_its_rows_say(parts):
    chosen = {name: part.select(list(range(len(part)))[::-1]) for name, part in parts.items()}
    mixed = mix_datasets(chosen, [1, 3])
    assert questions_from(parts, mixed) == {"large": 60, "small": 180}
    images = {
        content: image.tobytes() for content, image in zip(content_of_charts(mixed), mixed["image"], strict=True)
    }
    for part in parts.values():
        for content, image in zip(content_of_charts(part)[::6], part[::6]["image"], strict=True):
            assert images[content] == image.tobytes()


def test_copies_of_a_question_are_in_different_charts_for_the_sampler(parts, caplog):
    mixed = mix_datasets(parts, [1, 3])
    charts = grouping.chart_groups(mixed)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(set(charts)) == len(mixed) // 6
    sampler = ChartSampler(len(mixed), charts=charts, batch_size=6, step_size=6)
    keys = list(sampler)
    for start in range(0, len(keys), 6):
        asked = [(mixed["question"][key.row], mixed["answer"][key.row]) for key in keys[start : start + 6]]
        assert len(set(asked)) == 6


def test_charts_of_the_evaluation_are_left_out_under_any_name(parts):
    evaluation = parts["large"].select(range(18)).map(lambda row: {"chart_id": f"other-{row['chart_id']}"})
    mixed = mix_datasets(parts, [1, 1], without=evaluation)
    held_out = set(content_of_charts(evaluation))
    assert len(held_out) == 3
    assert not held_out & set(content_of_charts(mixed))
    assert questions_from(parts, mixed) == {"large": 42, "small": 42}
    with pytest.raises(
        ValueError, match="small: nothing is left to train on, since all of its charts are evaluated on"
    ):
        mix_datasets(parts, without=parts["small"])


def test_columns_that_one_data_set_lacks_are_empty_there(parts):
    tables = parts["small"].add_column("task", ["table"] * 24)
    mixed = mix_datasets({"large": parts["large"], "small": tables})
    assert Counter(mixed["task"]) == {None: 60, "table": 24}


@pytest.mark.parametrize("weights", [[1], [1, 0], [1, -1], [1, float("nan")], [1, True], ["1", 1], 0.5, {"large": 1}])
def test_wrong_weights_are_refused(parts, weights):
    with pytest.raises(ValueError, match="weights must be one positive number for each of the 2 data sets, got"):
        mix_datasets(parts, weights)


def test_a_number_of_questions_is_the_most_and_never_repeats_more_than_without_it(parts):
    natural = mix_datasets(parts)
    assert len(mix_datasets(parts, n=10 * len(natural))) == len(natural)
    weighted = mix_datasets(parts, [1, 3])
    assert len(mix_datasets(parts, [1, 3], n=10 * len(weighted))) == len(weighted)
    for wrong in ("5", 2.5, True, 0):
        with pytest.raises(ValueError, match="n must be a positive number of questions"):
            mix_datasets(parts, n=wrong)


def test_ids_may_be_numbers_and_other_columns_must_be_alike(parts):
    one, two = parts.values()
    numbers = {name: i for i, name in enumerate(dict.fromkeys([*one["chart_id"], *two["chart_id"]]))}

    def numbered(records):
        ids = [numbers[name] % 3 for name in records["chart_id"]]
        return records.remove_columns("chart_id").add_column("chart_id", ids)

    mixed = mix_datasets({"one": numbered(one), "two": numbered(two)})
    assert len(mixed) == len(mix_datasets(parts))
    assert {"0", "1", "2"} < set(mixed["chart_id"])
    years = [one.add_column("year", [2000] * len(one)), two.add_column("year", ["2000"] * len(two))]
    with pytest.raises(ValueError, match=r"column 'year' is Value\('string'\) in two and Value\('int64'\) in one"):
        mix_datasets(dict(zip(("one", "two"), years, strict=True)))


@pytest.mark.parametrize("format", ["arrow", "pandas", "numpy"])
def test_charts_of_the_evaluation_are_left_out_whatever_the_format_is(parts, format):
    held_out = set(content_of_charts(parts["large"].select(range(18))))
    for given, evaluation in (
        (parts["large"].with_format(format), parts["large"].select(range(18))),
        (parts["large"], parts["large"].select(range(18)).with_format(format)),
        (parts["large"], parts["large"].select(range(18)).with_transform(lambda rows: {"n": rows["answer"]})),
    ):
        mixed = mix_datasets({"large": given}, without=evaluation)
        assert not held_out & set(content_of_charts(mixed))
        assert len(mixed) == 42


def test_a_transform_is_not_dropped_without_a_word(parts):
    with pytest.raises(
        ValueError, match=r"large has a transform, which the result would not have: apply it with \.map"
    ):
        mix_datasets({**parts, "large": parts["large"].with_transform(lambda rows: rows)})


def test_what_cannot_be_mixed_is_named(parts):
    large = parts["large"]
    for wrong, message in (
        ([large], "parts must be a dict of data sets by name, .* not a list"),
        ({"a": DatasetDict(train=large)}, "a must be a datasets.Dataset to be mixed, not a DatasetDict: pass one of"),
        ({"a": large.to_iterable_dataset()}, "a must be .* not a IterableDataset: load it without streaming"),
        ({"a": [large[0]]}, "a must be a datasets.Dataset to be mixed, not a list"),
    ):
        with pytest.raises(TypeError, match=message):
            mix_datasets(wrong)
    assert len(mix_datasets(DatasetDict(parts))) == len(mix_datasets(parts))
