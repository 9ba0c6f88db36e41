"""Records of several tasks in one batch: each has the prompt and the target of its task, and `qa` stays as it was."""

from __future__ import annotations

import pickle

import pytest
import torch

from chartqa_ft.adapters import Task, adapter_for, add_prompt_tokens
from chartqa_ft.adapters.tasks import TableExtraction
from chartqa_ft.batching.collator import ChartQACollator

from ...support.common import tiny
from ...support.families import build, records

TABLE = "Color,Height\nred,7\ngreen,2"


def mixed() -> list[dict]:
    first, second, third = records(3)
    return [
        first,
        {"image": second["image"], "task": "table", "answer": TABLE},
        {"image": third["image"], "task": "summary", "question": None, "answer": "Red is the\ntallest bar."},
        {**third, "task": "open_qa", "answer": "It is as tall as nine."},
        {**second, "task": "qa"},
    ]


def unichart():
    model, processor = tiny()
    assert add_prompt_tokens(model, processor, tasks=["table", "summary", "open_qa"]) == 3
    return model, processor


def test_each_record_has_the_published_prompt_of_its_task():
    adapter = adapter_for(*unichart())
    batch = adapter.encode(mixed())
    prompts = [
        adapter.tokenizer.decode(ids[: int((labels != -100).nonzero()[0]) + 1])
        for ids, labels in zip(batch["decoder_input_ids"], batch["labels"], strict=True)
    ]
    assert prompts[1:4] == [
        "<extract_data_table> <s_answer>",
        "<summarize_chart> <s_answer>",
        "<opencqa> How tall is the red bar? <s_answer>",
    ]
    assert adapter.decode(batch["labels"])[1:4] == [
        "Color | Height & red | 7 & green | 2",
        "Red is the\ntallest bar.",
        "It is as tall as nine.",
    ]


def test_records_of_qa_are_encoded_as_without_a_task():
    adapter, plain = adapter_for(*unichart()), adapter_for(*unichart())
    rows = [row for row in mixed() if row.get("task") in (None, "qa")]
    without = [{key: value for key, value in row.items() if key != "task"} for row in rows]
    adapter.encode(mixed())  # what other tasks have left in the adapter
    for answers in (True, False):
        found = adapter.encode(rows, with_answers=answers)
        wanted = plain.encode(without, with_answers=answers)
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    assert (
        adapter.settings()
        == plain.settings()
        == {
            "adapter": "decoder-prompt",
            "prompt": "<chartqa> {question} <s_answer>",
            "max_length": None,
        }
    )


@pytest.mark.parametrize("name", ["unichart", "florence2", "llava"])
def test_answers_of_a_mixed_batch_are_those_of_single_rows(name):
    model, processor = unichart() if name == "unichart" else build(name)
    adapter = adapter_for(model, processor)
    together = adapter.generate(model, adapter.encode(mixed(), with_answers=False), max_new_tokens=8)
    for row, record in enumerate(mixed()):
        alone = adapter.generate(model, adapter.encode([record], with_answers=False), max_new_tokens=8)
        assert together[row].tolist() == alone[0].tolist()


def test_a_long_question_of_a_task_is_cut_within_its_own_prompt():
    adapter = adapter_for(*unichart(), max_length=40)
    record = {**records(1)[0], "question": "word " * 80, "task": "open_qa", "answer": "7"}
    ids = adapter.encode([record])["decoder_input_ids"][0]
    text = adapter.tokenizer.decode(ids)
    assert text.startswith("<opencqa> word word")
    assert text.count("<s_answer>") == 1


def test_a_prompt_of_ones_own_is_used_and_saved():
    model, processor = unichart()
    adapter = adapter_for(model, processor, prompts={"table": "<chartqa> all values <s_answer>"})
    assert adapter.task_prompt("table") == "<chartqa> all values <s_answer>"
    again = adapter_for(model, processor, saved=adapter.settings())
    assert again.settings() == adapter.settings()
    assert again.task_prompt("table") == adapter.task_prompt("table")
    assert again.task_prompt("summary") == "<summarize_chart> <s_answer>"


def test_records_without_a_task_have_that_of_the_adapter():
    model, processor = unichart()
    adapter = adapter_for(model, processor, task="summary")
    record = {"image": records(1)[0]["image"], "answer": "Red is tall."}
    named = adapter_for(model, processor).encode([{**record, "task": "summary"}])
    assert torch.equal(adapter.encode([record])["decoder_input_ids"], named["decoder_input_ids"])
    assert adapter.settings()["task"] == "summary"
    assert ChartQACollator(adapter, keep_rows=True)([record])["rows"][0]["task"] == "summary"


def test_an_adapter_with_tasks_goes_to_worker_processes():
    model, processor = unichart()
    adapter = adapter_for(model, processor, tasks=[TableExtraction(format="markdown")])
    again = pickle.loads(pickle.dumps(adapter))
    assert again.bound_task("table").target(TABLE) == "| Color | Height |\n| --- | --- |\n| red | 7 |\n| green | 2 |"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "tabel"}, "there is no task 'tabel', but qa, open_qa, summary, table"),
        ({"task": "table", "answer": "no table"}, "of the task 'table': the answer 'no table' is no table"),
        ({"task": "open_qa", "question": None}, "the question is None, not a str"),
        ({"task": "table", "answer": None}, "has no answer"),
        ({"task": "summary", "answer": "A <s_answer> in it"}, "holds '<s_answer>'"),
    ],
)
def test_a_record_that_its_task_cannot_take_is_named(changes, message):
    adapter = adapter_for(*unichart())
    record = {**records(1)[0], **changes}
    with pytest.raises(ValueError, match=r"chart_id='bars-0-0'.*") as error:
        adapter.encode([record])
    assert message in str(error.value)


def test_missing_markers_are_named_with_what_to_do():
    adapter = adapter_for(*tiny())
    assert adapter.encode(records(2))["labels"].shape[0] == 2
    with pytest.raises(ValueError, match=r"<extract_data_table> .* not in the vocabulary: pass prompts={'table'"):
        adapter.task_prompt("table")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"prompts": {"tabel": "x"}}, "there is no task 'tabel'"),
        ({"prompts": {"qa": "{question}"}}, "pass it as prompt"),
        ({"prompts": "x"}, "prompts must be a dict"),
        ({"task": "tabel"}, "there is no task 'tabel'"),
        ({"tasks": "table"}, "tasks must be a list"),
        ({"tasks": [3]}, "a task must be a subclass"),
    ],
)
def test_wrong_arguments_are_refused_at_once(arguments, error):
    with pytest.raises((TypeError, ValueError), match=error):
        adapter_for(*tiny(), **arguments)


def test_a_prompt_without_the_question_that_a_task_asks_is_refused():
    adapter = adapter_for(*tiny(), prompts={"open_qa": "Explain."})
    with pytest.raises(ValueError, match=r"'open_qa' has no field \{question\}"):
        adapter.task_prompt("open_qa")


class Nameless(Task):
    pass


class Loss(Task):
    name = "loss_of"


@pytest.mark.parametrize("task", [Nameless, Loss])
def test_a_task_needs_a_name_that_metrics_can_carry(task):
    with pytest.raises(ValueError, match=f"the name of {task.__name__} must be a word"):
        adapter_for(*tiny(), tasks=[task])
