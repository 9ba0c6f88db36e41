"""A small `make demo-tasks`: one run trains and scores questions, tables and summaries."""

from __future__ import annotations

import logging

import pytest

from chartqa_ft import load_checkpoint
from chartqa_ft.metrics.predictions import read_predictions
from chartqa_ft.scripts.demo_tasks import MAIN, main


@pytest.mark.long
def test_the_demo_prints_the_scores_of_all_three_tasks(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(logging, "basicConfig", lambda **settings: None)
    sizes = ["--steps", "2", "--charts", "20", "--held_out_charts", "3"]
    scores = main([*sizes, "--output_dir", str(tmp_path)])
    assert list(scores) == list(MAIN)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "; ".join(f"{name} {100 * value:.2f} %" for name, value in scores.items())
    rows = read_predictions(tmp_path / "predictions" / "final-step-2.jsonl")
    assert [sum(row["task"] == task for row in rows) for task in ("table", "summary")] == [3, 3]
    _, _, adapter = load_checkpoint(tmp_path / "model")
    assert adapter.task_prompt("table") == "<extract_data_table> <s_answer>"
