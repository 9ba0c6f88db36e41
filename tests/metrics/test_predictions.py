"""predictions.jsonl: rows come back as they were, and a damaged line is named."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest

from chartqa_ft.metrics.predictions import FIELDS, read_predictions, write_predictions

ROW = dict(zip(FIELDS, (0, "c1.png", "Wie viele?\u2028", "3", "\ud800", 0.5, None), strict=True))


def test_rows_come_back(tmp_path: Path) -> None:
    rows = [ROW, {**ROW, "index": 1, "answer": ["3", "three"]}]
    path = write_predictions(({**row, "image": object()} for row in rows), tmp_path / "new" / "predictions.jsonl")
    assert read_predictions(path) == read_predictions(str(path)) == rows
    assert path.read_bytes().isascii()
    assert path.read_bytes().count(b"\n") == 2
    assert [item.name for item in path.parent.iterdir()] == ["predictions.jsonl"]


def test_rows_that_break_off_leave_the_old_file(tmp_path: Path) -> None:
    path = write_predictions([ROW], tmp_path / "predictions.jsonl")
    with pytest.raises(ValueError, match="the row of index 0 lacks correct"):
        write_predictions([ROW, {key: value for key, value in ROW.items() if key != "correct"}], path)
    assert read_predictions(path) == [ROW]
    assert [item.name for item in tmp_path.iterdir()] == ["predictions.jsonl"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"index": 1', r"line 2 is not JSON: Expecting"),
        (b"", r"line 2 is not JSON: Expecting value"),
        (b'{"index": "\xff"}', r"line 2 is not JSON: 'utf-8' codec"),
        (b"5", r"line 2 is not a JSON object"),
        (b'{"index": 1, "chart_id": 2}', r"line 2 lacks question, answer, prediction, correct, source"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: bytes, said: str) -> None:
    path = write_predictions([ROW], tmp_path / "predictions.jsonl")
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(ValueError, match=rf"predictions\.jsonl, {said}"):
        read_predictions(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"index": -1}, "index must be an integer"),
        ({"index": True}, "index must be an integer"),
        ({"index": 1.0}, "index must be an integer"),
        ({"prediction": ["7"]}, "prediction must be a text"),
        ({"prediction": False}, "prediction must be a text"),
        ({"question": {}}, "question must be a text"),
        ({"chart_id": [1]}, "chart_id must be a text"),
        ({"answer": {"a": 1}}, "answer must be a text"),
        ({"answer": []}, "answer must be a text"),
        ({"answer": [["7"]]}, "answer must be a text"),
        ({"correct": float("nan")}, "correct must be a number between 0 and 1"),
        ({"correct": 100}, "correct must be a number between 0 and 1"),
        ({"correct": "1.0"}, "correct must be a number between 0 and 1"),
        ({"correct": None}, "correct is null although there is an answer, '3'"),
        ({"answer": None}, "answer is null, but correct is 0.5"),
    ],
)
def test_a_value_that_a_field_cannot_have_is_named(tmp_path: Path, changes: dict, said: str) -> None:
    path = write_predictions([ROW, {**ROW, **changes}], tmp_path / "predictions.jsonl")
    with pytest.raises(ValueError, match=rf"predictions\.jsonl, line 2: {said}"):
        read_predictions(path)


def test_a_question_counts_once(tmp_path: Path) -> None:
    path = write_predictions([ROW, {**ROW, "index": 4}], tmp_path / "predictions.jsonl")
    path.write_text(path.read_text() * 2)
    with pytest.raises(ValueError, match=r"predictions\.jsonl, lines 1 and 3 are both of index 0: a question counts"):
        read_predictions(path)


def test_numbers_of_numpy_and_other_answers_are_written_as_they_are_scored(tmp_path: Path) -> None:
    rows = [{**ROW, "correct": np.float32(1)}, {**ROW, "index": 1, "answer": date(2020, 1, 5), "correct": 0.0}]
    read = read_predictions(write_predictions(rows, tmp_path / "predictions.jsonl"))
    assert [(row["answer"], row["correct"]) for row in read] == [(ROW["answer"], 1.0), ("2020-01-05", 0.0)]


def test_questions_without_an_answer_come_back(tmp_path: Path) -> None:
    answers = [ROW["answer"], None, "", " "]
    rows = [{**ROW, "index": i, "answer": a, "correct": None if i else 1.0} for i, a in enumerate(answers)]
    assert read_predictions(write_predictions(rows, tmp_path / "predictions.jsonl")) == rows


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("[" * 100_000, "line 1 is not JSON"),
        ('{"index": 0, "prediction": "7", "prediction": "8"}', "line 1 is not JSON: it has 'prediction' twice"),
        ('{"index": 0, "prediction" : "7", "prediction": "8"}', "line 1 is not JSON: it has 'prediction' twice"),
    ],
)
def test_a_file_that_says_nothing_or_two_things(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_text(content)
    with pytest.raises(ValueError, match=said):
        read_predictions(path)


def test_quotes_and_colons_in_texts_are_no_keys(tmp_path: Path) -> None:
    rows = [{**ROW, "prediction": '{"index": 1, "index" : 2}', "question": 'Is "a": "b"?', "question_type": "x"}]
    assert read_predictions(write_predictions(rows, tmp_path / "predictions.jsonl")) == rows


@pytest.mark.parametrize("path", [5, None, b"p.jsonl", [ROW]])
def test_a_path_is_a_path(path: object) -> None:
    with pytest.raises(TypeError, match=r"path must be the path of a predictions\.jsonl"):
        read_predictions(path)
