"""Files of records: every type, splits and sources from their names, files that cannot be read."""

from __future__ import annotations

import csv
import json

import pytest
from datasets import (
    DatasetDict,
    IterableDatasetDict,
)

from chartqa_ft.data import LayoutError, RecordError
from chartqa_ft.data.load import load_chartqa
from chartqa_ft.data.record_files import find_splits

from ..support.chart_records import (
    EXPECTED,
    RECORDS,
    plain,
    row,
    rows_of,
    write_images,
    write_records,
)


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet"])
def test_own_records_in_every_kind_of_file(folder, suffix, streaming):
    path = write_records(folder / f"charts{suffix}", RECORDS)
    assert rows_of(path, "train", streaming) == EXPECTED
    if suffix != ".parquet":
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # as Excel and Notepad save UTF-8
        assert rows_of(folder, "train", streaming) == EXPECTED


@pytest.mark.parametrize("name", ["charts.csv", "charts.tsv"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_tables_with_every_delimiter(folder, name, delimiter, quoting, streaming):
    records = [{**RECORDS[0], "query": "Tea, milk; or\tboth?", "label": "1,5"}, RECORDS[2]]
    with open(folder / name, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(records[0]), delimiter=delimiter, quoting=quoting)
        writer.writeheader()
        writer.writerows(records)
    assert rows_of(folder / name, "train", streaming) == [
        row(10, "Tea, milk; or\tboth?", "1,5", "unknown", "a.png"),
        EXPECTED[2],
    ]


def test_splits_and_sources_from_file_names(folder, streaming):
    for name in ("train_human", "train_augmented", "chartqa_TEST"):
        write_records(folder / f"{name}.jsonl", RECORDS[:1])
    loaded = load_chartqa(folder, streaming=streaming)
    assert isinstance(loaded, IterableDatasetDict if streaming else DatasetDict)
    assert {name: [r["source"] for r in part] for name, part in loaded.items()} == {
        "train": ["human", "augmented"],
        "test": ["unknown"],
    }


@pytest.mark.parametrize("name", ["dev", "test", "Train", "val", "valid"])
def test_a_folder_of_all_splits_may_be_called_like_one(tmp_path, name):
    folder = tmp_path / name
    write_images(folder, a=10, b=20)
    write_records(folder / "train.json", RECORDS)
    write_records(folder / "test.json", RECORDS[:1])
    loaded = load_chartqa(folder)
    assert {split: plain(part) for split, part in loaded.items()} == {"test": EXPECTED[:1], "train": EXPECTED}
    assert list(find_splits(folder / "test.json")) == ["test"]


def test_which_name_says_what_split_a_file_is_of(tmp_path):
    for name in ("test/train/val.json", "test/val/questions.json"):
        (tmp_path / name).parent.mkdir(parents=True)
        write_records(tmp_path / name, RECORDS)
    assert list(find_splits(tmp_path / "test")) == ["train", "val"]  # a folder inside, before the file
    assert list(find_splits(tmp_path / "test" / "train")) == ["val"]  # the file, before the folder that is given
    assert list(find_splits(tmp_path / "test" / "val")) == ["val"]


@pytest.mark.parametrize("metadata", ["metadata.csv", "metadata.jsonl"])
def test_image_folder(tmp_path, metadata, streaming):
    for split, shade in (("train", 1), ("test", 2)):
        write_images(tmp_path / "own" / split / "deep", **{split: shade})
        records = [{"file_name": f"deep/{split}.png", "question": "Q?", "answer": split}]
        write_records(tmp_path / "own" / split / metadata, records)
    assert rows_of(tmp_path / "own", "test", streaming) == [row(2, "Q?", "test", "unknown", "deep/test.png")]
    assert rows_of(tmp_path / "own" / "train", "train", streaming) == [
        row(1, "Q?", "train", "unknown", "deep/train.png")
    ]


def test_labels_in_tables_stay_as_they_are_written(folder, streaming):
    labels = ["0012", "NA", "None", "nan", "12.50", "1e5", "['14']", "a, b", 'say "x"']
    path = write_records(folder / "charts.csv", [{**RECORDS[0], "label": label} for label in labels])
    loaded = [r["answer"] for r in rows_of(path, "train", streaming)]
    assert loaded == ["0012", "NA", "None", "nan", "12.50", "1e5", "14", "a, b", 'say "x"']


def test_a_json_file_may_wrap_its_list_or_hold_lines(folder):
    (folder / "charts.json").write_text(json.dumps({"version": 1, "data": RECORDS}))
    assert plain(load_chartqa(folder)["train"]) == EXPECTED
    (folder / "charts.json").write_text("\n".join(map(json.dumps, RECORDS)))
    assert plain(load_chartqa(folder)["train"]) == EXPECTED


def test_files_that_are_not_understood(tmp_path, folder):
    with pytest.raises(LayoutError, match=r"no records found.*Found: images"):
        load_chartqa(folder)
    (folder / "notes.txt").write_text("no records")
    with pytest.raises(LayoutError, match="unsupported file type"):
        load_chartqa(folder / "notes.txt")
    for content, message in (
        ("[]", "contains no records"),
        ("[1, 2", "not valid JSON"),
        ('"text"', "expected a list of records, found str"),
        ('{"a": [], "b": []}', "found an object with 'a', 'b'"),
    ):
        (folder / "charts.json").write_text(content)
        with pytest.raises(LayoutError, match=message):
            load_chartqa(folder)
    (folder / "charts.json").write_bytes(b'[{"query": "\xff"}]')
    with pytest.raises(LayoutError, match="save it as UTF-8"):
        load_chartqa(folder)
    write_records(folder / "charts.csv", RECORDS)
    with pytest.raises(LayoutError, match=r"files of several types \(charts.csv, charts.json\)"):
        load_chartqa(folder)


def test_lines_that_are_not_understood(folder, caplog):
    good = json.dumps(RECORDS[0])
    (folder / "charts.jsonl").write_text(f'{good}\n{{"imgname": \n{good}\n')
    with pytest.raises(RecordError, match="malformed record: line 2 is not valid JSON"):
        load_chartqa(folder / "charts.jsonl")
    assert len(load_chartqa(folder / "charts.jsonl", split="train", on_error="skip")) == 2
    (folder / "charts.csv").write_text("imgname,query,label\na.png,Q?,A\na.png,One, two?,A\n")
    with pytest.raises(RecordError, match="line 3 has more fields than the header"):
        load_chartqa(folder / "charts.csv")
    assert len(load_chartqa(folder / "charts.csv", split="train", on_error="skip")) == 1


@pytest.mark.parametrize("inside", ["test/test.csv", "validation/questions.jsonl"])
def test_files_of_splits_and_folders_of_others_are_read_together(folder, inside, caplog):
    for name in ("train.csv", inside):
        (folder / name).parent.mkdir(exist_ok=True)
        write_records(folder / name, RECORDS)
    write_images(folder, a=10, b=20)
    loaded = load_chartqa(folder)
    assert {split: plain(part) for split, part in loaded.items()} == {
        "train": EXPECTED,
        inside.partition("/")[0]: EXPECTED,
    }
    assert not caplog.records


@pytest.mark.parametrize(("beside", "left_out"), [("train.csv", "train/a.csv"), ("questions.csv", "test/a.csv")])
def test_records_that_are_left_out_are_named(folder, beside, left_out, caplog):
    for name in (beside, left_out):
        (folder / name).parent.mkdir(exist_ok=True)
        write_records(folder / name, RECORDS)
    write_images(folder, a=10, b=20)
    assert list(load_chartqa(folder)) == ["train"]
    assert f"only {beside} is read, and {left_out} is left out: pass the path of what you want" in caplog.text


@pytest.mark.parametrize(("records", "table"), [("test.csv", "train.parquet"), ("test/a.csv", "train.parquet")])
def test_a_parquet_file_of_another_split_is_not_left_out(folder, records, table):
    for name in (records, table):
        (folder / name).parent.mkdir(exist_ok=True)
        write_records(folder / name, RECORDS)
    with pytest.raises(LayoutError, match=rf"{table} would be left out, since it is of another type than {records}"):
        load_chartqa(folder)


@pytest.mark.parametrize("number", [6, 7])
def test_columns_of_texts_are_not_taken_for_records_of_open_cqa(folder, number):
    columns = {"image": ["a.png"] * number, "question": ["Q?"] * number, "answer": ["A"] * number}
    (folder / "charts.json").write_text(json.dumps(columns))
    with pytest.raises(LayoutError, match="expected a list of records, found an object with 'image', 'question'"):
        load_chartqa(folder, on_error="skip")


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("source", {"UN Human Development Report 2020": "unknown", "Journal of Machine Learning": "unknown"}),
        ("source", {"human_test": "human", "Machine-generated": "augmented", "0": "human", "1": "augmented"}),
        ("type", {"0": "unknown", "1": "unknown", "2": "unknown", "human": "human"}),
        ("human_or_machine", {"0": "human", "1": "augmented", "2": "unknown"}),
    ],
)
def test_a_source_is_a_short_label(folder, column, values, streaming):
    path = write_records(folder / "charts.csv", [{**RECORDS[0], column: value} for value in values])
    write_images(folder, a=10)
    assert [row["source"] for row in rows_of(path, "train", streaming)] == [*values.values()]
