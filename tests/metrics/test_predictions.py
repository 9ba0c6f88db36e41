"""predictions.jsonl: rows come back as they were, and a damaged line is named."""

from __future__ import annotations

from pathlib import Path

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
    with pytest.raises(KeyError, match="correct"):
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
