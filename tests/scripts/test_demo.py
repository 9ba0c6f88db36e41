"""A small `make demo`: the script runs as a user starts it; its tables and baselines are exact."""

from __future__ import annotations

import re

import pytest

from chartqa_ft import answer_questions, load_checkpoint, read_predictions, synthetic_chartqa
from chartqa_ft.scripts.demo_training import HELD_OUT_SEED, majority_answers, table

from ..support.common import ROOT
from ..support.prepared import run_prepared


@pytest.mark.long
def test_demo_runs_and_shows_what_it_promises(tmp_path):
    command = [ROOT / "examples" / "demo.py", "--output_dir", tmp_path]
    result = run_prepared([*command, "--steps", "10", "--charts", "60", "--held_out_charts", "30"], timeout=300)
    shown = re.findall(r"step +(\d+): loss \S+, [\d.]+ % of held-out questions right", result.stdout)
    assert [int(step) for step in shown] == list(range(1, 11))
    for name in ("human", "augmented", "value", "count", "extreme", "comparison", "difference", "bar", "line", "pie"):
        assert re.search(rf"^{name} +\d+ +[\d.]+% +[\d.]+ +[\d.]+ - [\d.]+ +[\d.]+$", result.stdout, re.M), name
    rows = read_predictions(tmp_path / "predictions" / "final-step-10.jsonl")
    accuracy = sum(row["correct"] for row in rows) / len(rows)
    assert re.search(rf"^{100 * accuracy:.2f} % after [\d.]+ minutes\.", result.stdout, re.M)
    assert (tmp_path / "charts.png").stat().st_size > 10_000
    assert (tmp_path / "curves.png").is_file()
    assert result.stdout.splitlines()[-1] == f"report: {tmp_path / 'report.html'}"
    assert f"{len(rows)} questions on 30 charts" in (tmp_path / "report.html").read_text(encoding="utf-8")
    model, processor, _ = load_checkpoint(tmp_path / "model")
    held_out = synthetic_chartqa(30, seed=HELD_OUT_SEED).select(range(12))
    images, questions = list(held_out["image"]), list(held_out["question"])
    answers = answer_questions(model, processor, images, questions, max_new_tokens=8, progress=False)
    assert answers == [row["prediction"] for row in rows[:12]]


def test_baseline_is_the_most_frequent_answer_of_the_kind():
    train = synthetic_chartqa(40, seed=0)
    answers = majority_answers(train, train)
    for chart in ("bar", "line", "pie"):
        for kind in ("value", "count", "extreme", "comparison", "difference"):
            mine = [
                i for i in range(len(train)) if (train["chart_type"][i], train["question_type"][i]) == (chart, kind)
            ]
            given = [train["answer"][i] for i in mine]
            assert {answers[i] for i in mine} == {max(dict.fromkeys(given), key=given.count)}


def test_table_of_perfect_answers_is_a_hundred_everywhere():
    held_out = synthetic_chartqa(20, seed=1)
    text, accuracy = table(held_out, list(held_out["answer"]), ["?"] * len(held_out))
    rows = [line for line in text.splitlines()[1:] if not line.startswith("-")]
    assert accuracy == 1.0
    assert len(rows) == 11
    assert all(line.split()[3] == "100.00" and line.split()[-1] == "0.00" for line in rows)
