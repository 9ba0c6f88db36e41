"""Tables and summaries of drawn charts say what the charts show, and leave the questions as they are."""

from __future__ import annotations

import pytest

from chartqa_ft import parse_table, synthetic_chartqa
from chartqa_ft.data.synthetic.drawing import Chart
from chartqa_ft.data.synthetic.questions import make_chart
from chartqa_ft.data.synthetic.tasks import TASK_WORDS, TASKS, summary_of, table_of
from chartqa_ft.models.tiny import tiny_tokenizer


def test_each_chart_has_its_table_and_one_sentence():
    rows = list(synthetic_chartqa(6, seed=3, tasks=TASKS))
    tables = [row for row in rows if row["task"] == "table"]
    assert [row["chart_id"] for row in tables] == [f"synthetic-3-{i:06d}" for i in range(6)]
    for index, row in enumerate(tables):
        chart = make_chart(3, index, row["chart_type"])
        assert parse_table(row["answer"]).rows == tuple(
            (name, str(value)) for name, value in zip(chart.names, chart.values, strict=True)
        )
    sentences = [row["answer"] for row in rows if row["task"] == "summary"]
    assert sentences == [summary_of(make_chart(3, i, row["chart_type"])) for i, row in enumerate(tables)]


def test_questions_are_those_of_charts_without_tasks():
    plain = synthetic_chartqa(3, seed=0)
    mixed = synthetic_chartqa(3, seed=0, tasks=TASKS).filter(lambda task: task == "qa", input_columns="task")
    assert plain.column_names == [name for name in mixed.column_names if name != "task"]
    assert plain["question"] == mixed["question"]
    assert plain["answer"] == mixed["answer"]
    only = synthetic_chartqa(3, seed=0, tasks=["table"])
    assert set(only["task"]) == {"table"}
    assert len(only) == 3


def test_marks_that_share_an_extreme_are_named_from_the_left():
    chart = Chart("line", ("red", "blue", "gray"), (4, 4, 4))
    assert summary_of(chart) == "In this line chart red is the largest with 4 and red is the smallest with 4."
    assert table_of(chart).splitlines()[1] == "red | 4"


def test_the_words_of_the_demo_are_tokens():
    tokenizer = tiny_tokenizer([TASK_WORDS])
    for kind in ("bar", "line", "pie"):
        values = (30, 70) if kind == "pie" else (3, 7)
        text = summary_of(Chart(kind, ("red", "blue"), values))
        assert len(tokenizer(text)["input_ids"]) == len(text.replace(".", " .").split())


@pytest.mark.parametrize("tasks", ["table", [], ["tabel"], ["table", "table"]])
def test_unknown_tasks_are_refused(tasks):
    with pytest.raises(ValueError, match="tasks must be a sequence of tasks from"):
        synthetic_chartqa(1, seed=0, tasks=tasks)
