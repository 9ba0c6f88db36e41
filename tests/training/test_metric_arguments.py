"""`metric_extract` and `metric_interval`: refused by name, used by evaluations, and stored with their scores."""

from __future__ import annotations

import json

import pytest

from chartqa_ft.evaluation.report import find_predictions, write_metrics
from chartqa_ft.evaluation.results import SCORES_NAME, read_scores, write_scores
from chartqa_ft.metrics import EXTRACTORS, compare_predictions, read_predictions
from tests.support.common import arguments, drawn_charts, tiny, trainer


def seven(text: str) -> str | None:
    """Any text is the answer 7."""
    return "7"


NAME = f"{__name__}.seven"


@pytest.mark.parametrize("extract", ["boxd", "", "Boxed", 7])
def test_an_unknown_extraction_is_refused_at_construction(tmp_path, extract):
    with pytest.raises(ValueError, match="unknown extraction") as error:
        arguments(tmp_path, metric_extract=extract)
    assert all(name in str(error.value) for name in EXTRACTORS)


@pytest.mark.parametrize("interval", ["wald", "newcombe", None, ""])
def test_an_unknown_interval_is_refused_at_construction(tmp_path, interval):
    with pytest.raises(ValueError, match="metric_interval must be one of wilson, bootstrap, clustered"):
        arguments(tmp_path, metric_interval=interval)


@pytest.mark.parametrize("variant", ["decimal_comma", "detect_decimal_comma"])
def test_the_variants_of_decimal_commas_are_accepted(tmp_path, variant):
    assert arguments(tmp_path, metric_variant=variant).metric_variant == variant


@pytest.mark.parametrize(("extract", "name"), [(None, None), ("boxed", "boxed"), (seven, NAME)])
def test_arguments_stay_json(tmp_path, extract, name):
    args = arguments(tmp_path, metric_extract=extract)
    assert json.loads(args.to_json_string())["metric_extract"] == name
    assert args.to_sanitized_arguments()["metric_extract"] == name
    args.save_json(tmp_path / "arguments.json")
    assert json.loads((tmp_path / "arguments.json").read_text())["metric_extract"] == name
    assert args.metric_extract is extract


def test_extracted_answers_are_scored_and_stored(tmp_path):
    rows = [{**row, "answer": "7"} for row in drawn_charts().select(range(4))]
    plain = trainer(tmp_path / "plain", model=tiny()[0])
    before = plain.evaluate(rows)
    run = trainer(tmp_path / "extracted", model=tiny()[0], metric_extract=seven)
    metrics = run.evaluate(rows)
    assert metrics["eval_relaxed_accuracy"] == metrics["eval_share_extracted"] == 1.0
    assert metrics["eval_loss"] == pytest.approx(before["eval_loss"], abs=1e-6)
    assert "eval_share_extracted" not in before
    (result,) = run.scores.values()
    lines, raw = (read_predictions(next(iter(r.scores.values())).predictions) for r in (run, plain))
    assert [line["prediction"] for line in lines] == [line["prediction"] for line in raw]
    assert [line["extracted"] for line in lines] == ["7"] * 4
    assert "extracted" not in raw[0]
    with pytest.raises(ValueError, match="answers were extracted in 4 of 4 records of a and 0 of 4 of b"):
        compare_predictions(result.predictions, next(iter(plain.scores.values())).predictions)
    assert (result.extract, result.interval) == (NAME, "wilson")
    content = json.loads(write_metrics(tmp_path, result).read_text())
    assert content["extract"] == NAME
    assert "interval" not in content
    moved = tmp_path / "predictions.jsonl"
    result.predictions.rename(moved)
    assert find_predictions(result, tmp_path) == moved


def test_clustered_intervals_of_an_evaluation(tmp_path):
    run = trainer(tmp_path, model=tiny()[0], metric_interval="clustered")
    rows = drawn_charts()
    metrics = run.evaluate(rows)
    assert metrics["eval_n_charts"] == len(set(rows["chart_id"])) < len(rows)
    assert all(isinstance(value, (int, float)) for value in metrics.values())
    (result,) = run.scores.values()
    assert result.interval == "clustered"
    assert json.loads(write_metrics(tmp_path, result).read_text())["interval"] == "clustered"
    write_scores({0: result}, tmp_path, run.args.output_dir)
    (again,) = read_scores(tmp_path, run.args.output_dir).values()
    assert (again.extract, again.interval) == (None, "clustered")
    # files of earlier releases have neither
    entries = json.loads((tmp_path / SCORES_NAME).read_text())
    for entry in entries:
        del entry["extract"], entry["interval"]
    (tmp_path / SCORES_NAME).write_text(json.dumps(entries))
    (old,) = read_scores(tmp_path, run.args.output_dir).values()
    assert (old.extract, old.interval) == (None, "wilson")
