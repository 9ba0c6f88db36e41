"""`load_chartqa` on every published layout, on loaded datasets, and with arguments that it refuses."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import (
    Dataset,
    DatasetDict,
    Features,
    IterableDataset,
    Value,
)
from PIL import Image

from chartqa_ft.data import LayoutError, RecordError
from chartqa_ft.data.load import load_chartqa

from ..support.chart_records import (
    COLUMNS,
    EXPECTED,
    M4,
    RECORDS,
    chart,
    m4_rows,
    original,
    parquet,
    plain,
    row,
    rows_of,
    texts,
    write_images,
    write_records,
)


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
    with pytest.raises(FileNotFoundError, match=r"image_dir=.*nowhere.* is not a folder"):
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


def test_chartqapro_keeps_its_columns_when_it_is_saved_and_loaded_again(tmp_path, streaming):
    (tmp_path / "pro").mkdir()
    pq.write_table(pa.Table.from_pylist(PRO_ROWS, PRO), tmp_path / "pro" / "test.parquet")
    loaded = load_chartqa(tmp_path / "pro")
    loaded.save_to_disk(tmp_path / "saved")
    again = load_chartqa(tmp_path / "saved", split="test", streaming=streaming)
    assert again.column_names == [*COLUMNS, "question_type", "year_flags"]
    assert plain(again) == plain(loaded["test"])


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


def test_loaded_datasets(folder, streaming, tmp_path):
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


@pytest.mark.parametrize("name", ["train[:10%]", "train+test", "train[5:]+test[:5]"])
def test_a_part_of_a_split_has_the_name_of_its_first_split(tmp_path, name, streaming):
    write_images(tmp_path / "pictures" / "train" / "png", a=10, b=20)
    part = Dataset.from_list(RECORDS, split=datasets.NamedSplit(name))
    loaded = load_chartqa(part, image_dir=tmp_path / "pictures", streaming=streaming)
    assert str(loaded.split) == "train"
    assert plain(loaded) == EXPECTED
    assert plain(load_chartqa(part, split="train", image_dir=tmp_path / "pictures", streaming=streaming)) == EXPECTED


def test_a_transform_is_not_dropped_without_a_word(charts, streaming):
    records = charts.with_transform(lambda rows: rows)
    for source, name in ((records, "source"), ({"val": records}, r"source\['val'\]")):
        with pytest.raises(ValueError, match=f"{name} has a transform, which the result would not have: apply it"):
            load_chartqa(source, streaming=streaming)


@pytest.mark.parametrize("format", ["arrow", "pandas", "numpy"])
def test_a_format_changes_nothing(charts, format):
    for source in (charts, charts.to_iterable_dataset()):
        loaded = load_chartqa(source.with_format(format))
        assert [row["answer"] for row in loaded] == charts["answer"][:]
        assert {row["image"].size for row in loaded} == {row["image"].size for row in charts}


def test_sources_that_are_not_there(folder, tmp_path, monkeypatch):
    for missing in (tmp_path / "nothing", "./nothing", "~/nothing-here", "data/of/mine", "charts.jsonl"):
        with pytest.raises(FileNotFoundError, match=r"is not a local file or folder .working directory: "):
            load_chartqa(missing)

    def nowhere(*_, **__):
        raise datasets.exceptions.DatasetNotFoundError("no such data set")

    monkeypatch.setattr(datasets, "load_dataset", nowhere)
    wanted = r"is not a local file or folder .*, and on the Hub: .* HF_HUB_OFFLINE=1 forbids asking the Hub"
    with pytest.raises(FileNotFoundError, match=wanted):
        load_chartqa("someone/something")


def test_arguments_that_are_not_understood(folder):
    path = write_records(folder / "charts.json", RECORDS)
    with pytest.raises(ValueError, match="on_error must be 'raise', 'skip' or a function"):
        load_chartqa(path, on_error="ignore")
    with pytest.raises(ValueError, match="revision='main' is for datasets on the Hub"):
        load_chartqa(path, revision="main")
    with pytest.raises(TypeError, match=r"do not apply to .*: colum_map"):
        load_chartqa(path, colum_map={})
    with pytest.raises(TypeError, match=r"source must be a path, .* not list"):
        load_chartqa(RECORDS)
    with pytest.raises(TypeError, match=r"source\['train'\] is a list"):
        load_chartqa({"train": RECORDS})
    with pytest.raises(TypeError, match="do not apply to a loaded dataset: revision, token"):
        load_chartqa(Dataset.from_list(RECORDS), revision="main", token="t")


def test_misspelled_arguments_are_refused_for_every_local_source(tmp_path, folder):
    DatasetDict({"train": Dataset.from_list(RECORDS)}).save_to_disk(tmp_path / "saved")
    of_tables = original(tmp_path / "ChartQA", tables=True)
    path = write_records(folder / "charts.jsonl", RECORDS)
    for source, settings in (
        (tmp_path / "saved", {"image_dir": folder}),
        (of_tables, {"task": "table"}),
        (of_tables, {}),
        (path, {}),
    ):
        with pytest.raises(TypeError, match=rf"that do not apply to {source}: image_folder, on_eror"):
            load_chartqa(source, on_eror="skip", image_folder="x", **settings)
    general = {"cache_dir": str(tmp_path / "cache"), "token": "t", "num_proc": 1}  # they may stay for every source
    saved = load_chartqa(tmp_path / "saved", split="train", image_dir=folder, **general)
    assert texts(saved, "answer") == ["Tea", "12", "[2017, 2023]"]


def test_the_module_imports_nothing_heavy():
    heavy = ("torch", "transformers", "datasets", "pyarrow")
    code = f"import sys, chartqa_ft.data; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
