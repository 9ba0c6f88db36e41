"""The table of the scores of tasks."""

from __future__ import annotations

from chartqa_ft.metrics.task_table import TaskRow, format_scores, task_rows
from chartqa_ft.training.evaluation_lines import evaluation_lines

METRICS = {
    "eval_loss": 1.0,
    "eval_relaxed_accuracy": 0.5,
    "eval_n": 2,
    "eval_n_human": 2,
    "eval_relaxed_accuracy_human": 0.5,
    "eval_table_loss": 2.0,
    "eval_table_rms_f1": 0.5,
    "eval_table_n": 3,
    "eval_summary_bleu": 0.25,
    "eval_summary_bleu_ci_low": 0.125,
    "eval_summary_bleu_ci_high": 0.375,
    "eval_summary_confidence": 0.95,
    "eval_summary_n": 4,
    "eval_runtime": 1.0,
}


def test_rows_are_those_of_tasks_alone():
    assert task_rows(METRICS, prefix="eval_") == [
        TaskRow("table", "loss", 2.0, 3),
        TaskRow("table", "rms_f1", 0.5, 3),
        TaskRow("summary", "bleu", 0.25, 4, 0.125, 0.375),
    ]


def test_all_scores_are_two_tables():
    first, second = format_scores(METRICS, prefix="eval_").split("\n\n")
    assert first.splitlines()[-1].split() == ["pooled", "50.00", "2"]
    assert second.splitlines()[-1].split() == ["summary", "bleu", "0.2500", "0.1250", "-", "0.3750", "4"]


def test_each_task_has_a_line_of_its_own_during_training():
    before = {**METRICS, "eval_table_rms_f1": 0.25}
    assert evaluation_lines(METRICS, before, step=3) == [
        "step 3, all: 50.00 % (+0.00) of 2 questions; loss 1 (+0)",
        "step 3, table: loss 2 (+0), rms_f1 0.5 (+0.25) of 3",
        "step 3, summary: bleu 0.25 (+0) of 4",
    ]


def test_a_task_whose_name_begins_with_that_of_another_is_one_of_its_own():
    metrics = {"table_rms_f1": 0.5, "table_n": 3, "table_hard_match": 1.0, "table_hard_n": 5}
    assert task_rows(metrics) == [TaskRow("table", "rms_f1", 0.5, 3), TaskRow("table_hard", "match", 1.0, 5)]
    assert task_rows(dict(reversed(metrics.items()))) == [
        TaskRow("table_hard", "match", 1.0, 5),
        TaskRow("table", "rms_f1", 0.5, 3),
    ]
