"""Reports of several tasks: the accuracy is that of short answers alone, and tables stand beside each other."""

from __future__ import annotations

import json
import re

from chartqa_ft.reporting import write_report

ROWS = [
    {
        "index": 0,
        "chart_id": "a",
        "question": "How?",
        "answer": "3",
        "prediction": "3",
        "correct": 1.0,
        "source": None,
    },
    {
        "index": 1,
        "chart_id": "a",
        "question": "",
        "answer": "Year | EU\n2019 | 4",
        "prediction": "Year | EU & 2019 | <b>5</b>",
        "correct": 0.25,
        "source": None,
        "task": "table",
    },
    {
        "index": 2,
        "chart_id": "b",
        "question": None,
        "answer": "Red is tall.",
        "prediction": "Red",
        "correct": 0.5,
        "source": None,
        "task": "summary",
    },
]


def page(tmp_path, rows, **arguments) -> tuple[str, list[dict]]:
    text = write_report(rows, tmp_path / "report.html", **arguments).read_text(encoding="utf-8")
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])
    return text, [dict(zip(data["fields"], row, strict=True)) for row in data["rows"]]


def test_the_accuracy_is_that_of_short_answers_and_others_have_their_own_scores(tmp_path):
    text, rows = page(tmp_path, ROWS)
    scores = re.findall(r"<td>(all questions|table|summary)</td>((?:<td>[^<]*</td>)+)", text)
    assert [(name, re.findall("<td>(.*?)</td>", cells)) for name, cells in scores[:3]] == [
        ("all questions", ["100.00", "20.65 - 100.00", "1"]),
        ("table", ["RMS F1", "25.00", "1"]),
        ("summary", ["ROUGE-L", "50.00", "1"]),
    ]
    assert [row["why"] for row in rows[1:]] == ["RMS F1 25.00 %", "ROUGE-L 50.00 %"]
    assert [row["question"] for row in rows] == ["How?", "(table)", "(summary)"]


def test_tables_are_cells_and_their_texts_are_escaped(tmp_path):
    text, rows = page(tmp_path, ROWS)
    assert rows[1]["grids"] == [[["Year", "EU"], ["2019", "<b>5</b>"]], [["Year", "EU"], ["2019", "4"]]]
    assert rows[0]["grids"] is None
    assert rows[2]["grids"] is None
    assert "<b>5" not in text


def test_a_report_may_have_no_short_answers_and_a_second_run(tmp_path):
    text, rows = page(tmp_path, ROWS[1:], other=[{**row, "correct": 1.0} for row in ROWS[1:]])
    assert "all questions" not in text
    assert [(row["correct"], row["other_correct"], row["change"]) for row in rows] == [
        (0.25, 1.0, "better in the second"),
        (0.5, 1.0, "better in the second"),
    ]


def test_a_variant_scores_short_answers_again_and_leaves_others(tmp_path):
    _, rows = page(tmp_path, ROWS, variant="pix2struct")
    assert [row["correct"] for row in rows] == [1.0, 0.25, 0.5]


def test_tables_of_any_size_are_shown_in_part(tmp_path):
    wide = " | ".join(map(str, range(500)))
    long = "\n".join([wide] * 300)
    rows = [{**ROWS[1], "prediction": long}, {**ROWS[1], "index": 2, "prediction": None}]
    _, shown = page(tmp_path, rows)
    assert [len(shown[0]["grids"][0]), len(shown[0]["grids"][0][0])] == [60, 12]
    assert shown[1]["grids"][0] == []
