"""finetune_own_data.py on a folder of charts and a CSV file."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from chartqa_ft import ChartQATrainingArguments

from ..support.common import drawn_charts
from ..support.launching import (
    OWN,
    QUICK,
    answers,
    as_command_line,
    check_against_predictions,
    complaints,
    example,
    report,
    save_family,
    save_tiny,
    saved,
)
from ..support.prepared import run_prepared


def write_own_data(folder: Path, *bad: tuple[str, str, str]) -> tuple[Path, Path]:
    """A folder of charts and a CSV file with other column names, as a spreadsheet program writes it."""
    (folder / "pictures").mkdir(parents=True)
    rows = []
    for record in drawn_charts():
        name = f"{record['chart_id']}.png"
        record["image"].save(folder / "pictures" / name)
        rows.append((name, record["question"], record["answer"], record["source"]))
    with open(folder / "questions.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file", "q", "answer", "source"), *rows[:4], *bad, *rows[4:]])
    return folder / "questions.csv", folder / "pictures"


def own_settings(tmp_path: Path, data: Path, pictures: Path, model: Path) -> dict[str, Any]:
    return {
        **QUICK,
        "model_name_or_path": model,
        "dataset_name": data,
        "image_dir": pictures,
        "output_dir": tmp_path / "out",
        "max_steps": -1,
        "num_train_epochs": 2,
        "per_device_train_batch_size": 8,
        "held_out": 0.4,
    }


COLUMNS = ["--column_map", "image=file", "question=q"]


def test_own_charts_are_learned_and_others_score(tmp_path):
    data, pictures = write_own_data(tmp_path / "own")
    settings = own_settings(tmp_path, data, pictures, save_tiny(tmp_path / "tiny"))
    launched = run_prepared([OWN, *as_command_line(settings), *COLUMNS, "--report", "--baseline"], timeout=300)
    output = tmp_path / "out"
    assert complaints(launched.stdout + launched.stderr) == []
    rows, metrics = answers(output), report(output)
    check_against_predictions(metrics, rows)
    records = drawn_charts()
    everything = set(records["chart_id"])
    scored = {row["chart_id"].removesuffix(".png") for row in rows}
    assert len(everything) == 8
    assert len(scored) == 3
    held_out = [row for row in records if row["chart_id"] in scored]
    assert [row["question"] for row in held_out] == [row["question"] for row in rows]
    assert [row["source"] for row in held_out] == [row["source"] for row in rows]
    trained, held = f"{len(records) - len(rows)} questions on 5 charts", f"{len(rows)} questions on 3 charts"
    told = f"{trained} to train on; {held} to evaluate; "
    assert launched.stderr.count(told) == 1
    with Image.open(output / "answers.png") as picture:
        assert picture.width == 4 * 232 + 12
    with Image.open(output / "curves.png") as picture:
        assert picture.size == (880, 500)
    assert f"{len(rows)} questions on 3 charts" in (output / "report.html").read_text(encoding="utf-8")
    assert "to look at: " in launched.stdout
    assert (output / "model.safetensors").is_file()
    assert metrics["arguments"]["column_map"] == ["image=file", "question=q"]
    split = json.loads((output / "split.json").read_text())["held_out_charts"]
    assert {name.removesuffix(".png") for name in split} == scored
    before = metrics["baseline_relaxed_accuracy"]
    assert metrics["difference_relaxed_accuracy"] == pytest.approx(metrics["eval_relaxed_accuracy"] - before)
    assert re.search(r"^questions +before +after +difference +95 % interval", launched.stdout, re.MULTILINE)


def test_own_charts_with_lora_and_questions_of_their_own_to_score(tmp_path):
    data, pictures = write_own_data(tmp_path / "own")
    scoring = tmp_path / "scoring.csv"
    scoring.write_text("".join(data.read_text().splitlines(keepends=True)[:4]))
    settings = own_settings(tmp_path, data, pictures, save_family("llava", tmp_path / "llava"))
    settings |= {"eval_data": scoring, "lora": True, "num_train_epochs": 1}
    del settings["learning_rate"], settings["held_out"]
    example(OWN).main([*as_command_line(settings), *COLUMNS])
    output = tmp_path / "out"
    assert saved(output, "training_args.json")["learning_rate"] == 1e-4
    assert (output / "adapter_model.safetensors").is_file()
    assert [row["question"] for row in answers(output)] == list(drawn_charts()["question"])[:3]
    # LoRA weights that a checkpoint has are trained further.
    more = {**settings, "model_name_or_path": output, "output_dir": tmp_path / "more"}
    example(OWN).main([*as_command_line(more), *COLUMNS])
    first, second = (load_file(folder / "adapter_model.safetensors") for folder in (output, tmp_path / "more"))
    assert first.keys() == second.keys()
    assert not all(torch.equal(first[name], second[name]) for name in first)


def test_a_bad_row_is_named_as_the_spreadsheet_numbers_it(tmp_path, caplog):
    bad = [("nowhere.png", "Why?", "Because", "human"), ("", "", "", "")]
    data, pictures = write_own_data(tmp_path / "own", *bad)
    module = example(OWN)
    settings = own_settings(tmp_path, data, pictures, tmp_path / "no_model")
    with pytest.raises(SystemExit) as stopped:
        module.main([*as_command_line(settings), *COLUMNS])
    message = str(stopped.value.code)
    assert message.startswith(f"error: {data}, row 6: no image file: 'nowhere.png' is not in")
    assert "--on_error skip" in message
    assert len(message.splitlines()) == 1
    with pytest.raises(SystemExit, match="there is no folder"):
        module.main([*as_command_line(settings), *COLUMNS, "--on_error", "skip"])
    assert f"Dropped 2 of {len(drawn_charts()) + 2} records" in caplog.text
    with pytest.raises(SystemExit, match=r"error: .*no column for question and image"):
        module.main(as_command_line(settings))


def test_a_german_table_is_read_with_the_line_that_the_error_proposes(tmp_path):
    data, pictures = write_own_data(tmp_path / "own")
    header, rows = data.read_text(encoding="utf-8").split("\n", 1)
    assert header == "file,q,answer,source"
    data.write_text(f"Bilddatei,Meine Frage,Antwort,source\n{rows}", encoding="utf-8")
    module = example(OWN)
    settings = own_settings(tmp_path, data, pictures, tmp_path / "no_model")
    with pytest.raises(SystemExit) as stopped:
        module.main(as_command_line(settings))
    line = shlex.split(str(stopped.value.code).partition(" Pass ")[2])
    assert line == ["--column_map", "question=Meine Frage", "answer=Antwort", "image=Bilddatei"]
    with pytest.raises(SystemExit, match="there is no folder"):
        module.main([*as_command_line(settings), *line])


def test_held_out_charts_are_a_file_that_holds_them_out_again(tmp_path):
    data, pictures = write_own_data(tmp_path / "own")
    module = example(OWN)

    def load(output: str, **changes: Any):
        args = ChartQATrainingArguments(output_dir=str(tmp_path / output), use_cpu=True)
        columns = {"dataset_name": str(data), "image_dir": str(pictures), "column_map": COLUMNS[1:]}
        script = module.ScriptArguments(**columns, **changes)
        train, held_out = module.load(script, args)
        return train["question"], held_out["question"], module.data_facts(script)["eval_split"]

    first = load("first", held_out=0.4, split_seed=7)
    split = tmp_path / "first" / "split.json"
    assert len(json.loads(split.read_text())["held_out_charts"]) == 3
    assert load("second", held_out=0.4)[:2] != first[:2]
    again = load("third", split_file=str(split))
    assert again[:2] == first[:2]
    assert again[2] == "the charts of split.json, held out"
    charts = [
        json.loads((tmp_path / name / "split.json").read_text())["held_out_charts"] for name in ("first", "third")
    ]
    assert charts[0] == charts[1]
    load("check", check="True")
    assert not (tmp_path / "check" / "split.json").exists()
    with pytest.raises(ValueError, match="leave out one of them"):
        module.ScriptArguments(eval_data="a.csv", split_file="split.json")


def test_a_resumed_training_holds_out_the_same_charts_though_the_data_have_grown(tmp_path, caplog):
    module = example(OWN)
    drawn_charts(40, seed=3).to_parquet(tmp_path / "grown.parquet")
    drawn_charts(40, seed=3).select(range(60)).to_parquet(tmp_path / "first.parquet")

    def load(data: str, resume: str | None = None, output: str = "out", **changes: Any):
        args = ChartQATrainingArguments(output_dir=str(tmp_path / output), use_cpu=True)
        script = module.ScriptArguments(dataset_name=str(tmp_path / data), **changes)
        train, held_out = module.load(script, args, resume)
        return set(train["chart_id"]), set(held_out["chart_id"]), module.data_facts(script)["eval_split"]

    trained, held_out, facts = load("first.parquet", held_out=0.3, split_seed=1)
    assert facts == "30% of its charts, held out (split_seed 1)"
    split = tmp_path / "out" / "split.json"
    written, checkpoint = split.read_text(), str(tmp_path / "out" / "checkpoint-2")
    assert load("grown.parquet", output="new", held_out=0.3, split_seed=1)[1] & trained
    now, again, resumed = load("grown.parquet", checkpoint)
    assert again == held_out
    assert now > trained
    assert resumed == facts
    assert split.read_text() == written
    assert load("grown.parquet", checkpoint, output="elsewhere")[1] == held_out
    assert (tmp_path / "elsewhere" / "split.json").read_text() == written
    assert load("grown.parquet", checkpoint, split_file=str(split))[1] == held_out
    with pytest.raises(ValueError, match="which were drawn with --split_seed 1, not 9: leave it out, or start a new"):
        load("grown.parquet", checkpoint, split_seed=9)
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"held_out_charts": sorted(trained)[:2]}))
    with pytest.raises(ValueError, match=rf"other\.json has 2 others, such as '{sorted(trained)[0]}'"):
        load("grown.parquet", checkpoint, split_file=str(other))
    # A file from before it said how its charts were drawn.
    split.write_text(json.dumps({"held_out_charts": sorted(held_out)}))
    assert load("grown.parquet", checkpoint)[1:] == (held_out, "the charts of split.json, held out")
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    load("first.parquet", str(tmp_path / "nowhere" / "checkpoint-2"))
    assert "there is no" in caplog.text
    assert "if it was started with --eval_data, give it again" in caplog.text


@pytest.mark.parametrize("chosen_by", ["eval_data", "split_file"])
@pytest.mark.parametrize("drawn_by", [{"held_out": 0.5}, {"split_seed": 0}])
def test_charts_are_not_drawn_where_others_are_named(chosen_by, drawn_by):
    with pytest.raises(ValueError, match=f"--{chosen_by} says what to score .* leave out --{next(iter(drawn_by))}$"):
        example(OWN).ScriptArguments(**{chosen_by: "charts.json"}, **drawn_by)


def test_bad_texts_are_skipped_with_bad_records_and_a_revision_is_that_of_the_training_data(tmp_path, monkeypatch):
    module = example(OWN)
    drawn_charts().to_parquet(tmp_path / "scored.parquet")
    revisions = {}

    def load_chartqa(source, *, revision, **settings):
        revisions[source] = revision
        return {"train": drawn_charts()}

    monkeypatch.setattr("chartqa_ft.scripts.loading.load_chartqa", load_chartqa)
    args = ChartQATrainingArguments(output_dir=str(tmp_path / "out"), use_cpu=True)
    scored = str(tmp_path / "scored.parquet")
    names = {"dataset_name": "me/charts", "dataset_revision": "v1", "eval_data": scored}
    module.load(module.ScriptArguments(**names), args)
    assert revisions == {"me/charts": "v1", scored: None}
    assert args.on_bad_text == "raise"
    module.load(module.ScriptArguments(**names, on_error="skip"), args)
    assert args.on_bad_text == "skip"
