"""Data sets of a call: something else, or nothing, is named with the argument before anything is computed."""

from __future__ import annotations

import pytest
from datasets import Dataset, IterableDataset

from ...support.common import drawn_charts, trainer


def no_rows():
    yield from ()


CHARTS = drawn_charts().select(range(4))
NO_IDS = CHARTS.remove_columns("chart_id")


@pytest.mark.parametrize(
    ("records", "kind", "message"),
    [
        ("a.json", TypeError, "'a.json', the name of a data set: pass test_dataset=load_chartqa"),
        (5, TypeError, "is a int, not a data set"),
        (CHARTS[0], TypeError, r"is a single record: pass test_dataset=\[record\]"),
        (CHARTS[:], TypeError, "is a dict of columns"),
        ({"a": CHARTS}, ValueError, "pass one of its data sets, such as test_dataset=data.'a'"),
        (Dataset, TypeError, "is the class Dataset, not a data set"),
        ((row for row in CHARTS), ValueError, "can be read only once"),
        ([], ValueError, "is empty"),
    ],
)
def test_what_predict_cannot_answer_is_named(tmp_path, records, kind, message):
    with pytest.raises(kind, match=f"test_dataset.*{message}"):
        trainer(tmp_path).predict(records)


def test_empty_data_are_named_by_their_argument(tmp_path):
    stream = IterableDataset.from_generator(no_rows)
    run = trainer(tmp_path, records=stream)
    with pytest.raises(ValueError, match="train_dataset is empty"):
        run.train()
    for records, words in (([], "is empty"), (stream, "is empty"), ({"x": []}, "'x' is empty")):
        with pytest.raises(ValueError, match=f"eval_dataset: the evaluation data set {words}"):
            run.evaluate(records)


def test_grouping_without_ids_is_refused_only_if_it_was_asked_for(tmp_path):
    for records in (NO_IDS, list(NO_IDS), NO_IDS.with_transform(lambda batch: batch), NO_IDS.to_iterable_dataset()):
        (error,) = trainer(tmp_path, records=records, group_by_chart=True).check("train").errors
        assert error.name == "group_by_chart"
        assert "train_dataset has no chart_id: add a column chart_id" in str(error)
        assert trainer(tmp_path, records=records).check("train").ok
    for records in (CHARTS, CHARTS.to_iterable_dataset()):
        assert trainer(tmp_path, records=records, group_by_chart=True).check("train").findings == []
    made = NO_IDS.with_transform(lambda batch: {**batch, "chart_id": ["a"] * len(batch["question"])})
    (warning,) = trainer(tmp_path, records=made, group_by_chart=True).check("train").warnings
    assert "known only when it is read" in str(warning)


@pytest.mark.parametrize("kind", [list, Dataset.to_iterable_dataset, lambda records: records])
def test_too_few_records_for_a_batch_are_refused(tmp_path, kind):
    """A stream trained no step, and said nothing."""
    run = trainer(tmp_path, records=kind(drawn_charts().select(range(3))), dataloader_drop_last=True)
    with pytest.raises(ValueError, match="leaves no batch: the 3 records are fewer than the 4 rows"):
        run.train()
    enough = trainer(tmp_path, records=kind(drawn_charts().select(range(4))), dataloader_drop_last=True)
    assert enough.train().global_step == 1


@pytest.mark.parametrize("kind", [list, Dataset.from_list])
@pytest.mark.parametrize("call", ["check", "train"])
def test_a_chart_id_that_cannot_be_compared_is_named(tmp_path, kind, call):
    rows = [{**record, "chart_id": ["a"]} for record in drawn_charts().select(range(3))]
    with pytest.raises(
        TypeError, match=r"(row 0|train_dataset\[0\]): chart_id must be text or a number, got the list"
    ):
        getattr(trainer(tmp_path, records=kind(rows)), call)()


def test_predict_without_generated_answers_is_refused(tmp_path):
    records = drawn_charts().select(range(3))
    run = trainer(tmp_path, eval_dataset=records, predict_with_generate=False)
    with pytest.raises(ValueError, match=r"no answers with predict_with_generate=False: .* call evaluate\(\)"):
        run.predict(records)
    assert run.evaluate()["eval_loss"] > 0
