"""`load_chartqa` on every published layout and on own data, every trap of them, every error in both modes."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import os
import pickle
import random
import struct
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import (
    ClassLabel,
    Dataset,
    DatasetDict,
    Features,
    IterableDataset,
    IterableDatasetDict,
    List,
    Value,
)
from PIL import Image

from chartqa_ft.data import LayoutError, RecordError
from chartqa_ft.data.load import load_chartqa
from chartqa_ft.data.splitting import stratified_subset

COLUMNS = ["image", "question", "answer", "source", "chart_id"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    """Nothing that a test loads is taken from, or left in, the user's cache."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf_cache")


def chart(shade: int, format: str = "PNG", size: tuple[int, int] = (8, 6)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (shade, 0, 0)).save(buffer, format)
    return buffer.getvalue()


def undecodable(size: tuple[int, int] = (8, 6)) -> bytes:
    """A PNG whose structure is whole and whose pixels are not: a proof that nothing decodes it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"no zlib stream at all") + chunk(b"IEND", b"")


def plain(dataset) -> list[dict]:
    """All rows, images as (width, height, red of the first pixel)."""
    return [{**row, "image": (*row["image"].size, row["image"].getpixel((0, 0))[0])} for row in dataset]


def row(shade, question, answer, source, chart_id) -> dict:
    return {"image": (8, 6, shade), "question": question, "answer": answer, "source": source, "chart_id": chart_id}


def texts(dataset, column: str) -> list[str]:
    return list(dataset[column])


def write_images(folder: Path, **shades: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, shade in shades.items():
        (folder / f"{name}.png").write_bytes(chart(shade))


RECORDS = [
    {"imgname": "a.png", "query": "What is most?", "label": "Tea"},
    {"imgname": "a.png", "query": "How many?", "label": "12"},
    {"imgname": "b.png", "query": "Which years?", "label": "[2017, 2023]"},
]
EXPECTED = [
    row(10, "What is most?", "Tea", "unknown", "a.png"),
    row(10, "How many?", "12", "unknown", "a.png"),
    row(20, "Which years?", "[2017, 2023]", "unknown", "b.png"),
]


@pytest.fixture
def folder(tmp_path) -> Path:
    """An empty folder whose name says nothing about a split, with two charts in images/."""
    folder = tmp_path / "charts"
    write_images(folder / "images", a=10, b=20)
    return folder


def original(folder: Path, tables: bool) -> Path:
    """The original layout: test has both sources, val only human questions."""
    for split, names in (("test", {"one": 10, "two": 20}), ("val", {"three": 30, "four": 40})):
        write_images(folder / split / "png", **names)
        if tables:
            (folder / split / "tables").mkdir()
            (folder / split / "tables" / "one.csv").write_text("Year,Share\n2017,5\n")
            (folder / split / "annotations").mkdir()
            (folder / split / "annotations" / "one.json").write_text('{"models": []}')
        human = [{"imgname": f"{list(names)[1]}.png", "query": f"{split} human?", "label": "[Germany, France]"}]
        (folder / split / f"{split}_human.json").write_text(json.dumps(human))
    augmented = [{"imgname": name, "query": f"augmented {name}?", "label": "5.5"} for name in ("one.png", "two.png")]
    (folder / "test" / "test_augmented.json").write_text(json.dumps(augmented))
    return folder


# ----------------------------------------------------------------------------------------------------- original layout


@pytest.mark.parametrize("tables", [False, True])
def test_original_folder(tmp_path, tables):
    loaded = load_chartqa(original(tmp_path / "ChartQA", tables))
    assert isinstance(loaded, DatasetDict)
    assert {split: dataset.column_names for split, dataset in loaded.items()} == {"test": COLUMNS, "val": COLUMNS}
    assert plain(loaded["test"]) == [
        row(20, "test human?", "[Germany, France]", "human", "two.png"),
        row(10, "augmented one.png?", "5.5", "augmented", "one.png"),
        row(20, "augmented two.png?", "5.5", "augmented", "two.png"),
    ]
    assert plain(loaded["val"]) == [row(40, "val human?", "[Germany, France]", "human", "four.png")]
    assert isinstance(loaded["test"].features["image"], datasets.Image)
    assert [str(loaded[name].split) for name in loaded] == ["test", "val"]


def test_original_folder_found_from_above_and_from_one_split(tmp_path):
    whole = load_chartqa(original(tmp_path / "repo" / "ChartQA Dataset", tables=True))
    assert {split: plain(part) for split, part in load_chartqa(tmp_path / "repo").items()} == {
        split: plain(part) for split, part in whole.items()
    }
    alone = load_chartqa(tmp_path / "repo" / "ChartQA Dataset" / "val")
    assert list(alone) == ["val"]
    assert plain(alone["val"]) == plain(whole["val"])
    one_file = load_chartqa(str(tmp_path / "repo" / "ChartQA Dataset" / "test" / "test_augmented.json"), split="test")
    assert plain(one_file) == plain(whole["test"])[1:]


@pytest.mark.parametrize("name", ["val", "validation", "valid", "dev"])
def test_the_validation_split_has_many_names(tmp_path, name):
    source = original(tmp_path / "ChartQA", tables=False)
    assert texts(load_chartqa(source, split=name), "question") == ["val human?"]
    (source / "val").rename(source / "validation")
    assert list(load_chartqa(source)) == ["test", "validation"]
    assert texts(load_chartqa(source, split=name), "question") == ["val human?"]


def test_split_expressions(tmp_path):
    source = original(tmp_path / "ChartQA", tables=False)
    everything = [*plain(load_chartqa(source, split="test")), *plain(load_chartqa(source, split="val"))]
    assert plain(load_chartqa(source, split="test+validation")) == everything
    assert plain(load_chartqa(source, split="test[1:]")) == everything[1:3]
    assert plain(load_chartqa(source, split="test[:2]+val[:100%]")) == [*everything[:2], everything[3]]
    assert plain(load_chartqa(load_chartqa(source), split="test[-1:]")) == everything[2:3]
    with pytest.raises(ValueError, match=r"has no split 'train'; it has 'test', 'val'"):
        load_chartqa(source, split="train")
    with pytest.raises(ValueError, match=r"\.take\(\)"):
        load_chartqa(source, split="test[:2]", streaming=True)


def test_an_unread_split_is_not_checked_and_an_index_counts_from_the_start_of_the_split(tmp_path):
    source = original(tmp_path / "ChartQA", tables=False)
    (source / "test" / "png" / "two.png").unlink()
    assert len(load_chartqa(source, split="val")) == 1
    assert len(load_chartqa(source, split="test[1:2]")) == 1
    with pytest.raises(RecordError) as caught:
        load_chartqa(source, split="test[1:]")
    assert (caught.value.split, caught.value.index, caught.value.file) == ("test", 2, "two.png")


def test_the_real_charts(shared: Path):
    loaded = load_chartqa(shared / "chartqa")
    test, train = loaded["test"], loaded["train"]
    assert Counter(test["source"]) == {"human": 400, "augmented": 463}
    assert len(set(test["chart_id"])) == 530
    assert Counter(train["source"]) == {"augmented": len(train)}
    assert len(set(train["chart_id"])) == 400
    official = json.loads((shared / "chartqa" / "test" / "test_human.json").read_text())
    assert texts(test, "question")[:400] == [record["query"] for record in official]
    assert texts(test, "answer")[:400] == [record["label"] for record in official]
    assert texts(test, "chart_id")[:400] == [record["imgname"] for record in official]
    assert "[United Kingdom, Cape Verde]" in texts(test, "answer")
    with Image.open(shared / "chartqa" / "test" / "png" / official[7]["imgname"]) as image:
        assert np.array_equal(np.asarray(test[7]["image"]), np.asarray(image))


# ------------------------------------------------------------------------------------------------ layouts of the Hub


def parquet(folder: Path, split: str, features: Features, rows: list[dict]) -> None:
    """A file as `push_to_hub` writes it: images inside, the features in the metadata."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    Dataset.from_list(rows, features=features).to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")


def digest_of(dataset, index: int) -> str:
    chart_id = dataset[index]["chart_id"]
    assert len(chart_id) == 32
    assert set(chart_id) <= set("0123456789abcdef")
    return chart_id


@pytest.fixture(params=[False, True], ids=["loaded", "streamed"])
def streaming(request) -> bool:
    return request.param


def rows_of(source, split: str, streaming: bool, **options) -> list[dict]:
    loaded = load_chartqa(source, split=split, streaming=streaming, **options)
    assert isinstance(loaded, IterableDataset if streaming else Dataset)
    return plain(loaded)


M4 = Features(
    {
        "image": datasets.Image(),
        "query": Value("string"),
        "label": List(Value("string")),
        "human_or_machine": ClassLabel(names=["human", "machine"]),
    }
)


def m4_rows(shade: int) -> list[dict]:
    inside = {"bytes": chart(shade), "path": None}
    return [
        {"image": inside, "query": "Human?", "label": ["14"], "human_or_machine": 0},
        {"image": inside, "query": "Machine?", "label": ["[2017, 2023]"], "human_or_machine": 1},
        {"image": {"bytes": chart(99), "path": None}, "query": "Other?", "label": ["Yes"], "human_or_machine": 1},
    ]


def test_hugging_face_m4(tmp_path, streaming):
    for split, shade in (("train", 10), ("val", 20), ("test", 30)):
        parquet(tmp_path / "m4", split, M4, m4_rows(shade))
    assert sorted(load_chartqa(tmp_path / "m4", streaming=streaming)) == ["test", "train", "val"]
    rows = rows_of(tmp_path / "m4", "validation", streaming)
    first, other = rows[0]["chart_id"], rows[2]["chart_id"]
    assert rows == [
        row(20, "Human?", "14", "human", first),
        row(20, "Machine?", "[2017, 2023]", "augmented", first),
        row(99, "Other?", "Yes", "augmented", other),
    ]
    assert first != other
    assert len(first) == 32
    # The same bytes have the same digest in every split.
    assert rows_of(tmp_path / "m4", "train", streaming)[2]["chart_id"] == other


def test_class_labels_are_read_by_name_and_bare_integers_by_the_card(tmp_path, streaming):
    turned = M4.copy()
    turned["human_or_machine"] = ClassLabel(names=["machine", "human"])
    parquet(tmp_path / "turned", "test", turned, m4_rows(1))
    assert [r["source"] for r in rows_of(tmp_path / "turned", "test", streaming)] == ["augmented", "human", "human"]
    bare = M4.copy()
    bare["human_or_machine"] = Value("int64")
    parquet(tmp_path / "bare", "test", bare, m4_rows(1))
    assert [r["source"] for r in rows_of(tmp_path / "bare", "test", streaming)] == ["human", "augmented", "augmented"]


def test_lmms_lab(tmp_path, streaming):
    names = ("type", "question", "answer")
    features = Features({**{name: Value("string") for name in names}, "image": datasets.Image()})
    rows = [
        {"type": kind, "question": f"{kind}?", "answer": "0.57", "image": {"bytes": chart(5), "path": "x.png"}}
        for kind in ("human_test", "augmented_test")
    ]
    parquet(tmp_path / "lmms", "test", features, rows)
    loaded = rows_of(tmp_path / "lmms", "test", streaming)
    chart_id = loaded[0]["chart_id"]
    assert loaded == [
        row(5, "human_test?", "0.57", "human", chart_id),
        row(5, "augmented_test?", "0.57", "augmented", chart_id),
    ]


@pytest.mark.parametrize("binary", [pa.binary(), pa.large_binary()])
def test_ahmed_masry_raw_bytes(tmp_path, streaming, binary):
    (tmp_path / "raw" / "data").mkdir(parents=True)
    schema = pa.schema([(name, pa.string()) for name in ("imgname", "query", "label", "type")] + [("image", binary)])
    rows = [
        {"imgname": "7.png", "query": "H?", "label": "1", "type": "human", "image": chart(1)},
        {"imgname": "8.png", "query": "M?", "label": "2", "type": "machine", "image": chart(2)},
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "raw" / "data" / "val-00000-of-00001.parquet")
    assert rows_of(tmp_path / "raw", "val", streaming) == [
        row(1, "H?", "1", "human", "7.png"),
        row(2, "M?", "2", "augmented", "8.png"),
    ]


@pytest.mark.parametrize("arranged", ["{split}/png", "{split}/images", "{split}", "png", "images", "."])
def test_without_images(tmp_path, streaming, arranged):
    columns = {name: Value("string") for name in ("imgname", "query", "label")}
    parquet(tmp_path / "bare", "val", Features(columns), RECORDS)
    write_images(tmp_path / "pictures" / arranged.format(split="val"), a=10, b=20)
    assert rows_of(tmp_path / "bare", "val", streaming, image_dir=tmp_path / "pictures") == EXPECTED
    hub = DatasetDict({"val": Dataset.from_list(RECORDS)})
    with pytest.raises(LayoutError, match=r"name their images \(column 'imgname'\).*pass image_dir="):
        load_chartqa(hub, streaming=streaming)
    with pytest.raises(FileNotFoundError, match=r"image_dir=.*nowhere.* is no folder"):
        load_chartqa(hub, image_dir=tmp_path / "nowhere")


def test_without_images_the_split_of_the_same_name_is_preferred(tmp_path):
    write_images(tmp_path / "pictures" / "train" / "png", a=1)
    write_images(tmp_path / "pictures" / "validation" / "png", a=2)
    write_images(tmp_path / "pictures", a=3)
    hub = DatasetDict({name: Dataset.from_list(RECORDS[:1]) for name in ("train", "val", "test")})
    loaded = load_chartqa(hub, image_dir=tmp_path / "pictures")
    assert {name: plain(part)[0]["image"][2] for name, part in loaded.items()} == {"train": 1, "val": 2, "test": 3}


PRO = pa.schema(
    [
        ("image", pa.binary()),
        ("Question", pa.list_(pa.string())),
        ("Answer", pa.list_(pa.string())),
        ("Question Type", pa.string()),
        ("Year", pa.list_(pa.string())),
        ("Paragraph", pa.string()),
    ]
)
PRO_ROWS = [
    {
        "image": chart(1),
        "Question": ["When?"],
        "Answer": ["[2016, 2018]"],
        "Question Type": "Factoid",
        "Year": ["YES", "YES"],
        "Paragraph": "",
    },
    {
        "image": chart(2, "JPEG"),
        "Question": ["Who leads?", "By how much?", "Since when?"],
        "Answer": ["Norway", "5%", "1999"],
        "Question Type": "Conversational",
        "Year": ["NO", "NO", "YES"],
        "Paragraph": None,
    },
    {
        "image": chart(1),
        "Question": ["True?"],
        "Answer": ["Yes"],
        "Question Type": "Fact Checking",
        "Year": ["NO"],
        "Paragraph": "The chart shows exports.",
    },
]


def test_chartqapro(tmp_path, streaming):
    (tmp_path / "pro").mkdir()
    pq.write_table(pa.Table.from_pylist(PRO_ROWS, PRO), tmp_path / "pro" / "test.parquet")
    loaded = load_chartqa(tmp_path / "pro", split="test", streaming=streaming)
    assert loaded.column_names == [*COLUMNS, "question_type", "year_flags"]
    rows = [{name: value for name, value in r.items() if name not in ("image", "chart_id")} for r in plain(loaded)]
    dialogue = "Question: Who leads?\nAnswer: Norway\nQuestion: By how much?\nAnswer: 5%\nQuestion: Since when?"
    assert rows == [
        {
            "question": "When?",
            "answer": "[2016, 2018]",
            "source": "unknown",
            "question_type": "Factoid",
            "year_flags": ["YES", "YES"],
        },
        {
            "question": dialogue,
            "answer": "1999",
            "source": "unknown",
            "question_type": "Conversational",
            "year_flags": ["YES"],
        },
        {
            "question": "The chart shows exports.\nTrue?",
            "answer": "Yes",
            "source": "unknown",
            "question_type": "Fact Checking",
            "year_flags": ["NO"],
        },
    ]
    ids = [r["chart_id"] for r in loaded]
    assert ids[0] == ids[2] != ids[1]


def test_image_lists(tmp_path, streaming):
    features = Features(
        {"images": List(datasets.Image()), "problem": Value("string"), "answers": List(Value("string"))}
    )
    inside = {"bytes": chart(3), "path": None}
    rows = [{"images": [inside], "problem": "P?", "answers": ["A"]}]
    parquet(tmp_path / "lists", "train", features, rows)
    assert [(r["image"], r["question"], r["answer"]) for r in rows_of(tmp_path / "lists", "train", streaming)] == [
        ((8, 6, 3), "P?", "A")
    ]
    parquet(tmp_path / "pairs", "train", features, [*rows, {**rows[0], "images": [inside, inside]}])
    with pytest.raises(RecordError, match=r"record 1 of split 'train'.*ambiguous record: 2 images"):
        rows_of(tmp_path / "pairs", "train", streaming)
    assert len(rows_of(tmp_path / "pairs", "train", streaming, on_error="skip")) == 1


def test_the_hub_gets_what_the_user_asked_for(monkeypatch):
    calls = []

    def fake(name, **options):
        calls.append((name, options))
        return DatasetDict({"val": Dataset.from_list(m4_rows(5), features=M4)})

    monkeypatch.setattr(datasets, "load_dataset", fake)
    loaded = load_chartqa("someone/any-name", revision="b605b6e", split="validation", token="t", cache_dir="c")
    assert calls == [("someone/any-name", {"revision": "b605b6e", "streaming": False, "token": "t", "cache_dir": "c"})]
    assert texts(loaded, "source") == ["human", "augmented", "augmented"]
    load_chartqa()
    assert calls[1] == ("HuggingFaceM4/ChartQA", {"revision": None, "streaming": False})


def test_a_hub_data_set_cannot_point_into_the_users_disk(monkeypatch, tmp_path):
    write_images(tmp_path, secret=1)
    features = Features({"image": datasets.Image(), "query": Value("string"), "label": Value("string")})
    rows = [{"image": {"bytes": None, "path": str(tmp_path / "secret.png")}, "query": "Q?", "label": "A"}]
    hostile = DatasetDict({"test": Dataset.from_list(rows, features=features)})
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: hostile)
    with pytest.raises(RecordError, match="no image file"):
        load_chartqa("hostile/set")
    assert len(load_chartqa(hostile)["test"]) == 1  # the user's own object is trusted


HUB_FILES = [
    "hf://datasets/someone/charts@abc/train/a.png",
    "zip://train/a.png::hf://datasets/someone/charts@abc/train.zip",
    "tar://a.png::gzip://a.tar::hf://datasets/someone/charts/a.tar.gz",
]
CHAINS = [
    "file://{}::hf://x",
    "file://../../{}::hf://datasets/someone/charts/a.zip",
    "zip://a.png::file://{}::hf://x",
    "hf://x::file://{}",
    "zip://a.png::hf://x::file://{}",
    "simplecache::hf://datasets/someone/charts/a.png",
    "http://127.0.0.1:9/a.png::hf://x",
    "http://127.0.0.1:9/a.png",
    "zip://a.png::https://127.0.0.1:9/a.zip",
    "file://{}",
]
NAMED_IMAGES = Features({"image": datasets.Image(), "query": Value("string"), "label": Value("string")})


def named_image(path: str) -> dict:
    return {"image": {"bytes": None, "path": path}, "query": "Q?", "label": "A"}


@pytest.mark.parametrize("path", HUB_FILES)
def test_a_stream_from_the_hub_may_name_files_there(path, monkeypatch):
    stream = Dataset.from_list([named_image(path)], features=NAMED_IMAGES).to_iterable_dataset()
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: IterableDatasetDict({"train": stream}))
    for source in ("someone/charts", stream):
        (record,) = load_chartqa(source, split="train", streaming=True).decode(False)
        assert record["image"] == {"bytes": None, "path": path}
        assert record["chart_id"] == path


@pytest.mark.parametrize("chain", CHAINS)
def test_a_stream_from_the_hub_cannot_name_other_files(chain, tmp_path, monkeypatch):
    write_images(tmp_path, secret=1)
    rows = [named_image(chain.format(tmp_path / "secret.png"))]
    stream = Dataset.from_list(rows, features=NAMED_IMAGES).to_iterable_dataset()
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: IterableDatasetDict({"train": stream}))
    for source in ("hostile/set", stream):
        with pytest.raises(RecordError, match=r"no image file|path leaves image_dir"):
            list(load_chartqa(source, split="train", streaming=True).decode(False))


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".parquet"])
@pytest.mark.parametrize("chain", [*HUB_FILES, *CHAINS])
def test_records_of_files_cannot_name_addresses(folder, chain, suffix, streaming):
    write_images(folder.parent, secret=1)
    path = chain.format(folder.parent / "secret.png")
    records = [named_image(path)]
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(records, NAMED_IMAGES.arrow_schema), folder / "charts.parquet")
    elif suffix == ".csv":
        records = [{**records[0], "image": path}]
    if suffix != ".parquet":
        write_records(folder / f"charts{suffix}", records)
    with pytest.raises(RecordError, match=r"no image file|path leaves image_dir"):
        rows_of(folder / f"charts{suffix}", "train", streaming)
    with pytest.raises(RecordError, match=r"no image file|path leaves image_dir"):
        rows_of(folder / f"charts{suffix}", "train", streaming, image_dir=folder)


# ------------------------------------------------------------------------------------------------------------ own data


def write_records(path: Path, records: list[dict]) -> Path:
    suffix = path.suffix
    if suffix == ".json":
        path.write_text(json.dumps(records), encoding="utf-8")
    elif suffix in (".jsonl", ".ndjson"):
        path.write_text("\n".join(map(json.dumps, records)) + "\n\n", encoding="utf-8")
    elif suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    else:
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(records[0]), delimiter="\t" if suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(records)
    return path


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


@pytest.mark.parametrize(
    ("header", "seen", "delimiter"),
    [
        ("imgname|query|label", "'imgname|query|label'", "'|'"),
        ("imgname;query;label,unit", "'imgname;query;label', 'unit'", "';'"),
    ],
)
def test_a_wrong_delimiter_is_named(folder, header, seen, delimiter):
    (folder / "charts.csv").write_text(f"{header}\na.png|Q?|A\n")
    with pytest.raises(LayoutError) as caught:
        load_chartqa(folder / "charts.csv")
    assert str(caught.value) == (
        f"{folder / 'charts.csv'}: no column for question and answer and image. Columns seen: {seen}. The {delimiter} "
        "in a column's name looks like a wrong delimiter: save the table with commas between its columns (read are "
        "also ';' and tabs, if nothing else divides the header)."
    )


@pytest.mark.parametrize("suffix", [".json", ".csv", ".parquet"])
def test_column_map(folder, suffix, streaming):
    records = [
        {"picture": f"images/{r['imgname']}", "text": r["query"], "value": r["label"], "kind": "human", "plot": "p1"}
        for r in RECORDS[:2]
    ]
    path = write_records(folder / f"charts{suffix}", records)
    column_map = {"image": "picture", "question": "text", "answer": "value", "source": "kind", "chart_id": "plot"}
    rows = rows_of(path, "train", streaming, column_map=column_map)
    assert [(r["image"], r["source"], r["chart_id"]) for r in rows] == [((8, 6, 10), "human", "p1")] * 2
    del column_map["chart_id"]
    assert rows_of(path, "train", streaming, column_map=column_map)[0]["chart_id"] == "a.png"


def test_splits_and_sources_from_file_names(folder, streaming):
    for name in ("train_human", "train_augmented", "chartqa_TEST"):
        write_records(folder / f"{name}.jsonl", RECORDS[:1])
    loaded = load_chartqa(folder, streaming=streaming)
    assert isinstance(loaded, IterableDatasetDict if streaming else DatasetDict)
    assert {name: [r["source"] for r in part] for name, part in loaded.items()} == {
        "train": ["human", "augmented"],
        "test": ["unknown"],
    }


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


def test_loaded_data_sets(folder, streaming, tmp_path):
    rows = [
        {"image": {"bytes": chart(7), "path": None}, "question": "Q?", "answer": "A", "source": "human", "chart_id": i}
        for i in ("c1", "c2")
    ]
    features = Features({"image": datasets.Image(), **{name: Value("string") for name in COLUMNS[1:]}})
    dataset = Dataset.from_list(rows, features=features, split="test")
    expected = [row(7, "Q?", "A", "human", "c1"), row(7, "Q?", "A", "human", "c2")]
    loaded = load_chartqa(dataset, streaming=streaming)
    assert isinstance(loaded, IterableDataset if streaming else Dataset)
    assert plain(loaded) == expected
    assert plain(load_chartqa(dataset, split="test", streaming=streaming)) == expected
    assert plain(load_chartqa({"mine": dataset}, streaming=streaming)["mine"]) == expected
    shards = plain(load_chartqa(dataset.to_iterable_dataset(num_shards=2)))
    assert [{**record, "chart_id": record["chart_id"].split("#")[0]} for record in shards] == expected
    assert plain(load_chartqa(dataset.cast_column("image", datasets.Image(decode=False)))) == expected
    assert plain(load_chartqa(dataset.with_format("numpy"))) == expected
    assert plain(load_chartqa(dataset.select([1, 0]), streaming=streaming)) == expected[::-1]
    assert len(load_chartqa(dataset.select([]))) == 0
    assert load_chartqa(dataset.select([])).column_names == COLUMNS
    DatasetDict({"test": dataset}).save_to_disk(tmp_path / "saved")
    assert rows_of(tmp_path / "saved", "test", streaming) == expected
    with pytest.raises(ValueError, match="has no split 'train'; it has 'test'"):
        load_chartqa(dataset, split="train")

    def decoded():
        for record in rows:
            yield {**record, "image": Image.open(io.BytesIO(record["image"]["bytes"]))}

    assert plain(load_chartqa(IterableDataset.from_generator(decoded))) == expected

    def decoded_without_pixels():
        yield {**rows[0], "image": Image.new("RGB", (0, 5))}

    with pytest.raises(RecordError, match=r"record 0 of split 'train'.*unusable image shape: the image has no pixels"):
        list(load_chartqa(IterableDataset.from_generator(decoded_without_pixels)))
    paths = Dataset.from_dict({"image": [str(folder / "images" / "a.png")], "question": ["Q?"], "answer": ["A"]})
    for own in (paths, paths.cast_column("image", datasets.Image())):
        (record,) = plain(load_chartqa(own, streaming=streaming))
        assert record == row(10, "Q?", "A", "unknown", record["chart_id"])
        assert len(record["chart_id"]) == 32


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("Tea", "Tea"),
        (" Tea ", " Tea "),
        (["Tea"], "Tea"),
        ("['Tea']", "Tea"),
        ('["Tea"]', "Tea"),
        ('["I don\'t know"]', "I don't know"),
        ("['a', 'b']", "['a', 'b']"),
        ("[2017, 2023]", "[2017, 2023]"),
        ("[14]", "[14]"),
        ("[Germany]", "[Germany]"),
        (["[2017, 2023]"], "[2017, 2023]"),
        (12, "12"),
        (12.0, "12"),
        (0.1, "0.1"),
        (-3.50, "-3.5"),
        (0.00001, "0.00001"),
        (1e16, "10000000000000000"),
        ([2015], "2015"),
        (True, "Yes"),
        (False, "No"),
        (0, "0"),
        ("0012", "0012"),
        ("NA", "NA"),
        ("None", "None"),
        ("nan", "nan"),
    ],
)
def test_labels_become_their_text(folder, label, text):
    path = write_records(folder / "charts.jsonl", [{**RECORDS[0], "label": label}])
    assert texts(load_chartqa(path, split="train"), "answer") == [text]


def test_labels_in_tables_stay_as_they_are_written(folder, streaming):
    labels = ["0012", "NA", "None", "nan", "12.50", "1e5", "['14']", "a, b", 'say "x"']
    path = write_records(folder / "charts.csv", [{**RECORDS[0], "label": label} for label in labels])
    loaded = [r["answer"] for r in rows_of(path, "train", streaming)]
    assert loaded == ["0012", "NA", "None", "nan", "12.50", "1e5", "14", "a, b", 'say "x"']


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        ("float32", [0.1, 14.0, 1234.5], ["0.1", "14", "1234.5"]),
        ("float64", [0.1, 14.0, 1e-7], ["0.1", "14", "0.0000001"]),
        ("int64", [1, -2, 2**60], ["1", "-2", str(2**60)]),
        ("bool", [True, False, True], ["Yes", "No", "Yes"]),
    ],
)
def test_number_columns(folder, dtype, values, expected):
    table = pa.table(
        {
            "imgname": ["a.png"] * 3,
            "query": ["Q?"] * 3,
            "label": pa.array(values, pa.from_numpy_dtype(np.dtype(dtype))),
        }
    )
    pq.write_table(table, folder / "charts.parquet")
    assert texts(load_chartqa(folder, split="train"), "answer") == expected


def test_a_json_file_may_wrap_its_list_or_hold_lines(folder):
    (folder / "charts.json").write_text(json.dumps({"version": 1, "data": RECORDS}))
    assert plain(load_chartqa(folder)["train"]) == EXPECTED
    (folder / "charts.json").write_text("\n".join(map(json.dumps, RECORDS)))
    assert plain(load_chartqa(folder)["train"]) == EXPECTED


def mark(shade: int) -> str:
    return f"#{hashlib.blake2b(chart(shade), digest_size=16).hexdigest()[:16]}"


def ids_of(dataset) -> list[str]:
    """Read one by one, so that streams too give them."""
    return [record["chart_id"] for record in dataset]


def test_charts_of_one_name_are_kept_apart(tmp_path, streaming):
    rows = [{"imgname": "chart.png", "query": "Q?", "label": "A", "image": chart(shade)} for shade in (1, 1, 2, 2, 1)]
    (tmp_path / "own").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "own" / "train.parquet")
    ids = [r["chart_id"] for r in rows_of(tmp_path / "own", "train", streaming)]
    assert ids == ["chart.png", "chart.png", f"chart.png{mark(2)}", f"chart.png{mark(2)}", "chart.png"]


def test_files_of_one_name_in_several_splits(tmp_path, streaming):
    top = tmp_path / "R"
    write_images(top / "train" / "png", **{"1": 1, "2": 5, "3": 7})
    write_images(top / "val" / "png", **{"1": 2, "2": 5, "4": 8})  # 2.png is a copy
    for split, names in (("train", "1123"), ("val", "124")):
        records = [{"imgname": f"{name}.png", "query": "Q?", "label": "A"} for name in names]
        write_records(top / split / f"{split}_human.json", records)
    train = [f"1.png{mark(1)}", f"1.png{mark(1)}", "2.png", "3.png"]
    val = [f"1.png{mark(2)}", "2.png", "4.png"]
    loaded = load_chartqa(top, streaming=streaming)
    assert {split: ids_of(part) for split, part in loaded.items()} == {"train": train, "val": val}
    assert ids_of(load_chartqa(top, split="train+val", streaming=streaming)) == train + val
    assert ids_of(load_chartqa(top, split="val+train", streaming=streaming)) == val + train
    # The other split is there, even when it is not asked for.
    assert ids_of(load_chartqa(top, split="val", streaming=streaming)) == val
    assert ids_of(load_chartqa(top / "val", streaming=streaming)["val"]) == ["1.png", "2.png", "4.png"]
    rows = plain(load_chartqa(top, split="train+val", streaming=streaming))
    assert {(r["chart_id"], r["image"][2]) for r in rows} == set(zip(train + val, [1, 1, 5, 7, 2, 5, 8], strict=True))
    if not streaming:
        assert ids_of(load_chartqa(top, split="train[:2]+val[:1]+train[1:]")) == [*train[:2], val[0], *train[1:]]
    top.rename(tmp_path / "moved")
    assert ids_of(load_chartqa(tmp_path / "moved", split="val", streaming=streaming)) == val


def test_a_file_has_one_id_from_whichever_split_it_is_named(tmp_path, streaming):
    write_images(tmp_path / "own" / "train" / "png", a=1)
    write_records(tmp_path / "own" / "train.json", [{"imgname": "a.png", "query": "Q?", "label": "A"}])
    write_records(tmp_path / "own" / "test.json", [{"imgname": "train/png/a.png", "query": "Q?", "label": "A"}])
    loaded = load_chartqa(tmp_path / "own", streaming=streaming)
    assert {split: ids_of(part) for split, part in loaded.items()} == {"train": ["a.png"], "test": ["a.png"]}


def test_files_of_one_name_in_image_dir(tmp_path, streaming):
    write_images(tmp_path / "pictures" / "train" / "png", a=1)
    write_images(tmp_path / "pictures" / "val" / "png", a=2)
    hub = DatasetDict({name: Dataset.from_list(RECORDS[:1]) for name in ("train", "val")})
    loaded = load_chartqa(hub, split="train+val", image_dir=tmp_path / "pictures", streaming=streaming)
    assert ids_of(loaded) == [f"a.png{mark(1)}", f"a.png{mark(2)}"]


def test_names_beside_bytes_in_several_splits(tmp_path):
    for split, shades in (("train", (1, 1, 3)), ("val", (2, 1, 3))):
        rows = [
            {"imgname": f"{shade // 3}.png", "query": "Q?", "label": "A", "image": chart(shade)} for shade in shades
        ]
        (tmp_path / "own").mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "own" / f"{split}.parquet")
    loaded = load_chartqa(tmp_path / "own")
    assert ids_of(loaded["train"]) == ["0.png", "0.png", "1.png"]
    assert ids_of(loaded["val"]) == [f"0.png{mark(2)}", "0.png", "1.png"]
    assert ids_of(load_chartqa(tmp_path / "own", split="train+val")) == [
        *ids_of(loaded["train"]),
        *ids_of(loaded["val"]),
    ]
    # Each split of a stream is read by itself, perhaps elsewhere: every name is marked.
    train = [f"0.png{mark(1)}", f"0.png{mark(1)}", f"1.png{mark(3)}"]
    val = [f"0.png{mark(2)}", f"0.png{mark(1)}", f"1.png{mark(3)}"]
    streams = load_chartqa(tmp_path / "own", streaming=True)
    for _ in range(2):  # in any order, in every pass
        assert ids_of(streams["val"]) == val
        assert ids_of(streams["train"]) == train
    assert ids_of(load_chartqa(tmp_path / "own", split="train+val", streaming=True)) == train + val
    assert ids_of(load_chartqa(streams)["val"]) == val  # once is enough
    assert ids_of(load_chartqa(tmp_path / "own", split="val", streaming=True)) == ["0.png", f"0.png{mark(1)}", "1.png"]


def test_own_chart_ids_in_several_splits_and_shards(folder, streaming):
    for name, image in (("train", "a.png"), ("test", "b.png")):
        records = [{"imgname": image, "chart_id": "p1", "query": "Q?", "label": "A"}] * 2
        write_records(folder / f"{name}.jsonl", records)
    loaded = load_chartqa(folder, streaming=streaming)
    ids = {split: ids_of(part) for split, part in loaded.items()}
    b, a = [f"p1{mark(20)}"] * 2, [f"p1{mark(10)}"] * 2
    assert ids == ({"test": b, "train": a} if streaming else {"test": ["p1", "p1"], "train": a})
    rows = [
        {"image": {"bytes": chart(shade), "path": None}, "question": "Q?", "answer": "A", "chart_id": "c"}
        for shade in (1, 2)
    ]
    features = Features(
        {"image": datasets.Image(), **{n: Value("string") for n in ("question", "answer", "chart_id")}}
    )
    shards = Dataset.from_list(rows, features=features).to_iterable_dataset(num_shards=2)
    expected = [f"c{mark(1)}", f"c{mark(2)}"]
    assert ids_of(load_chartqa(shards)) == expected
    assert [ids_of(load_chartqa(shards).shard(2, index)) for index in (0, 1)] == [expected[:1], expected[1:]]


def test_a_name_that_looks_marked_is_kept_apart_too(tmp_path):
    names = ["a.png", "a.png", f"a.png{mark(2)}"]
    rows = [
        {"imgname": name, "query": "Q?", "label": "A", "image": chart(shade)}
        for name, shade in zip(names, (1, 2, 3), strict=True)
    ]
    for order in (rows, rows[::-1]):
        pq.write_table(pa.Table.from_pylist(order), tmp_path / "train.parquet")
        assert len(set(ids_of(load_chartqa(tmp_path / "train.parquet", split="train")))) == 3


# -------------------------------------------------------------------------------------------------------------- errors


def spoiled(folder: Path) -> list[tuple[dict, str, str, str]]:
    """A record with each fault, the reason, what its message says, and the file it names."""
    images = folder / "images"
    good = chart(1)
    (images / "cut.png").write_bytes(good[:-10])
    (images / "cut.jpg").write_bytes(chart(1, "JPEG")[:-10])
    (images / "html.png").write_text("<html>404</html>")
    (images / "empty.png").write_bytes(b"")
    (images / "thin.png").write_bytes(chart(1, size=(1, 3000)))
    (images / "large.png").write_bytes(chart(1, size=(101, 100)))
    (folder.parent / "outside.png").write_bytes(good)
    (images / "link.png").symlink_to(folder.parent / "outside.png")
    (images / "loop.png").symlink_to(images / "loop.png")

    def named(name):
        return {**RECORDS[0], "imgname": name}

    absolute = str(folder.parent / "outside.png")
    return [
        (named("gone.png"), "no image file", "'gone.png' is not in", "gone.png"),
        (named(""), "no image file", "", "charts.jsonl"),
        (named(None), "no image file", "the record names no image", "charts.jsonl"),
        (named("images"), "no image file", "'images' is not in", "images"),
        (named("a.png\0"), "no image file", "is not in", "a.png\0"),
        (named("x" * 5000), "no image file", "(5,002 characters)", "x" * 5000),
        (named("loop.png"), "no image file", "is not in", "loop.png"),
        (named("https://example.org/a.png"), "no image file", "not fetched", "https://example.org/a.png"),
        (named("../../outside.png"), "path leaves image_dir", "leads out of", "../../outside.png"),
        (named("..\\..\\outside.png"), "path leaves image_dir", "leads out of", "..\\..\\outside.png"),
        (named(absolute), "path leaves image_dir", "leads out of", absolute),
        (named("C:\\outside.png"), "path leaves image_dir", "leads out of", "C:\\outside.png"),
        (named("link.png"), "path leaves image_dir", "leads out of", "link.png"),
        (named("cut.png"), "truncated image", "cut off", "cut.png"),
        (named("cut.jpg"), "truncated image", "cut off", "cut.jpg"),
        (named("html.png"), "unreadable image", "not a readable image", "html.png"),
        (named("empty.png"), "unreadable image", "the file is empty", "empty.png"),
        (named("thin.png"), "unusable image shape", "1 x 3000 pixels, a shape beyond 50:1", "thin.png"),
        (named("large.png"), "image above the pixel limit", "10,100 pixels, above the limit of 10,000", "large.png"),
        ({**RECORDS[0], "query": ""}, "empty question", "column 'query' holds ''", "a.png"),
        ({**RECORDS[0], "query": " \n"}, "empty question", "column 'query' holds ' \\n'", "a.png"),
        ({**RECORDS[0], "query": None}, "empty question", "column 'query' holds None", "a.png"),
        ({**RECORDS[0], "query": {}}, "ambiguous record", "wanted text or a number, found {}", "a.png"),
        ({"imgname": "a.png", "query": "Q?"}, "no answer", "column 'label' holds None", "a.png"),
        ({**RECORDS[0], "label": ""}, "no answer", "column 'label' holds ''", "a.png"),
        ({**RECORDS[0], "label": []}, "no answer", "column 'label' holds []", "a.png"),
        ({**RECORDS[0], "label": [None]}, "no answer", "column 'label' holds [None]", "a.png"),
        ({**RECORDS[0], "label": float("nan")}, "no answer", "column 'label' holds nan", "a.png"),
        ({**RECORDS[0], "label": "['']"}, "no answer", "column 'label' holds", "a.png"),
        ({**RECORDS[0], "label": ["a", "b"]}, "ambiguous record", "1 question(s) and 2 answer(s)", "a.png"),
        ({**RECORDS[0], "query": ["p?", "q?"]}, "ambiguous record", "2 question(s) and 1 answer(s)", "a.png"),
        (["a.png", "Q?", "A"], "malformed record", "line 2 is no object", "charts.jsonl"),
    ]


FAULTS = 32


@pytest.mark.parametrize("fault", range(FAULTS))
def test_each_fault_raises_or_is_dropped(folder, fault, streaming, caplog):
    faults = spoiled(folder)
    assert len(faults) == FAULTS
    record, reason, cause, file = faults[fault]
    path = write_records(folder / "charts.jsonl", [RECORDS[0], record, RECORDS[2]])
    with pytest.raises(RecordError) as caught:
        list(load_chartqa(path, split="train", streaming=streaming, max_pixels=10_000))
    error = caught.value
    assert isinstance(error, ValueError)
    assert (error.split, error.index, error.reason) == ("train", 1, reason)
    assert cause in error.cause
    assert error.file.endswith(file)
    message = str(error)
    assert message.startswith(f"record 1 of split 'train' ({error.file}): {reason}: ")
    assert f"(in record 1 of {path})" in message
    assert message.endswith("To leave such records out, pass on_error='skip'.")
    assert str(pickle.loads(pickle.dumps(error))) == message  # it crosses the border of a worker process

    caplog.clear()
    with caplog.at_level(logging.WARNING):
        rows = rows_of(path, "train", streaming, max_pixels=10_000, on_error="skip")
    assert rows == [EXPECTED[0], EXPECTED[2]]
    (warning,) = caplog.messages
    assert warning == f"Dropped 1 of 3 records of split 'train' (1 {reason}). The first: {message}"

    errors = []
    assert len(rows_of(path, "train", streaming, max_pixels=10_000, on_error=errors.append)) == 2
    assert [str(error) for error in errors] == [message]


@pytest.mark.parametrize(
    "data_and_reason",
    [
        (None, "no image file"),
        (b"", "unreadable image"),
        (b"GIF? no", "unreadable image"),
        (chart(1)[:-1], "truncated image"),
        (chart(1, size=(101, 100)), "image above the pixel limit"),
        (chart(1, size=(3000, 1)), "unusable image shape"),
        (undecodable(size=(0, 6)), "unreadable image"),
    ],
)
@pytest.mark.parametrize("feature", [datasets.Image(), Value("binary")], ids=["Image", "binary"])
def test_each_fault_of_an_image_inside_the_data_set(tmp_path, data_and_reason, feature, streaming, caplog):
    data, reason = data_and_reason
    good = {"imgname": "a.png", "query": "Q?", "label": "A"}
    images = [chart(10), data, chart(20)]
    features = Features({name: Value("string") for name in good})
    features["image"] = feature
    if isinstance(features["image"], datasets.Image):
        images = [None if image is None else {"bytes": image, "path": None} for image in images]
    rows = [{**good, "imgname": f"{index}.png", "image": image} for index, image in enumerate(images)]
    parquet(tmp_path / "inside", "test", features, rows)
    with pytest.raises(RecordError, match=rf"^record 1 of split 'test' \(1\.png\): {reason}: ") as caught:
        rows_of(tmp_path / "inside", "test", streaming, max_pixels=10_000)
    assert (caught.value.split, caught.value.index, caught.value.file) == ("test", 1, "1.png")
    with caplog.at_level(logging.WARNING):
        kept = rows_of(tmp_path / "inside", "test", streaming, max_pixels=10_000, on_error="skip")
    assert kept == [row(10, "Q?", "A", "unknown", "0.png"), row(20, "Q?", "A", "unknown", "2.png")]
    assert [message.split(" The first")[0] for message in caplog.messages] == [
        f"Dropped 1 of 3 records of split 'test' (1 {reason})."
    ]


def test_one_warning_for_all_splits_and_reasons(folder, caplog):
    write_records(folder / "train.jsonl", [*RECORDS, {**RECORDS[0], "label": ""}, {**RECORDS[0], "imgname": "no.png"}])
    write_records(
        folder / "test.jsonl", [RECORDS[0], *[{**RECORDS[0], "query": ""}] * 2, *[{**RECORDS[0], "label": ""}]]
    )
    with caplog.at_level(logging.WARNING):
        loaded = load_chartqa(folder, on_error="skip")
    assert {name: len(part) for name, part in loaded.items()} == {"test": 1, "train": 3}
    (warning,) = caplog.messages
    assert warning.startswith(
        "Dropped 3 of 4 records of split 'test' (2 empty question, 1 no answer); "
        "2 of 5 records of split 'train' (1 no answer, 1 no image file). The first: record 1 of split 'test' (a.png): "
    )


def test_nothing_is_said_when_nothing_is_dropped(folder, caplog):
    path = write_records(folder / "charts.json", RECORDS)
    with caplog.at_level(logging.WARNING):
        load_chartqa(path, on_error="skip")
    assert caplog.messages == []


def test_a_split_of_which_nothing_is_left_is_an_error_even_when_skipping(folder, tmp_path):
    path = write_records(folder / "charts.json", RECORDS)
    (tmp_path / "wrong").mkdir()
    with pytest.raises(RecordError, match="no image file"):
        load_chartqa(path, image_dir=tmp_path / "wrong", on_error="skip")


def test_paths_inside_image_dir_may_be_absolute_or_links(folder):
    (folder / "images" / "link.png").symlink_to(folder / "images" / "b.png")
    names = [
        str(folder / "images" / "a.png"),
        "link.png",
        "images/a.png",
        "./a.png",
        "images\\b.png",
        "../images/b.png",
    ]
    path = write_records(folder / "charts.json", [{**RECORDS[0], "imgname": name} for name in names])
    rows = plain(load_chartqa(path, split="train"))
    a, b = (10, "a.png"), (20, "b.png")  # one id for one chart, however its name is written
    assert [(r["image"][2], r["chart_id"]) for r in rows] == [a, b, a, a, b, b]


def test_hidden_test_sets(folder, streaming):
    path = write_records(
        folder / "test.json", [{"imgname": "a.png", "query": "Q?"}, {"imgname": "b.png", "query": "P?"}]
    )
    with pytest.raises(LayoutError, match=r"no column for answer.*pass require_answers=False"):
        rows_of(path, "test", streaming)
    rows = rows_of(path, "test", streaming, require_answers=False)
    assert [(r["question"], r["answer"]) for r in rows] == [("Q?", ""), ("P?", "")]


def test_columns_that_are_not_understood(folder):
    records = [{"picture": "a.png", "question_text": "Q?", "value": 3}]
    path = write_records(folder / "charts.json", records)
    with pytest.raises(LayoutError) as caught:
        load_chartqa(path)
    assert str(caught.value) == (
        f"{path}: no column for question and answer and image. Columns seen: 'picture', 'question_text', 'value'. Say "
        "which is which, for example column_map={'question': 'question_text', 'answer': '<your column>', "
        "'image': '<your column>'}. If the split has no answers (a hidden test set), pass require_answers=False."
    )
    column_map = {"image": "picture", "question": "question_text", "answer": "values"}
    with pytest.raises(
        LayoutError, match=r"is 'values', but there is no such column \(did you mean 'value'\?\).*seen: "
    ):
        load_chartqa(path, column_map=column_map)
    with pytest.raises(LayoutError, match=r"'anwser', which is no canonical column \(did you mean 'answer'\?\)"):
        load_chartqa(path, column_map={"anwser": "value"})
    dataset = Dataset.from_list(records)
    with pytest.raises(LayoutError, match="the given data set, split 'train': no column for"):
        load_chartqa(dataset)


def test_files_that_are_not_understood(tmp_path, folder):
    with pytest.raises(LayoutError, match=r"no records found.*Seen: images"):
        load_chartqa(folder)
    (folder / "notes.txt").write_text("no records")
    with pytest.raises(LayoutError, match="no kind of file that is read"):
        load_chartqa(folder / "notes.txt")
    for content, message in (
        ("[]", "holds no records"),
        ("[1, 2", "not valid JSON"),
        ('"text"', "wanted a list of records, found str"),
        ('{"a": [], "b": []}', "found an object with 'a', 'b'"),
    ):
        (folder / "charts.json").write_text(content)
        with pytest.raises(LayoutError, match=message):
            load_chartqa(folder)
    (folder / "charts.json").write_bytes(b'[{"query": "\xff"}]')
    with pytest.raises(LayoutError, match="save it as UTF-8"):
        load_chartqa(folder)
    write_records(folder / "charts.csv", RECORDS)
    with pytest.raises(LayoutError, match=r"files of several kinds \(charts.csv, charts.json\)"):
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


def test_sources_that_are_not_there(folder, tmp_path, monkeypatch):
    for missing in (tmp_path / "nothing", "./nothing", "~/nothing-here", "data/of/mine", "charts.jsonl"):
        with pytest.raises(FileNotFoundError, match=r"is no local file or folder .working directory: "):
            load_chartqa(missing)

    def nowhere(*_, **__):
        raise datasets.exceptions.DatasetNotFoundError("no such data set")

    monkeypatch.setattr(datasets, "load_dataset", nowhere)
    wanted = r"is no local file or folder .*, and on the Hub: .* HF_HUB_OFFLINE=1 forbids asking the Hub"
    with pytest.raises(FileNotFoundError, match=wanted):
        load_chartqa("someone/something")


def test_arguments_that_are_not_understood(folder):
    path = write_records(folder / "charts.json", RECORDS)
    with pytest.raises(ValueError, match="on_error must be 'raise', 'skip' or a function"):
        load_chartqa(path, on_error="ignore")
    with pytest.raises(ValueError, match="revision='main' is for data sets on the Hub"):
        load_chartqa(path, revision="main")
    with pytest.raises(TypeError, match="has no use for: colum_map"):
        load_chartqa(path, colum_map={})
    with pytest.raises(TypeError, match=r"source must be a path, .* not list"):
        load_chartqa(RECORDS)
    with pytest.raises(TypeError, match=r"source\['train'\] is a list"):
        load_chartqa({"train": RECORDS})
    with pytest.raises(TypeError, match="not for a loaded data set: revision, token"):
        load_chartqa(Dataset.from_list(RECORDS), revision="main", token="t")


# ------------------------------------------------------------------------------------------------------------ laziness


def test_the_module_imports_nothing_heavy():
    heavy = ("torch", "transformers", "datasets", "pyarrow")
    code = f"import sys, chartqa_ft.data; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("inside", [True, False], ids=["images inside", "image files"])
def test_no_image_is_decoded_before_its_row_is_read(tmp_path, folder, inside, streaming):
    records = [{**RECORDS[0], "imgname": name} for name in ("a.png", "bad.png")]
    if inside:
        features = Features({**{name: Value("string") for name in RECORDS[0]}, "image": datasets.Image()})
        images = [{"bytes": data, "path": None} for data in (chart(10), undecodable())]
        parquet(folder, "train", features, [{**r, "image": image} for r, image in zip(records, images, strict=True)])
    else:
        (folder / "images" / "bad.png").write_bytes(undecodable())
        write_records(folder / "charts.json", records)
    loaded = load_chartqa(folder, split="train", streaming=streaming)
    if streaming:
        assert [r["chart_id"] for r in loaded.decode(False)] == ["a.png", "bad.png"]
        rows = iter(loaded)
        assert next(rows)["image"].getpixel((0, 0)) == (10, 0, 0)
        with pytest.raises(OSError, match="broken data"):
            next(rows)
    else:
        assert texts(loaded, "chart_id") == ["a.png", "bad.png"]
        assert loaded[0]["image"].getpixel((0, 0)) == (10, 0, 0)
        with pytest.raises(OSError, match="broken data"):
            loaded[1]


def test_images_inside_a_file_are_mapped_not_copied(tmp_path):
    features = Features({"image": datasets.Image(), "query": Value("string"), "label": Value("string")})
    noise = np.random.default_rng(0).integers(0, 256, (20, 90, 90, 3), dtype=np.uint8)
    rows = [{"image": Image.fromarray(pixels), "query": "Q?", "label": "A"} for pixels in noise]
    parquet(tmp_path / "big", "train", features, rows)
    before = pa.total_allocated_bytes()
    loaded = load_chartqa(tmp_path / "big", split="train")
    stored = sum(len(r["image"]["bytes"]) for r in loaded.cast_column("image", datasets.Image(decode=False)))
    assert stored > 400_000
    assert pa.total_allocated_bytes() - before < stored / 10
    files = [Path(file["filename"]) for file in loaded.cache_files]
    assert len(files) == 1  # the one that `datasets` made of the Parquet file
    assert files[0].stat().st_size < 2 * stored


def test_every_chart_is_checked_once(folder, monkeypatch):
    from chartqa_ft.data import records

    checked = []
    real = records.check_image
    monkeypatch.setattr(records, "check_image", lambda image, limit: checked.append(image) or real(image, limit))
    write_records(folder / "train_human.json", RECORDS * 5)
    write_records(folder / "train_augmented.json", RECORDS * 5)
    assert len(load_chartqa(folder, split="train")) == 30
    assert sorted(Path(path).name for path in checked) == ["a.png", "b.png"]


def test_a_reader_that_forgets_charts_gives_the_same_records(tmp_path, streaming, monkeypatch):
    from chartqa_ft.data import records

    path = original(tmp_path, tables=False)
    (path / "val" / "png" / "one.png").write_bytes(chart(99))  # the name of another chart: both are marked
    wanted = plain(load_chartqa(path, split="test", streaming=streaming))
    assert [row["chart_id"].split("#")[0] for row in wanted] == ["two.png", "one.png", "two.png"]
    checked = []
    real = records.check_image
    monkeypatch.setattr(records, "_REMEMBERED", 1)
    monkeypatch.setattr(records, "check_image", lambda image, limit: checked.append(image) or real(image, limit))
    assert plain(load_chartqa(path, split="test", streaming=streaming)) == wanted
    assert [Path(path).name for path in checked] == ["two.png", "one.png", "two.png"]


def test_a_file_is_found_where_its_links_lead(tmp_path):
    from chartqa_ft.data.real_paths import RealPaths

    inside, outside = tmp_path / "in", tmp_path / "out"
    for folder in (inside / "deep", outside):
        write_images(folder, a=10)
    (inside / "folder").symlink_to(outside)
    (inside / "link.png").symlink_to(outside / "a.png")
    (inside / "broken.png").symlink_to(outside / "nothing.png")
    (inside / "loop.png").symlink_to(inside / "loop.png")
    names = ["deep/a.png", "./deep//a.png", "deep/../deep/a.png", "folder/a.png", "folder/../in/deep/a.png", "deep"]
    names += ["link.png", "broken.png", "loop.png", "nothing/a.png", "deep/a.png/", "deep/..", ".", "", "/a.png"]
    names += [str(outside / "a.png"), "deep/a.png/more.png", "x" * 300, "../out/a.png", "/", "//"]
    places = RealPaths()
    for _ in range(2):
        for name in names:
            path = os.path.realpath(inside / name)
            assert places.find(str(inside), name) == (path, os.path.isfile(path)), name
    assert [name for name in names if places.find(str(inside), name)[1]] == [
        *names[:5],
        "link.png",
        "deep/a.png/",
        str(outside / "a.png"),
        "../out/a.png",
    ]
    for name in ("a\0.png", "\0/a.png"):
        with pytest.raises(ValueError, match="null"):
            places.find(str(inside), name)


# ------------------------------------------------------------------------------------------------------------- streams


def test_a_stream_checks_while_it_is_read(folder, caplog):
    path = write_records(folder / "charts.jsonl", [RECORDS[0], {**RECORDS[0], "label": ""}, RECORDS[2]])
    stream = load_chartqa(path, split="train", streaming=True)  # says nothing yet
    rows = iter(stream)
    assert next(rows)["answer"] == "Tea"
    with pytest.raises(RecordError, match="record 1 of split 'train'"):
        next(rows)
    stream = load_chartqa(path, split="train", streaming=True, on_error="skip")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):  # each pass reports
            assert [r["answer"] for r in stream] == ["Tea", "[2017, 2023]"]
    assert [message[:44] for message in caplog.messages] == ["Dropped 1 of 3 records of split 'train' (1 n"] * 2


def test_a_stream_keeps_its_shards_and_resumes(folder):
    for name in ("train_human", "train_augmented"):
        write_records(folder / f"{name}.jsonl", RECORDS)
    stream = load_chartqa(folder, split="train", streaming=True)
    assert stream.num_shards == 2
    assert [r["source"] for r in stream] == ["human"] * 3 + ["augmented"] * 3
    assert [r["source"] for r in stream.shard(2, 1)] == ["augmented"] * 3
    rows = iter(stream)
    for _ in range(4):
        next(rows)
    rest = load_chartqa(folder, split="train", streaming=True)
    rest.load_state_dict(stream.state_dict())
    assert [(r["source"], r["question"]) for r in rest] == [("augmented", r["query"]) for r in RECORDS[1:]]
    several = load_chartqa(Dataset.from_list(RECORDS).to_iterable_dataset(3), image_dir=folder)
    assert several.num_shards == 3
    assert plain(several) == EXPECTED


def test_a_stream_reaches_the_workers_of_a_loader(folder):
    import torch

    for name in ("train_human", "train_augmented"):
        write_records(folder / f"{name}.jsonl", RECORDS)
    stream = load_chartqa(folder, split="train", streaming=True).decode(False)
    loader = torch.utils.data.DataLoader(stream, batch_size=None, num_workers=2, multiprocessing_context="spawn")
    assert Counter(r["source"] for r in loader) == {"human": 3, "augmented": 3}


# --------------------------------------------------------------------------------------------------- stratified_subset


def sources(**counts: int) -> Dataset:
    names = [name for name, count in counts.items() for _ in range(count)]
    random.Random(0).shuffle(names)
    return Dataset.from_dict({"source": names, "row": list(range(len(names)))})


@pytest.mark.parametrize(
    ("counts", "n", "expected"),
    [
        ({"human": 50, "augmented": 50}, 10, {"human": 5, "augmented": 5}),
        ({"human": 74, "augmented": 209}, 100, {"human": 26, "augmented": 74}),  # 26.15, 73.85
        ({"a": 1, "b": 1, "c": 1}, 2, {"a": 1, "b": 1}),  # a tie: the first in the alphabet
        ({"a": 3, "b": 3, "c": 4}, 5, {"a": 2, "b": 1, "c": 2}),  # 1.5, 1.5, 2
        ({"human": 97, "augmented": 3}, 10, {"human": 10}),  # 9.7, 0.3
        ({"human": 6, "augmented": 14}, 0.25, {"human": 1, "augmented": 4}),  # 1.5, 3.5: a tie
        ({"human": 400, "augmented": 463}, 100, {"human": 46, "augmented": 54}),  # 46.35, 53.65
        ({"human": 3}, 1, {"human": 1}),
        ({"human": 40, "augmented": 60}, 0.001, {"augmented": 1}),  # at least one row
    ],
)
def test_stratified_subset_by_largest_remainder(counts, n, expected):
    dataset = sources(**counts)
    subset = stratified_subset(dataset, n)
    assert Counter(subset["source"]) == expected
    rows = texts(subset, "row")
    assert rows == sorted(set(rows))
    assert texts(stratified_subset(dataset, n), "row") == rows


def test_stratified_subset_draws_at_random_but_always_the_same():
    dataset = sources(human=30, augmented=70)
    assert texts(stratified_subset(dataset, 6), "row") != texts(stratified_subset(dataset, 6, seed=1), "row")
    drawn = Counter(row for seed in range(300) for row in texts(stratified_subset(dataset, 10, seed=seed), "row"))
    assert len(drawn) == 100
    assert max(drawn.values()) < 60  # 30 expected
    assert texts(stratified_subset(dataset, 6), "row") == texts(
        stratified_subset(dataset.with_format("torch"), 6), "row"
    )


def test_stratified_subset_edges():
    dataset = sources(human=3, augmented=4)
    for n in (7, 8, 1.0):
        assert stratified_subset(dataset, n) is dataset
    assert len(stratified_subset(dataset.remove_columns("source"), 2)) == 2
    for n in (0, -1, 0.0, 1.5, True):
        with pytest.raises(ValueError, match="n must be a number of rows"):
            stratified_subset(dataset, n)
    with pytest.raises(TypeError, match=r"use \.take\(n\)"):
        stratified_subset(dataset.to_iterable_dataset(), 2)
