"""The commands that are printed at the end of a training score its model on charts that it was not trained on."""

from __future__ import annotations

import csv
import shlex
from types import SimpleNamespace

import pytest

from chartqa_ft.scripts import DataArguments
from chartqa_ft.scripts.cli import main as chartqa_ft
from chartqa_ft.scripts.held_out import write_split
from chartqa_ft.scripts.next_steps import next_commands

from ..support.common import drawn_charts
from ..support.launching import (
    FINETUNE,
    OWN,
    QUICK,
    answers,
    as_command_line,
    example,
    save_tiny,
    write_original_layout,
)


def words(script, folder):
    return shlex.split(next_commands(script, folder)["score"])


def after(name, line):
    return line[line.index(name) + 1]


def test_the_test_split_follows_the_validation_split_and_others_stay(tmp_path):
    line = words(DataArguments(dataset_name="a b", column_map=["image=file", "question=q"]), tmp_path / "my out")
    assert line[:2] == ["chartqa-ft", "evaluate"]
    assert after("--dataset_name", line) == "a b"
    assert line[line.index("--column_map") :][:3] == ["--column_map", "image=file", "question=q"]
    assert after("--eval_split", line) == "test"
    assert after("--output_dir", line) == str(tmp_path / "my out" / "scores")
    assert after("--eval_split", words(DataArguments(eval_split="train[-8:]"), "out")) == "train[-8:]"
    assert next_commands(DataArguments(), "my out")["report"] == "chartqa-ft report 'my out'"
    own = SimpleNamespace(dataset_name="mine.csv", image_dir="my charts")
    assert next_commands(own, "out")["report"] == "chartqa-ft report out --images 'my charts'"
    assert list(next_commands(SimpleNamespace(report=True), "out")) == ["score"]


def test_answers_are_generated_and_scored_as_at_the_end_of_the_training():
    def line(script=None, **args):
        found = next_commands(script or SimpleNamespace(), "out", SimpleNamespace(**args))["score"]
        return found.removeprefix("chartqa-ft evaluate --model_name_or_path out ").removesuffix(
            "--output_dir out/scores"
        )

    own = {"generation_num_beams": 1, "metric_variant": "decimal_comma", "metric_extract": None}
    assert line(**own) == "--metric_variant decimal_comma --generation_num_beams 1 "
    assert line(generation_num_beams=4, generation_max_new_tokens=128, metric_variant="pix2struct") == ""
    assert line(metric_extract="boxed", metric_interval="clustered", generation_max_new_tokens=8) == (
        "--metric_extract boxed --metric_interval clustered --generation_max_new_tokens 8 "
    )
    assert line(SimpleNamespace(final_num_beams=2), generation_num_beams=1) == "--generation_num_beams 2 "
    assert line(SimpleNamespace(final_num_beams=4), generation_num_beams=1) == ""
    assert line(generation_num_beams=None) == ""


def test_own_data_is_scored_on_the_charts_that_were_held_out(tmp_path):
    own = SimpleNamespace(dataset_name="mine.csv", eval_data=None, split_file=None)
    assert "--split_file" not in words(own, tmp_path)
    (tmp_path / "split.json").write_text("[]")
    assert after("--split_file", words(own, tmp_path)) == str(tmp_path / "split.json")
    own.split_file = "other.json"
    assert after("--split_file", words(own, tmp_path)) == "other.json"
    assert words(own, tmp_path).count("--split_file") == 1
    own.eval_data = "scoring.csv"
    line = words(own, tmp_path)
    assert after("--dataset_name", line) == "scoring.csv"
    assert "--split_file" not in line


def write_questions(folder, name, records, *bad):
    """A CSV file beside its charts."""
    folder.mkdir(exist_ok=True)
    rows = []
    for record in records:
        record["image"].save(folder / f"{record['chart_id']}.png")
        rows.append((f"{record['chart_id']}.png", record["question"], record["answer"], record["source"]))
    with open(folder / name, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image", "question", "answer", "source"), *rows, *bad])
    return folder / name


def of_charts(*numbers):
    charts = [*dict.fromkeys(drawn_charts()["chart_id"])]
    return drawn_charts().filter(lambda name: name in [charts[number] for number in numbers], input_columns="chart_id")


def own_training(folder):
    return {"dataset_name": write_questions(folder, "train.csv", drawn_charts())}


def own_training_with_questions_to_score(folder):
    scored = write_questions(folder, "val.csv", of_charts(0))
    return {"dataset_name": write_questions(folder, "questions.csv", of_charts(1, 2, 3)), "eval_data": scored}


def own_training_with_bad_rows(folder):
    bad = ("nowhere.png", "Why?", "Because", "human")
    return {"dataset_name": write_questions(folder, "questions.csv", drawn_charts(), bad), "on_error": "skip"}


def training_with_a_file_of_charts(folder):
    charts = write_split(folder.parent / "split.json", [f"{drawn_charts()['chart_id'][0]}.png"])
    splits = {"train": drawn_charts(), "test": drawn_charts(8, seed=6)}
    return {"dataset_name": write_original_layout(folder, **splits), "split_file": charts}


def training_without_a_test_split(folder):
    splits = {"train": drawn_charts(), "val": drawn_charts(8, seed=6)}
    return {"dataset_name": write_original_layout(folder, **splits)}


@pytest.mark.parametrize(
    ("path", "data"),
    [
        (OWN, own_training),
        (OWN, own_training_with_questions_to_score),
        (OWN, own_training_with_bad_rows),
        (FINETUNE, training_with_a_file_of_charts),
        (FINETUNE, training_without_a_test_split),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_printed_command_scores_the_model_on_the_same_questions(tmp_path, capsys, path, data):
    settings = {**QUICK, "model_name_or_path": save_tiny(tmp_path / "tiny"), "output_dir": tmp_path / "out"}
    settings |= {"max_steps": 1, "save_strategy": "no", "load_best_model_at_end": False, **data(tmp_path / "data")}
    example(path).main(as_command_line(settings))
    (line,) = [row for row in capsys.readouterr().out.splitlines() if row.startswith("score: chartqa-ft ")]
    chartqa_ft([*shlex.split(line)[2:], "--use_cpu"])
    scored, trained = answers(tmp_path / "out" / "scores"), answers(tmp_path / "out")
    assert [(row["chart_id"], row["question"], row["prediction"]) for row in scored] == [
        (row["chart_id"], row["question"], row["prediction"]) for row in trained
    ]
