"""The report of `check_model`: a table that fits a terminal, JSON, an exit code and the sentence of a model card."""

from __future__ import annotations

import json

import pytest

from chartqa_ft import CheckReport
from chartqa_ft.hub.card.facts import CardFacts
from chartqa_ft.hub.card.render import render_card
from chartqa_ft.training.model_check.report import TITLES, CheckLine

LINES = [
    CheckLine("training_batch", "pass", 0, 0, "every row\nrow 0: <s> a long question" + " word" * 40, unit="wrong"),
    CheckLine("gradients", "fail", 0.25, 9.5e-6, "2x2 differs", {"relative_differences": {"2x2": 0.25}}),
    CheckLine("shared_charts", "not applicable", words="nothing is shared"),
    CheckLine("cost", "pass", 1234567.0, words="slow", unit="s"),
]
FACTS = {"model": "Tiny", "dtype": "bfloat16", "chartqa_ft": "0.1.0", "transformers": "5.24.0", "seconds": 1.25}


def test_the_table_fits_a_terminal():
    text = str(CheckReport(LINES, FACTS))
    assert max(map(len, text.splitlines())) <= 96
    summary = "checked with chartqa_ft 0.1.0 on transformers 5.24.0: 2 of 3 checks passed, 1 not applicable, failed: "
    assert text.startswith("Tiny; dtype: bfloat16\nchecked with")
    assert f"{summary}{TITLES['gradients']}" in text.replace("\n", " ")
    assert " 2  gradient of 4x1 = 2x2 = 1x4 rows      FAIL            0.25                  <= 9.5e-06" in text
    assert " 3  shared, packed charts = charts alone  not applicable" in text
    assert " 4  seconds and memory of a step          pass            1.2e+06 s" in text
    assert text.endswith("The check took 1.2 s and left the model as it was.")


def test_the_exit_code_says_whether_a_line_failed():
    assert (CheckReport(LINES).exit_code, CheckReport(LINES[2:]).exit_code, CheckReport([]).exit_code) == (1, 0, 0)
    assert [line.name for line in CheckReport(LINES).failed] == ["gradients"]


def test_lines_are_found_by_name():
    assert CheckReport(LINES)["cost"] is LINES[3]
    with pytest.raises(KeyError, match="no line 'masks': there are training_batch, gradients"):
        CheckReport(LINES)["masks"]


def test_json_holds_all_of_it(tmp_path):
    found = json.loads(CheckReport(LINES, FACTS).write(tmp_path / "check.json").read_text(encoding="utf-8"))
    assert found["ok"] is False
    assert found["transformers"] == "5.24.0"
    assert [line["name"] for line in found["lines"]] == [line.name for line in LINES]
    assert found["lines"][1] == {
        "title": TITLES["gradients"],
        "name": "gradients",
        "status": "fail",
        "number": 0.25,
        "bound": 9.5e-6,
        "words": "2x2 differs",
        "details": {"relative_differences": {"2x2": 0.25}},
        "unit": "",
    }


def test_infinite_numbers_are_shown_and_stored(tmp_path):
    report = CheckReport([CheckLine("training_logits", "fail", float("inf"), 1e-5)], FACTS)
    assert "FAIL            inf" in str(report)
    assert json.loads(report.write(tmp_path / "check.json").read_text(encoding="utf-8"))["lines"][0]["number"] is None


def test_a_model_card_carries_the_result():
    report = CheckReport(LINES[2:], FACTS)
    sentence = "checked with chartqa_ft 0.1.0 on transformers 5.24.0: 1 of 1 checks passed, 1 not applicable"
    assert report.summary == sentence
    facts = {"name": "alice/model", "kind": "full"}
    card = render_card(CardFacts(**facts, checked=report.summary))
    assert sentence in card.replace("\\", "")
    assert "checked with" not in render_card(CardFacts(**facts))
