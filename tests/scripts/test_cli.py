"""The command `chartqa-ft`."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys

import pytest

import chartqa_ft
from chartqa_ft.metrics.predictions import write_predictions
from chartqa_ft.scripts import cli
from chartqa_ft.scripts.cli import main
from chartqa_ft.scripts.subcommands import SUBCOMMANDS


def rows(*predictions, **values):
    questions = ("How many bars?", "Is red above 5?", "Which country is largest?", "In which year?")
    answers = ("3", "Yes", "Peru", "2011")
    return [
        {
            "index": i,
            "chart_id": f"c{i}.png",
            "question": questions[i],
            "answer": answers[i],
            "prediction": prediction,
            "correct": float(prediction == answers[i]),
            "source": "human" if i < 2 else "augmented",
            **values,
        }
        for i, prediction in enumerate(predictions)
    ]


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_predictions(rows("3", "No", "Peru", "1700"), "before/predictions.jsonl")
    write_predictions(rows("3", "Yes", "Peru", "2011"), "after/predictions.jsonl")
    return tmp_path


def test_compare_prints_parts_and_changed_questions(runs, capsys):
    assert main(["compare", "before", "after/predictions.jsonl"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "difference: after minus before, in points; variant pix2struct, newcombe"
    assert lines[1] == "questions before after difference 95 % interval p (McNemar) n"
    assert "human 50.00 100.00 +50.00" in " ".join(lines)
    assert "question: yes/no 0.00 100.00 +100.00" in " ".join(lines)
    assert "all 50.00 100.00 +50.00" in " ".join(lines)
    assert "2 questions changed their verdict" in lines
    assert "1 c1.png: Is red above 5?" in lines
    assert "answer: Yes, before: No, after: Yes" in lines


@pytest.mark.parametrize(("limit", "code"), [("-50", 0), ("0", 0), ("60", 1)])
def test_compare_fails_below_a_limit(runs, limit, code):
    assert main(["compare", "before", "after", "--fail_below", limit]) == code


NO_CHARTS = "It has no charts: add --images FOLDER, or let the script that evaluates write it with --report."


def test_report_is_written_beside_the_predictions(runs, capsys):
    assert main(["report", "before", "--other", "after"]) == 0
    assert capsys.readouterr().out.splitlines() == ["report: before/report.html", NO_CHARTS]
    text = (runs / "before" / "report.html").read_text(encoding="utf-8")
    assert "<caption>after minus before</caption>" in text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["report", "nowhere"], "there is no nowhere: pass a predictions.jsonl"),
        (["report", "."], "there is no predictions.jsonl in ."),
        (["compare", "before", "other"], "is in a and not in b (a: before, b: other)"),
        (["report", "before", "--images", "gone"], "--images gone is not a folder"),
    ],
)
def test_invalid_input_ends_with_one_line(runs, capsys, line, message):
    write_predictions(rows("3", "Yes"), "other/predictions.jsonl")
    assert main(line) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "near"),
    [
        (["comprae", "a", "b"], "compare"),
        (["evalaute"], "evaluate"),
        (["report", "a", "--image", "x"], "--images"),
        (["push", "a", "b", "--privat"], "--private"),
        (["demo", "--step", "3"], "--steps"),
        (["app", "out", "--prot", "8000"], "--port"),
        (["evaluate", "--num_beam", "1"], "--generation_num_beams"),
        (["check", "finetune_own_data", "--epochs", "1"], "--num_train_epochs"),
        (["compare", "a"], None),
        (["nonsense"], None),
    ],
)
def test_an_unknown_argument_is_told_with_the_nearest_one(capsys, line, near):
    with pytest.raises(SystemExit) as caught:
        main(line)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert (f"did you mean {near}?" in error) is (near is not None)
    assert len(error.splitlines()) <= 3


def test_decimal_commas_are_told_once_and_read_as_numbers(runs):
    german = [{**row, "answer": answer} for row, answer in zip(rows("11,9", "x"), ("11,9", "46.300,00"), strict=True)]
    write_predictions(german, "runs/baseline.jsonl")
    write_predictions(german, "runs/predictions.jsonl")
    line = [sys.executable, "-m", "chartqa_ft.scripts.cli", "compare", "runs/baseline.jsonl", "runs"]
    told = subprocess.run(line, capture_output=True, text=True, check=True)
    assert told.stderr.count("labels look like numbers with a decimal comma") == 1
    assert "use --metric_variant decimal_comma or detect_decimal_comma" in told.stderr
    assert told.stdout.startswith("difference: runs minus baseline.jsonl, in points")
    assert "answer: text" in told.stdout
    line += ["--metric_variant", "detect_decimal_comma"]
    told = subprocess.run(line, capture_output=True, text=True, check=True)
    assert not told.stderr
    assert "answer: number" in told.stdout
    assert "answer: text" not in told.stdout


def test_texts_of_predictions_are_escaped(runs, capsys):
    write_predictions(rows("\x1b[31m3", "No"), "a/predictions.jsonl")
    write_predictions(rows("3", "No"), "b/predictions.jsonl")
    assert main(["compare", "a", "b"]) == 0
    assert "\x1b" not in capsys.readouterr().out


QUICK_ANSWERS = [
    (["--help"], 0, "check"),
    (["compare", "--help"], 0, "--fail_below"),
    (["report", "--help"], 0, "--images"),
    (["push", "--help"], 0, "--private"),
    (["demo", "--help"], 0, "--held_out_charts"),
    (["evaluate", "--help"], 0, "--split_file"),
    (["check", "--help"], 0, "finetune_own_data"),
    (["check", "finetune_vlm_lora", "--help"], 0, "--lora_r"),
    (["check", "--learning_rate", "fast"], 2, "invalid float value: 'fast'"),
    (["evaluate", "--nonsense"], 2, "--nonsense"),
    (["compare", "nowhere", "there"], 2, "there is no nowhere"),
    (["compare", "before", "after"], 0, "2 questions changed"),
    ([], 2, "commands:"),
    (["--version"], 0, chartqa_ft.__version__),
]


def test_answers_come_without_heavy_imports(runs):
    """What needs no model is answered before torch, transformers or datasets are imported."""
    program = f"""
import contextlib, io, json, sys
from chartqa_ft.scripts.cli import main
for line, code, shown in {QUICK_ANSWERS!r}:
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        try:
            ended = main(line)
        except SystemExit as stopped:
            ended = stopped.code or 0
    assert ended == code, (line, ended, text.getvalue())
    assert shown in text.getvalue(), (line, text.getvalue())
    heavy = [name for name in ("torch", "transformers", "datasets", "peft", "accelerate") if name in sys.modules]
    assert not heavy, (line, heavy)
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


def test_every_subcommand_has_its_module():
    """`app` and `check MODEL` name modules that other extras bring."""
    missing = {one.name for one in SUBCOMMANDS if importlib.util.find_spec(f"chartqa_ft.scripts.{one.module}") is None}
    assert missing <= {"app"}
    assert len({one.name for one in SUBCOMMANDS}) == len(SUBCOMMANDS)
    for one in SUBCOMMANDS:
        if one.name not in missing:
            module = importlib.import_module(f"chartqa_ft.scripts.{one.module}")
            assert callable(getattr(module, "main", None) or module.add_arguments), one.name


def test_a_missing_package_is_named_with_how_to_install_it(monkeypatch, capsys):
    def missing(name):
        raise ModuleNotFoundError("No module named 'gradio'", name="gradio")

    monkeypatch.setattr(cli, "import_module", missing)
    with pytest.raises(SystemExit) as caught:
        main(["app", "model"])
    assert caught.value.code == 2
    assert "chartqa-ft app needs the package gradio: pip install gradio" in capsys.readouterr().err


def test_report_takes_tables_and_a_variant(runs):
    (runs / "tables").mkdir()
    (runs / "tables" / "c2.csv").write_text("Peru,1\nChile,2")
    write_predictions(rows("3", "Yes", "Chile", "2012"), "run/predictions.jsonl")
    assert main(["report", "run", "--tables", "tables", "--metric_variant", "pix2struct", "--output", "all.html"]) == 0
    text = (runs / "all.html").read_text(encoding="utf-8")
    assert "<td>another value of the chart</td><td>1</td><td>100.0</td>" in text  # 2012 is right by this variant
    assert main(["report", "run"]) == 0
    text = (runs / "run" / "report.html").read_text(encoding="utf-8")
    assert "<td>year off by a few</td><td>1</td>" in text
