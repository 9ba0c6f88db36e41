"""`chartqa-ft evaluate --base_url`: the files and numbers of a local evaluation, and a key that appears nowhere."""

from __future__ import annotations

import json
import logging
import re
import traceback

import pytest

from chartqa_ft import relaxed_accuracy
from chartqa_ft.adapters.prompts import CHAT_PROMPT, PROMPTS
from chartqa_ft.metrics.predictions import FIELDS, read_predictions
from chartqa_ft.scripts.evaluate_served import ANSWERS_NAME, main
from chartqa_ft.scripts.held_out import write_split

from ..support.chat_stub import ChatStub, echo_headers, reply, said, status
from ..support.common import drawn_charts
from ..support.launching import report, write_original_layout

KEY = "sk-proj-0123456789abcdefABCDEF"
RECORDS = drawn_charts()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_original_layout(tmp_path_factory.mktemp("data") / "ChartQA", test=RECORDS)


@pytest.fixture(autouse=True)
def _no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def stub():
    with ChatStub() as stub:
        yield stub


@pytest.fixture
def evaluate(stub, data, tmp_path):
    def evaluate(**settings):
        settings = {
            "base_url": stub.url,
            "model": "my-model",
            "dataset_name": data,
            "output_dir": tmp_path / "out",
            "concurrency": 2,
            "attempts": 2,
            **settings,
        }
        return main([part for name, value in settings.items() for part in (f"--{name}", str(value))])

    return evaluate


def right_answers(body):
    """The right answer to every other question."""
    asked = body["messages"][0]["content"][1]["text"]
    number = next(i for i, question in enumerate(RECORDS["question"]) if asked.startswith(question))
    return RECORDS["answer"][number] if number % 2 else "wrong"


def test_files_and_numbers_are_those_of_the_scorer(stub, evaluate, tmp_path, capsys):
    stub.answer = right_answers
    metrics = evaluate(metric_interval="clustered")
    rows = read_predictions(tmp_path / "out" / "predictions.jsonl")
    assert list(rows[0])[: len(FIELDS)] == list(FIELDS)
    assert sorted(row["question"] for row in rows) == sorted(RECORDS["question"])
    scored = relaxed_accuracy(
        predictions=[row["prediction"] for row in rows],
        references=[row["answer"] for row in rows],
        sources=[row["source"] for row in rows],
        chart_ids=[row["chart_id"] for row in rows],
        interval="clustered",
    )
    assert {f"eval_{name}": value for name, value in scored.items()}.items() <= metrics.items()
    assert 0 < metrics["eval_relaxed_accuracy"] < 1
    written = report(tmp_path / "out")
    assert written["eval_relaxed_accuracy"] == metrics["eval_relaxed_accuracy"]
    recorded = {
        "base_url": stub.url,
        "model": "my-model",
        "prompt": CHAT_PROMPT,
        "max_tokens": 128,
        "temperature": 0.0,
    }
    assert recorded.items() <= written["arguments"].items()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "answers.png",
        "metrics.json",
        "predictions.jsonl",
    ]
    out = capsys.readouterr().out
    assert f"my-model on test of {written['arguments']['dataset_name']}"[:20] in out
    assert re.search(r"^augmented +\d", out, flags=re.MULTILINE)
    assert {request.body["temperature"] for request in stub.requests} == {0.0}


def test_a_report_is_written_with_charts(stub, evaluate, tmp_path, capsys):
    evaluate(report=True, max_eval_samples=4, answers_picture="none")
    assert f"predictions.jsonl, metrics.json, report.html: {tmp_path / 'out'}\n" in capsys.readouterr().out
    assert not (tmp_path / "out" / "answers.png").exists()
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "data:image/webp" in text or "UklGR" in text
    assert RECORDS["question"][0][:10] in text


def test_the_same_command_goes_on_after_a_failure(stub, evaluate, tmp_path):
    stub.plan += [said(reply("first")), *[status(500)] * 50]
    with pytest.raises(SystemExit, match=r"^error: record \(.* was not answered.* run the same command again"):
        evaluate(concurrency=1)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [ANSWERS_NAME]
    with pytest.raises(SystemExit, match="max_tokens was 128 and is now 64"):
        evaluate(concurrency=1, max_tokens=64)
    asked = len(stub.requests)
    stub.plan.clear()
    # Neither the address nor the speed changes answers.
    evaluate(concurrency=2, timeout=60, base_url=f"{stub.url}/chat/completions")
    assert len(stub.requests) == asked + len(RECORDS) - 1
    assert read_predictions(tmp_path / "out" / "predictions.jsonl")[0]["prediction"] == "first"
    assert not (tmp_path / "out" / ANSWERS_NAME).exists()


def test_ctrl_c_says_how_to_go_on(stub, evaluate, tmp_path, monkeypatch, capsys):
    def interrupted(self, row, **answer):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("chartqa_ft.evaluation.served.AnswersFile.add", interrupted)
        with pytest.raises(SystemExit) as caught:
            evaluate(concurrency=1)
    assert caught.value.code == 130
    assert f"stopped: {tmp_path / 'out' / ANSWERS_NAME} keeps the answers so far" in capsys.readouterr().err
    evaluate(concurrency=1)
    assert len(read_predictions(tmp_path / "out" / "predictions.jsonl")) == len(RECORDS)


def test_a_number_of_questions_and_an_extraction(stub, evaluate, tmp_path):
    stub.answer = lambda body: f"I think.\nAnswer: {right_answers(body)}"
    metrics = evaluate(max_eval_samples=6, metric_extract="answer_line", metric_variant="lenient")
    rows = read_predictions(tmp_path / "out" / "predictions.jsonl")
    assert (len(rows), metrics["eval_n"], metrics["eval_share_extracted"]) == (6, 6, 1.0)
    assert rows[0]["prediction"] == f"I think.\nAnswer: {rows[0]['extracted']}"


def test_programs_are_scored_by_what_they_compute_if_asked_for(stub, evaluate, tmp_path):
    stub.answer = lambda body: f"values = [{right_answers(body)!r}, 5]\nprint(values[0])"
    metrics = evaluate(max_eval_samples=6, run_programs=True)
    rows = read_predictions(tmp_path / "out" / "predictions.jsonl")
    assert metrics["eval_share_extracted"] == 1.0
    assert [row["prediction"] for row in rows] == [
        f"values = [{row['extracted']!r}, 5]\nprint(values[0])" for row in rows
    ]
    assert '"program"' in (tmp_path / "out" / "metrics.json").read_text()


# ------------------------------------------------------------------ prompts
@pytest.mark.parametrize(
    ("settings", "prompt"),
    [
        ({}, CHAT_PROMPT),
        ({"prompt_from": "qwen2_5_vl"}, PROMPTS["qwen2_5_vl"]),
        ({"prompt": "Q: {question} A:"}, "Q: {question} A:"),
        ({"prompt_from": "ours"}, "ours {question}"),
        ({"prompt_from": "theirs"}, PROMPTS["idefics3"]),
        ({"model": "ours"}, "ours {question}"),
        ({"prompt_from": "unknown"}, CHAT_PROMPT),
    ],
)
def test_the_prompt_is_that_of_the_family_or_the_checkpoint(stub, evaluate, tmp_path, monkeypatch, settings, prompt):
    monkeypatch.chdir(tmp_path)
    for name, files in {
        "ours": {"config.json": {"model_type": "idefics3"}, "chartqa_config.json": {"prompt": "ours {question}"}},
        "theirs": {"config.json": {"model_type": "idefics3"}, "chartqa_config.json": {}},
        "unknown": {"config.json": {"model_type": "new"}},
    }.items():
        (tmp_path / name).mkdir()
        for file, content in files.items():
            (tmp_path / name / file).write_text(json.dumps(content))
    evaluate(max_eval_samples=2, **settings)
    questions = [row["question"] for row in read_predictions(tmp_path / "out" / "predictions.jsonl")]
    assert sorted(request.prompt for request in stub.requests) == sorted(
        prompt.replace("{question}", question) for question in questions
    )


@pytest.mark.parametrize(
    ("settings", "system"),
    [
        ({"prompt_from": "ours"}, "Read charts."),
        ({"prompt_from": "ours", "system_prompt": "Look."}, "Look."),
        ({"prompt": "{question}", "system_prompt": "Look."}, "Look."),
        ({"prompt": "{question}"}, None),
        ({}, None),
    ],
)
def test_the_system_message_is_that_of_the_checkpoint_or_the_argument(
    stub, evaluate, tmp_path, monkeypatch, settings, system
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "config.json").write_text(json.dumps({"model_type": "idefics3"}))
    (tmp_path / "ours" / "chartqa_config.json").write_text(json.dumps({"system_prompt": "Read charts."}))
    evaluate(max_eval_samples=2, **settings)
    first = [message for request in stub.requests for message in request.body["messages"][:-1]]
    assert first == ([] if system is None else [{"role": "system", "content": system}] * 2)
    assert report(tmp_path / "out")["arguments"].get("system_prompt") == system


def test_an_empty_system_message_is_refused(evaluate):
    with pytest.raises(SystemExit, match="system_prompt must be a text that is not empty"):
        evaluate(system_prompt=" ")


def test_held_out_charts_alone_are_asked(stub, evaluate, tmp_path, capsys):
    charts = [f"{name}.png" for name in dict.fromkeys(RECORDS["chart_id"])][:2]
    held_out = write_split(tmp_path / "split.json", charts)
    evaluate(split_file=held_out)
    rows = read_predictions(tmp_path / "out" / "predictions.jsonl")
    assert {row["chart_id"] for row in rows} == set(charts)
    assert len(stub.requests) == len(rows) < len(RECORDS)
    assert "my-model on the held-out charts of" in capsys.readouterr().out.replace("\n", " ")
    with pytest.raises(SystemExit, match=r"nowhere\.json"):
        evaluate(split_file=tmp_path / "nowhere.json", output_dir=tmp_path / "other")


# ------------------------------------------------------------------ the key
def test_the_key_comes_from_the_environment_and_is_in_no_file_and_no_message(
    stub, evaluate, tmp_path, monkeypatch, capsys, caplog
):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("MY_SERVER_KEY", KEY)
    stub.plan += [status(429, KEY.encode(), retry_after="0"), echo_headers]
    evaluate(api_key_env="MY_SERVER_KEY", max_eval_samples=3)
    assert {request.headers["authorization"] for request in stub.requests} == {f"Bearer {KEY}"}
    assert "you said Bearer TOKEN_REMOVED" in (tmp_path / "out" / "predictions.jsonl").read_text()
    stub.plan += [status(401, f'{{"error": {{"message": "wrong key {KEY}"}}}}'.encode())] * 9
    with pytest.raises(SystemExit, match="wrong key TOKEN_REMOVED") as caught:
        evaluate(api_key_env="MY_SERVER_KEY", max_eval_samples=3)
    said_by = capsys.readouterr()
    told = "".join(traceback.format_exception(caught.value))
    assert KEY not in said_by.out + said_by.err + caplog.text + told
    files = [path for path in (tmp_path / "out").iterdir() if path.is_file()]
    assert {"predictions.jsonl", "metrics.json", ANSWERS_NAME} <= {path.name for path in files}
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_openai_api_key_is_the_default(stub, evaluate, monkeypatch):
    evaluate(max_eval_samples=1)
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n")
    evaluate(max_eval_samples=1)
    assert [request.headers.get("authorization") for request in stub.requests] == [None, f"Bearer {KEY}"]


# ------------------------------------------------------------------ refusals
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_url": "localhost:8000"}, "base_url is 'localhost:8000'"),
        ({"base_url": f"http://me:{KEY}@localhost/v1"}, "base_url contains a user or a password"),
        ({"api_key_env": "NOT_SET_ANYWHERE"}, "NOT_SET_ANYWHERE is not"),
        ({"api_key_env": KEY}, "this one is not"),
        ({"prompt": "no field"}, "has no field {question}"),
        ({"prompt_from": "nothing"}, "neither a checkpoint nor a family"),
        ({"prompt": "{question}", "prompt_from": "idefics3"}, "both given"),
        ({"extra_body": "{"}, "extra_body must be a JSON object"),
        ({"extra_body": "[1]"}, "extra_body must be a JSON object"),
        ({"extra_body": json.dumps({"api_key": KEY})}, "extra_body has the field 'api_key'"),
        ({"metric_variant": "wrong"}, "unknown variant"),
        ({"metric_extract": "wrong"}, "wrong"),
        ({"metric_interval": "wrong"}, "metric_interval must be"),
        ({"on_refusal": "skip"}, "on_refusal must be"),
        ({"concurrency": 0}, "concurrency must be"),
        ({"max_tokens": 0}, "max_tokens must be"),
        ({"timeout": -1}, "timeout must be"),
        ({"dataset_name": "nowhere.json"}, "nowhere.json"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line_before_any_request(
    stub, evaluate, tmp_path, settings, message, capsys
):
    with pytest.raises(SystemExit) as caught:
        evaluate(**settings)
    text = str(caught.value)
    assert text.startswith("error: ")
    assert message in text
    assert "\n" not in text
    assert KEY not in text + capsys.readouterr().err
    assert stub.requests == []
    assert not (tmp_path / "out").exists()


def test_two_ways_to_ask_are_refused(evaluate, capsys):
    with pytest.raises(SystemExit) as caught:
        evaluate(chartqapro_prompts="direct", prompt_from="idefics3")
    said = f"{caught.value} {capsys.readouterr().err}"
    assert "--chartqapro_prompts and --prompt_from both say how questions are asked: leave one of them out" in said


@pytest.mark.parametrize("name", ["num_beams", "generation_num_beams", "api_key", "learning_rate"])
def test_arguments_of_a_local_model_and_a_key_on_the_command_line_are_unknown(evaluate, capsys, name):
    with pytest.raises(SystemExit):
        evaluate(**{name: "4"})
    assert f"unknown arguments: --{name}" in capsys.readouterr().err


def test_the_names_of_evaluate_checkpoint_are_understood(stub, evaluate):
    evaluate(max_eval_samples=1, generation_max_new_tokens=7)
    assert stub.requests[0].body["max_tokens"] == 7
