"""The file of held-out charts, and the records that scripts read with it."""

from __future__ import annotations

import json

import pytest

from chartqa_ft import ChartQATrainingArguments
from chartqa_ft.data import split_by_chart
from chartqa_ft.data.splitting import split_by_chart_id
from chartqa_ft.scripts import finetune_own_data
from chartqa_ft.scripts.arguments import DataArguments, EvalDataArguments
from chartqa_ft.scripts.held_out import read_split, split_by_file, write_split
from chartqa_ft.scripts.loading import load_eval_records, load_records
from chartqa_ft.scripts.next_steps import next_commands

from ..support.common import drawn_charts
from ..support.launching import write_original_layout


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A Parquet file without splits in the working directory."""
    monkeypatch.chdir(tmp_path)
    drawn_charts().to_parquet(tmp_path / "questions.parquet")
    return drawn_charts()


def test_the_same_charts_are_held_out_again(tmp_path):
    train, held_out = split_by_chart(drawn_charts(), 0.4, seed=1)
    path = write_split(tmp_path / "new" / "split.json", held_out["chart_id"])
    assert read_split(path) == list(dict.fromkeys(held_out["chart_id"]))
    again = split_by_file(drawn_charts(), path, "questions.csv")
    assert [part["question"] for part in again] == [train["question"], held_out["question"]]


def test_new_charts_are_trained_on_and_copies_of_held_out_charts_are_not():
    records = drawn_charts()
    first = records["chart_id"][0]
    copied = records.map(lambda row: {"chart_id": f"copy of {row['chart_id']}"} if row["chart_id"] == first else {})
    train, held_out = split_by_chart_id(copied, [records["chart_id"][-1], "gone"])
    assert set(held_out["chart_id"]) == {records["chart_id"][-1]}
    assert len(train) + len(held_out) == len(records)
    both = records.select([0]).map(lambda row: {"chart_id": "copy"})
    from datasets import concatenate_datasets

    train, held_out = split_by_chart_id(concatenate_datasets([records, both]), [first])
    assert set(held_out["chart_id"]) == {first, "copy"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "names no held-out charts"),
        ('{"held_out_charts": []}', "names no held-out charts"),
        ('{"held_out_charts": "a.png"}', "names no held-out charts"),
        ('{"held_out_charts": ["a.png", 3]}', "names no held-out charts"),
        ("[1, 2", "is damaged"),
        ('["a.png"]', "is damaged"),
        (
            '{"held_out_charts": ["a.png", "b.png"]}',
            "none of the 2 charts of .*, such as 'a.png', is in q.csv",
        ),
    ],
)
def test_files_that_are_not_understood_are_named(tmp_path, content, message):
    (tmp_path / "split.json").write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        split_by_file(drawn_charts(), tmp_path / "split.json", "q.csv")
    assert "split.json" in str(caught.value)


def test_something_is_left_to_train_on(tmp_path):
    path = write_split(tmp_path / "split.json", drawn_charts()["chart_id"])
    with pytest.raises(ValueError, match=r"holds out all charts of q\.csv"):
        split_by_file(drawn_charts(), path, "q.csv")
    assert len(split_by_file(drawn_charts(), path, "q.csv", training=False)[1]) == len(drawn_charts())


def test_charts_that_are_gone_are_counted(tmp_path, caplog):
    charts = [*dict.fromkeys(drawn_charts()["chart_id"])][:2]
    path = write_split(tmp_path / "split.json", [*charts, "gone.png"])
    assert set(split_by_file(drawn_charts(), path, "q.csv")[1]["chart_id"]) == set(charts)
    assert caplog.messages == [f"1 of 3 charts of {path} are not in q.csv"]


def test_every_script_takes_the_file(data, tmp_path):
    charts = [*dict.fromkeys(data["chart_id"])][:3]
    split = str(write_split(tmp_path / "split.json", charts))
    args = ChartQATrainingArguments(output_dir="out", use_cpu=True)
    script = DataArguments(dataset_name="questions.parquet", split_file=split, max_eval_samples=4)
    train, evaluation = load_records(script, args)
    assert len(evaluation) == 4
    assert set(evaluation["chart_id"]) <= set(charts)
    assert set(train["chart_id"]) == set(data["chart_id"]) - set(charts)
    script = EvalDataArguments(dataset_name="questions.parquet", split_file=split, eval_split="test")
    records, asked = load_eval_records(script)
    assert set(records["chart_id"]) == set(charts)
    assert asked == "the held-out charts of questions.parquet"


@pytest.mark.parametrize(("asked", "read"), [("test", ""), ("val", ""), ("test[:3]", "[:3]")])
def test_a_file_without_splits_is_evaluated_as_it_is(data, asked, read):
    script = EvalDataArguments(dataset_name="questions.parquet", eval_split=asked)
    records, _ = load_eval_records(script)
    assert records["question"] == data["question"][: 3 if "[" in asked else None]
    assert script.eval_split == read


def test_a_file_with_a_split_in_its_name_is_not_taken_for_another(data, tmp_path):
    data.to_parquet(tmp_path / "train.parquet")
    with pytest.raises(ValueError, match="has no split 'test'; it has 'train'"):
        load_eval_records(EvalDataArguments(dataset_name="train.parquet", eval_split="test"))
    (tmp_path / "split").mkdir()
    rows = [{"image": "a.png", "question": "Q?", "answer": "1"}]
    (tmp_path / "split" / "test.json").write_text(json.dumps(rows))
    drawn_charts()[0]["image"].save(tmp_path / "split" / "a.png")
    assert len(load_eval_records(EvalDataArguments(dataset_name="split", eval_split="test"))[0]) == 1


def test_every_layout_of_a_folder_is_evaluated(data, tmp_path):
    clone = tmp_path / "clone" / "ChartQA Dataset"
    write_original_layout(clone, train=data.select(range(9)), test=data.select(range(12)))
    (tmp_path / "clone" / "README.md").write_text("The charts.")
    data.select(range(3)).save_to_disk(tmp_path / "saved")
    for folder, number in (("clone", 12), ("saved", 3)):
        assert len(load_eval_records(EvalDataArguments(dataset_name=folder, eval_split="test"))[0]) == number
    for split in ("train", "test"):
        (tmp_path / "tables" / split / "png").mkdir(parents=True)
        (tmp_path / "tables" / split / "tables").mkdir()
        data[0]["image"].save(tmp_path / "tables" / split / "png" / "two_col_val_1.png")
        (tmp_path / "tables" / split / "tables" / "two_col_val_1.csv").write_text(f"Year,EU\n2019,{len(split)}\n")
    for folder in ("tables", "tables/test"):
        script = EvalDataArguments(dataset_name=folder, eval_split="test", task="table")
        assert load_eval_records(script)[0]["answer"][:] == ["Year | EU\n2019 | 4"]
    (tmp_path / "tables" / "test").rename(tmp_path / "own")
    script = EvalDataArguments(dataset_name="own", eval_split="test", task="table")
    assert len(load_eval_records(script)[0]) == 1


def test_training_scripts_take_no_file_without_splits_for_both(data):
    args = ChartQATrainingArguments(output_dir="out", use_cpu=True)
    with pytest.raises(ValueError, match="has no split 'val'"):
        load_records(DataArguments(dataset_name="questions.parquet"), args)


def test_a_revision_of_a_local_file_is_refused_in_the_words_of_the_command_line(data):
    script = EvalDataArguments(dataset_name="questions.parquet", dataset_revision="v1")
    with pytest.raises(ValueError, match="--dataset_revision is for data sets on the Hub"):
        load_eval_records(script)


def test_the_proposed_evaluation_asks_about_the_held_out_charts_alone(data, tmp_path):
    own = finetune_own_data.ScriptArguments(dataset_name="q.csv")
    assert "--split_file" not in next_commands(own, tmp_path)["score"]
    write_split(tmp_path / "split.json", ["a.png"])
    assert f"--split_file {tmp_path}/split.json" in next_commands(own, tmp_path)["score"]
    other = finetune_own_data.ScriptArguments(dataset_name="q.csv", eval_data="test.csv")
    assert "--split_file" not in next_commands(other, tmp_path)["score"]
    for name, split in (("own/charts", " --eval_split train"), ("questions.parquet", "")):
        given = next_commands(DataArguments(dataset_name=name, split_file="mine.json"), tmp_path)["score"]
        assert f"--split_file mine.json{split} --output_dir" in given
