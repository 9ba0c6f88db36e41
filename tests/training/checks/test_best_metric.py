"""`metric_for_best_model` is a metric that the records of the evaluation give, or is refused before the first step."""

from __future__ import annotations

import pytest

from chartqa_ft.training.checks.best_metric import check_best_metric, metrics_of_records

from ...support.common import drawn_charts, trainer

BEST = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}


def records(source, **changes):
    return [{**row, "source": source, **changes} for row in drawn_charts().select(range(2))]


def test_the_metrics_of_records_are_those_of_their_evaluation(tmp_path):
    for data in (records("human"), records("augmented") + records("human"), records(None, question_type="value")):
        metrics = trainer(tmp_path, eval_dataset=data).evaluate()
        names = [key for key in metrics if key.startswith("eval_relaxed_accuracy")]
        accuracies = [name for name in names if not name.endswith(("_ci_low", "_ci_high", "_confidence"))]
        assert [f"eval_{name}" for name in metrics_of_records(data)][1:] == accuracies
    assert metrics_of_records(records("human", answer=None)) == []
    assert metrics_of_records(drawn_charts().to_iterable_dataset()) is None
    assert metrics_of_records(drawn_charts().with_transform(lambda batch: batch)) is None


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("relaxed_accuracy_human", records("augmented")),
        ("eval_relaxed_accuracy_human_ci_low", records("augmented")),
        ("relaxed_accuracy_mean_of_splits", records("human")),
        ("relaxed_accuracy_type_count", records("human")),
        ("b_relaxed_accuracy_human", {"a": records("human"), "b": records("augmented")}),
        ("loss", records("human", answer=None)),
        ("relaxed_accuracy", records("human", answer="")),
    ],
)
def test_a_metric_that_the_records_do_not_give_is_refused(tmp_path, name, data):
    run = trainer(tmp_path, eval_dataset=data, metric_for_best_model=name, **BEST)
    with pytest.raises(ValueError, match=f"no evaluation has metric_for_best_model='{name}'"):
        run.train()
    assert run.state.global_step == 0


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("relaxed_accuracy_human", records("human") + records("human", answer=None)),
        ("relaxed_accuracy_human_ci_low", records("human")),
        ("share_percent", records("human")),
        ("b_relaxed_accuracy_human", {"a": records("augmented"), "b": records("human")}),
    ],
)
def test_a_metric_that_the_records_give_is_used(tmp_path, name, data):
    run = trainer(tmp_path, eval_dataset=data, metric_for_best_model=name, **BEST)
    run.train()
    assert run.state.best_metric is not None


@pytest.mark.parametrize("data", [None, {"val": None}], ids=["one data set", "a dict"])
@pytest.mark.parametrize("name", ["eval_runtime", "samples_per_second", "eval_val_steps_per_second"])
def test_times_choose_no_checkpoint(name, data):
    """Each process measures its own, so that they would disagree; a `compute_metrics` does not change that."""
    with pytest.raises(ValueError, match=f"metric_for_best_model='{name}' is a time"):
        check_best_metric(name, data, own_metrics=True)
