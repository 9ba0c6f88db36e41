"""A whole data set asked of a server: order, resuming, refusals and what is kept when it fails."""

from __future__ import annotations

import base64
import io
import json
import logging
import threading
import time
from queue import SimpleQueue

import pytest
from PIL import Image

from chartqa_ft.evaluation import served
from chartqa_ft.evaluation.chat_server import ChatServer, ServerError
from chartqa_ft.evaluation.served import ask_served_model

from ..support.chat_stub import ChatStub, hang, reply, reset, said, status
from ..support.common import drawn_charts

PROMPT = "{question}\nBe {brief}."


def answer(body):
    """The length of the prompt, so that each question has an answer of its own."""
    return str(len(body["messages"][0]["content"][1]["text"]))


def expected(records):
    return [str(len(f"{question}\nBe {{brief}}.")) for question in records["question"]]


@pytest.fixture
def stub():
    with ChatStub(answer) as stub:
        yield stub


@pytest.fixture
def ask(stub, tmp_path):
    def ask(records=None, *, attempts=2, prompt=PROMPT, model="m", **settings):
        with ChatServer(stub.url, model, attempts=attempts, first_wait=0.001, connections=4) as server:
            records = drawn_charts() if records is None else records
            path = tmp_path / "answers.jsonl"
            return ask_served_model(records, server, prompt, path=path, progress=False, **settings)

    return ask


def test_rows_are_in_order_with_their_own_answers(stub, ask):
    records = drawn_charts()
    rows = ask(concurrency=4)
    assert [row["prediction"] for row in rows] == expected(records)
    for key in ("question", "answer", "source", "chart_id"):
        assert [row[key] for row in rows] == records[key]
    assert [row["index"] for row in rows] == list(range(len(records)))
    assert len(stub.requests) == len(records)
    # Each question came with its own chart.
    charts = {record["question"] + record["chart_id"]: record["image"] for record in records}
    sent = sorted(request.image_url for request in stub.requests)
    for row in rows:
        image = charts[row["question"] + row["chart_id"]]
        assert any(_pixels(url) == image.convert("RGB").tobytes() for url in sent)


def _pixels(url):
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB").tobytes()


def test_lists_of_dicts_and_odd_texts_are_asked(stub, ask):
    chart = Image.new("RGB", (8, 8), "white")
    questions = ["{question}?", "a\ud800b", "<|im_end|>", "ä\n"]
    rows = ask([{"image": chart, "question": question, "answer": "1"} for question in questions])
    assert [row["question"] for row in rows] == questions
    assert sorted(request.prompt for request in stub.requests) == sorted(
        f"{question}\nBe {{brief}}." for question in ["{question}?", "a\ufffdb", "<|im_end|>", "ä\n"]
    )


@pytest.mark.parametrize("concurrency", [1, 3])
def test_concurrency_is_what_was_asked_for(stub, ask, concurrency):
    """The first requests wait until so many are under way, and no more ever are."""
    together = threading.Barrier(concurrency)

    def held(body):
        if len(stub.requests) <= concurrency:
            together.wait(20)
        return "1"

    stub.answer = held
    ask(concurrency=concurrency)
    assert stub.most == concurrency


def test_an_interrupted_run_goes_on_where_it_was(stub, ask, tmp_path):
    records = drawn_charts()
    full = ask()
    (tmp_path / "answers.jsonl").unlink()
    stub.requests.clear()
    stub.plan += [said(reply("first")), *[status(401)] * 50]
    with pytest.raises(
        ServerError, match=r"was not answered\. .*1 of \d+ answers are kept in .*answers.jsonl"
    ) as caught:
        ask(concurrency=1)
    assert f"question={records['question'][1]!r}" in str(caught.value)
    asked = len(stub.requests)
    assert 2 <= asked <= 4  # no further one is asked once the failure is known
    stub.plan.clear()
    rows = ask(concurrency=1)
    assert rows[0]["prediction"] == "first"
    assert rows[1:] == full[1:]
    assert len(stub.requests) == asked + len(records) - 1
    assert ask() == rows  # a third run asks nothing
    assert len(stub.requests) == asked + len(records) - 1


def test_answers_under_way_are_kept_when_another_fails(stub, ask, tmp_path):
    both = threading.Barrier(2)

    def refuse(handler, stub):
        both.wait(20)
        status(403)(handler, stub)

    def accept(handler, stub):
        both.wait(20)
        stub.released.wait(0.2)  # later than the refusal
        said(reply("late"))(handler, stub)

    stub.plan += [refuse, accept]
    with pytest.raises(ServerError, match="403"):
        ask(concurrency=2)
    kept = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()[1:]]
    assert "late" in [entry["text"] for entry in kept]
    assert len(stub.requests) <= 4


def test_a_server_that_is_gone_ends_the_run(stub, ask):
    stub.plan += [reset] * 1000
    with pytest.raises(ServerError, match=r"\(2 attempts\).* 0 of "):
        ask(concurrency=4)
    assert len(stub.requests) <= 16


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "{question}"},
        {"model": "n"},
        {"records": drawn_charts().select(range(5))},
        {"records": drawn_charts().select([1, 0, *range(2, len(drawn_charts()))])},
    ],
)
def test_answers_of_another_run_are_refused(stub, ask, change):
    ask()
    asked = len(stub.requests)
    with pytest.raises(ValueError, match="holds answers of other settings"):
        ask(**change)
    assert len(stub.requests) == asked


def test_a_refused_question_ends_the_run_or_is_empty(stub, ask, caplog, tmp_path):
    told = status(400, b'{"error": {"message": "the prompt is too long"}}')
    stub.plan.append(told)
    with pytest.raises(ServerError, match=r"the prompt is too long.*--on_refusal empty"):
        ask(concurrency=1)
    (tmp_path / "answers.jsonl").unlink()
    stub.plan.append(told)
    rows = ask(concurrency=1, on_refusal="empty")
    assert [row["prediction"] for row in rows] == ["", *expected(drawn_charts())[1:]]
    assert "gets an empty answer" in caplog.text


def test_unfinished_answers_are_counted(stub, ask, caplog):
    stub.plan += [said(reply("The high", "length"))] * 2
    ask(concurrency=1)
    assert f"2 of {len(drawn_charts())} answers ended at max_tokens=128, unfinished: raise it" in caplog.text
    caplog.clear()
    ask()  # known from the file too
    assert "2 of" in caplog.text


class SlowQueue(SimpleQueue):
    """A queue from which other threads than the main one get an entry only after a while."""

    def get(self, *args):
        found = super().get(*args)
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.1)
        return found


@pytest.mark.parametrize("queue", [SimpleQueue, SlowQueue])
def test_a_damaged_chart_is_named_and_the_questions_before_it_are_answered(stub, ask, tmp_path, monkeypatch, queue):
    monkeypatch.setattr(served, "SimpleQueue", queue)
    good = {"image": Image.new("RGB", (8, 8)), "question": "a?", "answer": "1", "chart_id": "a.png"}
    file = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(file, "PNG")
    bad = {**good, "image": {"bytes": file.getvalue()[:-200], "path": None}, "chart_id": "b.png"}
    with pytest.raises(ValueError, match=r"chart_id='b.png', question='a\?'\): the chart cannot be read"):
        ask([good, good, bad, good], concurrency=1)
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 3  # the settings and two answers
    assert len(stub.requests) == 2


def test_ctrl_c_leaves_at_once_and_keeps_the_answers(stub, ask, tmp_path, monkeypatch):
    """The second request hangs while the interrupt comes."""
    stub.plan += [said(reply("first")), hang]
    real = served.AnswersFile.add

    def add(self, row, *, text, cut):
        real(self, row, text=text, cut=cut)
        raise KeyboardInterrupt

    monkeypatch.setattr(served.AnswersFile, "add", add)
    with pytest.raises(KeyboardInterrupt):
        ask(concurrency=1)
    monkeypatch.undo()
    stub.released.set()
    rows = ask(concurrency=1)
    assert rows[0]["prediction"] == "first"
    assert [row["prediction"] for row in rows[1:]] == expected(drawn_charts())[1:]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"prompt": "no field"}, ValueError, "has no field"),
        ({"concurrency": 0}, ValueError, "concurrency"),
        ({"concurrency": "2"}, TypeError, "concurrency"),
        ({"on_refusal": "skip"}, ValueError, "on_refusal must be 'raise' or 'empty'"),
        (
            {"records": [{"image": Image.new("L", (8, 8)), "question": None, "answer": "1"}]},
            ValueError,
            "must be a text",
        ),
    ],
)
def test_wrong_arguments_are_refused_before_any_request(stub, ask, settings, error, message):
    with pytest.raises(error, match=message):
        ask(**settings)
    assert stub.requests == []


def test_a_log_line_says_how_many_answers_are_there_already(stub, ask, caplog):
    caplog.set_level(logging.INFO)
    ask()
    ask()
    n = len(drawn_charts())
    assert f"{n} of {n} answers are in" in caplog.text


def test_records_of_other_tasks_are_refused_before_the_first_question(stub, ask):
    records = [dict(row) for row in drawn_charts().select(range(2))]
    records[1].update(task="table", answer="a | b\n1 | 2")
    with pytest.raises(ValueError, match="records have the tasks table: leave these records out"):
        ask(records)
    assert not stub.requests
