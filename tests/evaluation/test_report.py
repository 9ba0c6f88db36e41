"""`metrics.json` and `predictions.jsonl` beside a model are those of one evaluation."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import pytest

from chartqa_ft.evaluation.report import find_predictions, keep_results, write_metrics, write_report
from chartqa_ft.evaluation.results import EvaluationResult
from chartqa_ft.metrics.predictions import FIELDS, write_predictions


@dataclass
class Arguments:
    dataset_name: str = "/data/ChartQA"


def answered(*predictions: str) -> list[dict]:
    values = {"chart_id": "a.png", "question": "?", "answer": "1", "correct": 0.0, "source": "human"}
    return [{**values, "index": index, "prediction": text} for index, text in enumerate(predictions)]


def result(folder: Path, *predictions: str, accuracy: float = 0.5, **changes) -> EvaluationResult:
    rows = answered(*predictions)
    file = write_predictions(rows, folder / "predictions" / "final-step-2.jsonl")
    metrics = {"final_relaxed_accuracy": accuracy, "final_own": math.nan}
    settings = {"prefix": "final_", "metrics": metrics, "rows": rows[:1], "predictions": file, **changes}
    return EvaluationResult(step=2, decoding={"num_beams": 4}, **settings)


def test_metrics_are_those_of_the_evaluation(tmp_path):
    wanted = {"eval_relaxed_accuracy": 0.5, "eval_own": None, "step": 2, "decoding": {"num_beams": 4}}
    assert json.loads(write_metrics(tmp_path, result(tmp_path, "7")).read_text()) == wanted
    of_part = write_metrics(tmp_path, result(tmp_path, "7", part="hard"))
    assert json.loads(of_part.read_text()) == {**wanted, "eval_dataset": "hard"}


@pytest.mark.parametrize(
    ("report", "taken"),
    [
        ('{"eval_relaxed_accuracy": 0.5, "arguments": {}}', True),
        ('{"eval_relaxed_accuracy": 0.25, "arguments": {}}', False),
        ('{"eval_relaxed_accuracy": 0.5', False),
        ("[1]", False),
        (None, False),
    ],
)
def test_the_report_of_a_script_is_taken_if_it_is_of_the_same_evaluation(tmp_path, report, taken):
    path = tmp_path / "metrics.json"
    if report is not None:
        path.write_text(report)
    (tmp_path / "staged").mkdir()
    written = json.loads(write_metrics(tmp_path / "staged", result(tmp_path, "7"), report=path).read_text())
    assert written.get("arguments") == ({} if taken else None)
    assert written.get("step") == (None if taken else 2)
    assert (path.read_text() if path.exists() else None) == report


def test_a_report_moves_the_answers_and_they_are_found_again(tmp_path):
    evaluated = result(tmp_path, "7", "8")
    content = evaluated.predictions.read_bytes()
    assert find_predictions(evaluated, tmp_path) == evaluated.predictions
    write_report(tmp_path, Arguments(), {"eval_n": 2}, "final-step-2.jsonl")
    assert not (tmp_path / "predictions").exists()
    assert json.loads((tmp_path / "metrics.json").read_text()) == {
        "arguments": {"dataset_name": "ChartQA"},
        "eval_n": 2,
    }
    moved = find_predictions(evaluated, tmp_path)
    assert (moved, moved.read_bytes()) == (tmp_path / "predictions.jsonl", content)


def test_answers_of_other_weights_are_not_taken(tmp_path):
    evaluated, unwritten = result(tmp_path, "7", "8"), result(tmp_path, "7", predictions=None)
    evaluated.predictions.unlink()
    write_predictions(answered("9", "8"), tmp_path / "predictions.jsonl")
    for one in (evaluated, None, unwritten):
        with pytest.raises(ValueError, match="there are no predictions of these weights to push"):
            find_predictions(one, tmp_path)
    assert set(answered("9")[0]) == set(FIELDS)


def test_results_of_other_arguments_are_kept_and_those_of_the_same_ones_replaced(tmp_path, caplog):
    caplog.set_level("INFO", logger="chartqa_ft")

    def evaluated(name: str, text: str) -> None:
        write_predictions(answered(text), tmp_path / "predictions" / "final.jsonl")
        write_report(tmp_path, Arguments(name), {"eval_n": 1.0}, "final.jsonl")

    def predictions() -> dict[str, str]:
        return {path.stem: json.loads(path.read_text())["prediction"] for path in tmp_path.glob("*.jsonl")}

    evaluated("a", "1")
    evaluated("a", "2")
    assert predictions() == {"predictions": "2"}
    assert not caplog.messages
    evaluated("b", "3")
    evaluated("c", "4")
    assert predictions() == {"predictions-1": "2", "predictions-2": "3", "predictions": "4"}
    names = [
        json.loads((tmp_path / f"metrics{end}.json").read_text())["arguments"]["dataset_name"]
        for end in ("-1", "-2", "")
    ]
    assert names == ["a", "b", "c"]
    kept = "has results of other arguments, which are kept as metrics-{0}.json and predictions-{0}.jsonl"
    assert caplog.messages == [f"{tmp_path} {kept.format(number)}" for number in (1, 2)]
    (tmp_path / "metrics.json").write_text("{")
    keep_results(tmp_path, Arguments("c"))
    assert (tmp_path / "metrics-3.json").read_text() == "{"
