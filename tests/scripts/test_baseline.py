"""`--baseline`: the untouched model is scored, the training stays the same, and the difference has its interval."""

from __future__ import annotations

import pytest
import torch

from chartqa_ft.metrics import compare_predictions
from chartqa_ft.metrics.predictions import read_predictions, write_predictions
from chartqa_ft.scripts.arguments import ModelArguments
from chartqa_ft.scripts.baseline import check_baseline, difference
from chartqa_ft.scripts.running import train_and_score

from ..support.common import drawn_charts, trainer
from ..support.launching import report, without_times

CHANGES = {"max_steps": 2, "learning_rate": 0.3, "optim": "sgd", "random_padding": True}


def trained(folder, **script):
    run = trainer(folder, eval_dataset=drawn_charts(3, seed=9), **CHANGES)
    before = {name: weight.clone() for name, weight in run.model.state_dict().items()}
    metrics = train_and_score(run, ModelArguments(**script))
    return run, before, metrics


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("baseline")
    return folder, trained(folder / "with", baseline=True), trained(folder / "without")


def test_the_training_does_not_depend_on_it(both):
    _, (run, before, metrics), (other, _, other_metrics) = both
    weights, others = run.model.state_dict(), other.model.state_dict()
    assert all(torch.equal(weight, others[name]) for name, weight in weights.items())
    assert not all(torch.equal(weight, before[name]) for name, weight in weights.items())
    assert without_times(metrics) == without_times(other_metrics)
    assert run.state.log_history[0]["loss"] == other.state.log_history[0]["loss"]


def test_the_answers_are_those_of_the_untouched_model(both):
    folder, (run, before, _), _ = both
    run.model.load_state_dict(before)
    run.evaluate(metric_key_prefix="again")
    (again,) = (folder / "with" / "predictions").glob("again-*.jsonl")
    assert read_predictions(again) == read_predictions(folder / "with" / "baseline.jsonl")


def test_scores_and_difference_are_in_the_report(both, capsys):
    folder, *_ = both
    numbers, other = report(folder / "with"), report(folder / "without")
    files = [folder / "with" / name for name in ("baseline.jsonl", "predictions.jsonl")]
    compared = compare_predictions(*files, interval="clustered")
    if compared["difference_ci_low"] == compared["difference_ci_high"]:  # no verdict has changed
        compared = compare_predictions(*files)
    assert numbers["baseline_relaxed_accuracy"] == compared["accuracy_a"]
    assert numbers["eval_relaxed_accuracy"] == compared["accuracy_b"]
    assert numbers["difference_relaxed_accuracy"] == compared["difference"]
    assert numbers["difference_relaxed_accuracy_ci_low"] == compared["difference_ci_low"]
    assert numbers["difference_relaxed_accuracy_ci_high"] == compared["difference_ci_high"]
    assert not any(name.startswith(("baseline", "difference")) for name in other)
    assert not (folder / "without" / "baseline.jsonl").exists()


def rows(texts: list[str], charts: list[str]) -> list[dict]:
    row = {"question": "How many?", "answer": "7"}
    return [
        {
            **row,
            "index": i,
            "chart_id": chart,
            "prediction": text,
            "correct": float(text == "7"),
            "source": ["human", "augmented"][i % 2],
        }
        for i, (text, chart) in enumerate(zip(texts, charts, strict=True))
    ]


def test_the_interval_accounts_for_charts(tmp_path):
    charts = ["a", "a", "a", "b", "b", "b", "c", "c", "d", "d"]
    before = write_predictions(rows(["1"] * 10, charts), tmp_path / "before.jsonl")
    after = write_predictions(rows(["7"] * 6 + ["1"] * 4, charts), tmp_path / "after.jsonl")
    numbers, table = difference(before, after)
    compared = compare_predictions(before, after, interval="clustered")
    assert numbers["difference_relaxed_accuracy"] == pytest.approx(0.6)
    assert numbers["difference_relaxed_accuracy_ci_low"] == compared["difference_ci_low"]
    assert compared["difference_ci_low"] < compare_predictions(before, after)["difference_ci_low"]
    lines = [" ".join(line.split()) for line in table.splitlines()]
    assert lines[0] == "questions before after difference 95 % interval p n"
    assert [line.split()[0] for line in lines[1:]] == ["augmented", "human", "all"]
    assert lines[-1].startswith("all 0.00 60.00 +60.00")


@pytest.mark.parametrize(
    ("before", "after", "charts"),
    [("17", "77", "aa"), ("1111", "1111", "aabb"), ("1111", "7777", "aabb")],
    ids=["one chart", "no change", "all alike"],
)
def test_an_interval_of_no_width_is_not_shown(tmp_path, before, after, charts):
    files = [
        write_predictions(rows([*texts], [*charts]), tmp_path / f"{name}.jsonl")
        for name, texts in (("before", before), ("after", after))
    ]
    numbers, _ = difference(*files)
    plain = compare_predictions(*files)
    assert numbers["difference_relaxed_accuracy"] == plain["difference"]
    assert numbers["difference_relaxed_accuracy_ci_low"] == plain["difference_ci_low"] < plain["difference_ci_high"]


def test_what_cannot_be_compared_is_refused_before_the_training(tmp_path):
    run = trainer(tmp_path, eval_dataset=drawn_charts(3, seed=9), write_predictions=False)
    with pytest.raises(SystemExit, match="error: --baseline compares the predictions"):
        train_and_score(run, ModelArguments(baseline=True))
    run = trainer(tmp_path, eval_dataset=drawn_charts(3, seed=9))
    run.is_deepspeed_enabled = True
    with pytest.raises(ValueError, match="chartqa-ft evaluate"):
        check_baseline(run)


def test_a_training_that_is_refused_ends_in_one_line(tmp_path):
    run = trainer(tmp_path, eval_dataset=drawn_charts(3, seed=9), warmup_steps=5)
    with pytest.raises(SystemExit, match="error: --warmup_steps 5 does not end within the 1 steps"):
        train_and_score(run, ModelArguments(check="False"))
