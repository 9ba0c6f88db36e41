"""Pictures and the report that scripts write beside the predictions."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
from PIL import Image

from chartqa_ft.metrics.predictions import write_predictions
from chartqa_ft.reporting import draw_curves
from chartqa_ft.reporting.pictures import RIGHT, WRONG
from chartqa_ft.scripts.arguments import DataArguments, ModelArguments, ResultArguments
from chartqa_ft.scripts.pictures import check_pictures, write_pictures

RECORDS = [{"image": Image.new("RGB", (40, 30), (9, 9, 200)), "chart_id": f"c{i}"} for i in range(20)]


def rows(correct):
    known = {"question": "What?", "answer": "3", "source": "human"}
    return [
        {
            "index": i,
            "chart_id": f"c{i}",
            "prediction": "3" if correct(i) else "4",
            "correct": float(correct(i)),
            **known,
        }
        for i in range(20)
    ]


def stand_in(folder, *, log=({"step": 1, "loss": 2.0},), step=1, write_predictions=True):
    """Stand in for a trainer after its last evaluation."""
    return SimpleNamespace(
        args=SimpleNamespace(output_dir=str(folder), write_predictions=write_predictions, metric_interval="wilson"),
        state=SimpleNamespace(log_history=list(log), global_step=step),
        plot=lambda: draw_curves(list(log), folder / "curves.png"),
    )


def colors(path):
    found = {color for _, color in Image.open(path).convert("RGB").getcolors(1 << 20)}
    return RIGHT in found, WRONG in found


@pytest.mark.parametrize(("choice", "expected"), [("mistakes", (False, True)), ("sample", (True, True))])
def test_answers_show_mistakes_or_a_sample(tmp_path, choice, expected):
    write_predictions(rows(lambda i: i % 3 == 0), tmp_path / "predictions.jsonl")
    written = write_pictures(ResultArguments(answers_picture=choice), stand_in(tmp_path), RECORDS)
    assert [path.name for path in written] == ["answers.png", "curves.png"]
    assert colors(tmp_path / "answers.png") == expected
    assert not (tmp_path / "report.html").exists()


def test_the_report_shows_the_evaluated_charts(tmp_path):
    write_predictions(rows(lambda i: True), tmp_path / "predictions.jsonl")
    script = ResultArguments(report=True, answers_picture="none")
    assert [path.name for path in write_pictures(script, stand_in(tmp_path, log=()), RECORDS)] == ["report.html"]
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert '"sizes":[[40,30],[40,30],' in text
    assert "20 questions on 20 charts" in text


def test_an_evaluation_without_training_has_no_curves(tmp_path):
    write_predictions(rows(lambda i: True), tmp_path / "predictions.jsonl")
    trainer = stand_in(tmp_path, log=[{"step": 0, "eval_relaxed_accuracy": 0.5}], step=0)
    assert [path.name for path in write_pictures(ResultArguments(), trainer, RECORDS)] == ["answers.png"]


@pytest.mark.parametrize("split", ["test", "test[:10]"])
def test_tables_of_the_original_layout_are_read(tmp_path, split):
    (tmp_path / "data" / "test" / "tables").mkdir(parents=True)
    (tmp_path / "data" / "test" / "tables" / "c0.csv").write_text("Peru,3\nChile,4")
    write_predictions(rows(lambda i: i > 1), tmp_path / "predictions.jsonl")
    script = DataArguments(dataset_name=str(tmp_path / "data"), eval_split=split)
    script.report, script.answers_picture = True, "none"
    write_pictures(script, stand_in(tmp_path), RECORDS)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<td>another value of the chart</td><td>1</td><td>50.0</td>" in text


def test_a_stream_has_no_charts_to_show(tmp_path):
    write_predictions(rows(lambda i: True), tmp_path / "predictions.jsonl")
    written = write_pictures(ResultArguments(report=True), stand_in(tmp_path), iter(RECORDS))
    assert [path.name for path in written] == ["curves.png", "report.html"]


def test_without_predictions_there_are_curves_only(tmp_path):
    write_predictions(rows(lambda i: True), tmp_path / "predictions.jsonl")  # of an earlier run
    trainer = stand_in(tmp_path, write_predictions=False)
    assert [path.name for path in write_pictures(ResultArguments(), trainer, RECORDS)] == ["curves.png"]
    with pytest.raises(ValueError, match="--report shows the predictions that are written"):
        check_pictures(ResultArguments(report=True), trainer.args)
    check_pictures(ResultArguments(), trainer.args)


def test_a_picture_that_cannot_be_written_is_a_warning(tmp_path, caplog):
    write_predictions(rows(lambda i: True), tmp_path / "predictions.jsonl")
    (tmp_path / "answers.png").mkdir()
    with caplog.at_level(logging.WARNING):
        written = write_pictures(ResultArguments(), stand_in(tmp_path), RECORDS)
    assert [path.name for path in written] == ["curves.png"]
    assert "answers.png could not be written" in caplog.text


@pytest.mark.parametrize("arguments", [ResultArguments, ModelArguments])
def test_an_unknown_choice_is_refused(arguments):
    with pytest.raises(ValueError, match="--answers_picture must be mistakes, sample or none"):
        arguments(answers_picture="all")
