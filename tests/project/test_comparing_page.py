"""What the page on comparing, exporting and served models tells a user to run, taken from it as it stands."""

from __future__ import annotations

import argparse
import json
import re
import shlex

import pytest

from chartqa_ft.metrics.export import EXPORT_FORMATS
from chartqa_ft.metrics.predictions import read_predictions, write_predictions
from chartqa_ft.scripts import evaluate_checkpoint, evaluate_served
from chartqa_ft.scripts.cli import main
from chartqa_ft.scripts.compare import add_arguments

from ..support.chat_stub import ChatStub
from ..support.common import ROOT, drawn_charts
from ..support.launching import save_tiny, write_original_layout

PAGE = (ROOT / "examples" / "comparing.md").read_text(encoding="utf-8")
NOT_RUN = {"vllm serve": "vLLM wants a GPU; what it serves is played by a server on loopback"}


def blocks(language: str = "") -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    return [block for name, block in found if name == language]


def commands(*words: str) -> list[list[str]]:
    """The commands that contain all of these words, without the name of the program."""
    lines = [line for block in blocks() for line in block.replace("\\\n", " ").splitlines() if line]
    return [shlex.split(line)[1:] for line in lines if all(word in line for word in words)]


def rows(verdicts: str) -> list[dict]:
    """Twelve questions, half of them human; `1` is a right answer."""
    questions = ("How many bars are there?", "Which country is the largest?", "Is red above 5?")
    answers = ("3", "Peru", "Yes")
    return [
        {
            "index": i,
            "chart_id": f"{i // 2}.png",
            "question": questions[i % 3],
            "answer": answers[i % 3],
            "prediction": answers[i % 3] if verdict == "1" else "No",
            "correct": float(verdict),
            "source": "human" if i < 6 else "augmented",
        }
        for i, verdict in enumerate(verdicts)
    ]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where a user stands: two runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    write_predictions(rows("100110111010"), "before/predictions.jsonl")
    write_predictions(rows("110110111111"), "after/predictions.jsonl")
    return tmp_path


def test_every_command_and_block_is_run_or_has_its_reason():
    run = [
        *commands("compare before after"),
        *commands("export"),
        *commands("evaluate"),
        *commands("compare local scores"),
    ]
    left_out = [line for mark in NOT_RUN for line in commands(mark)]
    assert sorted([*run, *left_out]) == sorted(commands())
    assert len(left_out) == len(NOT_RUN)
    assert (len(blocks("python")), len(blocks("text"))) == (1, 1)


def test_the_comparison_prints_what_the_page_shows(folder, capsys):
    plain, limited = commands("compare before after")
    assert main(plain) == 0
    printed = capsys.readouterr().out.splitlines()
    (shown,) = blocks("text")
    lines = [line for line in shown.splitlines() if line != "..."]
    assert [line for line in lines if line not in printed] == []
    assert lines == [line for line in printed if line in lines]  # in this order
    assert main(limited) == 0
    swapped = {"before": "after", "after": "before"}
    assert main([swapped.get(part, part) for part in limited]) == 1


def test_the_python_block(folder, capsys):
    exec(compile(blocks("python")[0], "comparing.md", "exec"), {})
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("0.25 ")
    assert second.split()[1] == "4"


def test_the_exports(folder):
    for line in commands("export"):
        assert main(line) == 0
        output = folder / line[line.index("--output") + 1]
        assert output.suffix in EXPORT_FORMATS[line[line.index("--format") + 1]]
        assert "Peru" in output.read_text()


def test_a_served_model_is_scored_and_compared(folder, capsys):
    """With the address of a server on loopback, a local data set and a tiny model. Appended is `--use_cpu`."""
    merged, settings = save_tiny(folder / "out_lora" / "merged"), {"prompt": "<chartqa> {question} <s_answer>"}
    (merged / "chartqa_config.json").write_text(json.dumps(settings))
    records = drawn_charts()
    data = write_original_layout(folder / "ChartQA", test=records)
    write = {"http://localhost:8000/v1": None, "HuggingFaceM4/ChartQA": str(data)}
    (line,) = commands("evaluate", "--base_url")
    with ChatStub() as stub:
        write["http://localhost:8000/v1"] = stub.url
        assert set(write) < set(line)
        evaluate_served.main([write.get(part, part) for part in line[1:]])
    assert stub.requests[0].prompt.endswith(" <s_answer>")
    assert stub.requests[0].body["model"] == "my-model"
    (line,) = commands("evaluate", "--model_name_or_path")
    assert main([*(write.get(part, part) for part in line), "--use_cpu"]) == 0
    for name in ("local", "scores"):
        assert len(read_predictions(f"{name}/predictions.jsonl")) == len(records)
    (line,) = commands("compare local scores")
    capsys.readouterr()
    assert main(line) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("difference: scores minus local, in points")
    assert re.search(rf"^all .* {len(records)}$", printed, flags=re.MULTILINE)


def test_every_argument_in_the_text_is_one_of_the_commands():
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    known = set(vars(parser.parse_args(["a", "b"])))
    known |= set(evaluate_served.ServedArguments.__dataclass_fields__)
    known |= set(evaluate_checkpoint.EvaluationArguments.__dataclass_fields__)
    of_others = {"help", "format", "output", "merge", "model_args", "tasks", "log_samples", "mm-processor-kwargs"}
    of_others |= {"served-model-name", "port"}
    named = set(re.findall(r"--([\w-]+)", PAGE))
    assert len(named) > 15
    assert named <= known | of_others, named - known - of_others
    variable = re.search(r"environment variable `(\w+)`", PAGE)
    assert variable
    assert variable[1] == evaluate_served._KEY_VARIABLE
