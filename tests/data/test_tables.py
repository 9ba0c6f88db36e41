"""Tables as answers: the tables of the original ChartQA folder, and those of own files and loaded data sets."""

from __future__ import annotations

import io
import json

import pytest
from datasets import Dataset
from PIL import Image

from chartqa_ft import RecordError, load_chartqa, parse_table, read_table_csv, table_scores
from chartqa_ft.data.columns import LayoutError

from ..support.common import ROOT

SHARED = ROOT.parent / "shared" / "chartqa"
LINES = "Year | EU\n2019 | 1204\n2020 | nan"


def png(size=(32, 24)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "white").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def original(tmp_path):
    """A folder in the layout of ChartQA, with a chart that has no table and one table that has no chart."""
    for split, stems in (("train", ["1", "2"]), ("val", ["3"])):
        for name in ("png", "tables"):
            (tmp_path / split / name).mkdir(parents=True)
        for stem in stems:
            (tmp_path / split / "png" / f"{stem}.png").write_bytes(png())
        (tmp_path / split / "tables" / f"{stems[0]}.csv").write_text("Year,EU\r\n2019,1204\r\n2020,nan\r\n")
        records = [{"imgname": f"{stem}.png", "query": "How much?", "label": "7"} for stem in stems]
        (tmp_path / split / f"{split}_human.json").write_text(json.dumps(records))
    return tmp_path


def test_tables_of_the_original_folder_are_records_of_their_own(original):
    data = load_chartqa(original, task="table")
    assert {split: part["chart_id"] for split, part in data.items()} == {"train": ["1.png"], "val": ["3.png"]}
    record = data["train"][0]
    assert record["image"].size == (32, 24)
    assert {name: record[name] for name in ("question", "answer", "task", "source")} == {
        "question": "",
        "answer": LINES,
        "task": "table",
        "source": "unknown",
    }
    assert load_chartqa(original)["train"].column_names == ["image", "question", "answer", "source", "chart_id"]


def test_one_split_and_a_stream_of_it_have_the_same_tables(original):
    (one,) = load_chartqa(original / "train", task="table").values()
    assert one["answer"] == [LINES]
    stream = load_chartqa(original, task="table", split="val", streaming=True)
    assert [record["answer"] for record in stream] == [LINES]


def test_a_table_without_its_chart_and_a_damaged_one_are_named(original):
    (original / "val" / "tables" / "4.csv").write_text("Year,EU\n2019,1\n")
    (original / "val" / "png" / "5.png").write_bytes(png())
    (original / "val" / "tables" / "5.csv").write_text("Year,EU\n")
    errors: list[RecordError] = []
    assert len(load_chartqa(original, task="table", split="val", on_error=errors.append)) == 1
    assert [error.reason for error in errors] == ["no image file", "no table"]


def test_a_table_that_is_a_link_out_of_the_folder_is_refused(original, tmp_path_factory):
    secret = tmp_path_factory.mktemp("outside") / "secret.csv"
    secret.write_text("a,b\n1,2\n")
    (original / "val" / "tables" / "9.csv").symlink_to(secret)
    with pytest.raises(LayoutError, match=r"9\.csv"):
        load_chartqa(original, task="table")


@pytest.mark.parametrize(
    "table",
    [
        "Year,EU\n2019,1204\n2020,nan",
        "Year | EU & 2019 | 1204 & 2020 | nan",
        "| Year | EU |\n|---|---|\n| 2019 | 1204 |\n| 2020 | nan |",
        "Year | EU <0x0A> 2019 | 1204 <0x0A> 2020 | nan",
        [["Year", "EU"], [2019, 1204], [2020, "nan"]],
        [{"Year": 2019, "EU": 1204}, {"Year": 2020, "EU": "nan"}],
        {"header": ["Year", "EU"], "rows": [["2019", "1204"], ["2020", "nan"]]},
        {"columns": ["Year", "EU"], "data": [[2019, 1204.0], [2020, "nan"]]},
        "tables/own.csv",
    ],
)
def test_own_tables_come_in_any_form(tmp_path, table):
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "own.csv").write_text("Year,EU\n2019,1204\n2020,nan\n")
    (tmp_path / "a.png").write_bytes(png())
    for name in ("table", "answer"):
        (tmp_path / "charts.json").write_text(json.dumps([{"image": "a.png", name: table}]))
        data = load_chartqa(tmp_path / "charts.json", task="table", split="train")
        assert data["answer"] == [LINES]
    (tmp_path / "charts.json").write_text(json.dumps([{"image": "a.png", "task": "table", "answer": table}]))
    assert load_chartqa(tmp_path / "charts.json", split="train")["answer"] == [LINES]


@pytest.mark.parametrize("table", ["7", [], [["Year"]], {"header": ["a"]}, [1, 2], "../own.csv", "missing.csv"])
def test_what_is_no_table_is_a_bad_record(tmp_path, table):
    (tmp_path / "own.csv").write_text("Year,EU\n2019,1204\n")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.png").write_bytes(png())
    (folder / "charts.json").write_text(json.dumps([{"image": "a.png", "table": table}]))
    with pytest.raises(RecordError):
        load_chartqa(folder / "charts.json", task="table")


def test_rows_of_unichart_table_data_are_read():
    markdown = "|Characteristic | EU |\n|---|---|\n| 2019 | 1204 |\n"
    rows = Dataset.from_list([{"image": png(), "table": markdown, "sample_id": "17"}])
    data = load_chartqa(rows, task="table")
    assert data["answer"] == ["Characteristic | EU\n2019 | 1204"]
    assert data["task"] == ["table"]


def test_labels_with_separators_survive(tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    rows = [["Region", "Sales"], ["Asia & Pacific", "5"], ["A | B", "7"]]
    (tmp_path / "charts.json").write_text(json.dumps([{"image": "a.png", "table": rows}]))
    (answer,) = load_chartqa(tmp_path / "charts.json", task="table", split="train")["answer"]
    assert [list(row) for row in (parse_table(answer).header, *parse_table(answer).rows)] == rows


def test_a_task_without_questions_needs_no_column_of_them(tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "charts.csv").write_text("image,summary\na.png,Sales rose.\n")
    data = load_chartqa(tmp_path / "charts.csv", task="summary", split="train")
    assert data[0]["answer"] == "Sales rose."
    assert (data[0]["question"], data[0]["task"]) == ("", "summary")
    for task in (None, "qa", "open_qa"):
        with pytest.raises(LayoutError, match="no column for question"):
            load_chartqa(tmp_path / "charts.csv", task=task, column_map={"answer": "summary"})
    with pytest.raises(ValueError, match="task must be the name of a task"):
        load_chartqa(tmp_path / "charts.csv", task="a table")


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real charts beside the checkout")
def test_the_real_tables_are_those_of_their_files():
    data = load_chartqa(SHARED, task="table", split="test")
    assert len(data) == 114
    tables = {path.stem: read_table_csv(path) for path in (SHARED / "test" / "tables").glob("*.csv")}
    files = [tables[name.removesuffix(".png")] for name in data["chart_id"]]
    assert table_scores(data["answer"], files)["rms_f1"] == 1.0
