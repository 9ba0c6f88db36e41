"""Predicted tables as CSV files, and other tools that leave the rows of tasks out."""

from __future__ import annotations

import pytest

from chartqa_ft.metrics import compare_predictions, export_predictions, export_tables, read_table_csv
from chartqa_ft.metrics.predictions import write_predictions


def row(index, task, prediction, chart="1.png", **more):
    made = {"index": index, "chart_id": chart, "question": "?", "answer": "3", "prediction": prediction}
    return {**made, "correct": float(prediction == "3"), "source": None, "task": task, **more}


def test_tables_are_written_by_chart_and_read_back(tmp_path):
    tables = ["Year | EU & 2019 | 4", "a,b\n1,2", "no table at all", "Region | x\nAsia \\& Pacific | 7"]
    rows = [row(i, "table", text, chart=f"{i}.png") for i, text in enumerate(tables)]
    file = write_predictions([*rows, row(9, "qa", "3")], tmp_path / "predictions.jsonl")
    paths = export_tables(file, tmp_path / "out")
    assert [path.name for path in paths] == ["0.csv", "1.csv", "2.csv", "3.csv"]
    assert read_table_csv(paths[0]).rows == (("2019", "4"),)
    assert read_table_csv(paths[3]).rows == (("Asia & Pacific", "7"),)


@pytest.mark.parametrize(
    ("charts", "names"),
    [
        (["a.png", "a.png"], ["a.csv", "a-1.csv"]),
        (["A.png", "a.jpg"], ["A.csv", "a-1.csv"]),
        (["../../etc/passwd", "/root/x.png"], ["_.._etc_passwd.csv", "_root_x.csv"]),
        ([None, ""], ["chart-0.csv", "chart-1.csv"]),
        (["...", "a\nb\x00.png"], ["chart-0.csv", "a_b_.csv"]),
    ],
)
def test_names_of_charts_never_lead_out_of_the_folder(tmp_path, charts, names):
    rows = [row(i, "table", "a | b\n1 | 2", chart=chart) for i, chart in enumerate(charts)]
    paths = export_tables(rows, tmp_path / "out")
    assert [path.name for path in paths] == names
    assert {path.parent for path in paths} == {tmp_path / "out"}


def test_no_tables_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="hold no tables"):
        export_tables([row(0, "qa", "3")], tmp_path)


def test_comparisons_and_exports_take_short_answers_alone(tmp_path, caplog):
    a = [row(0, "qa", "3"), row(1, "table", "3"), row(2, None, "4")]
    b = [row(0, "qa", "4"), row(1, "table", "4"), row(2, None, "4")]
    result = compare_predictions(a, b)
    assert (result["n"], result["difference"]) == (2, -0.5)
    text = export_predictions(a, tmp_path / "a.tsv", format="vlmevalkit").read_text()
    assert len(text.splitlines()) == 3
    assert "1 of 3 rows are of other tasks" in caplog.text
    with pytest.raises(ValueError, match="no short answers"):
        export_predictions(a[1:2], tmp_path / "a.tsv", format="vlmevalkit")
