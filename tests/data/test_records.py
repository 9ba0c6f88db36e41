"""Every fault of a record in both modes, and paths that must not be followed."""

from __future__ import annotations

import io
import logging
import pickle
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import (
    Dataset,
    DatasetDict,
    Features,
    IterableDataset,
    IterableDatasetDict,
    Value,
)
from PIL import Image

from chartqa_ft.data import RecordError
from chartqa_ft.data.load import load_chartqa
from chartqa_ft.printable import printable

from ..support.chart_records import (
    EXPECTED,
    RECORDS,
    chart,
    original,
    parquet,
    plain,
    row,
    rows_of,
    undecodable,
    write_images,
    write_records,
)

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


def test_a_hub_dataset_cannot_point_into_the_users_disk(monkeypatch, tmp_path):
    write_images(tmp_path, secret=1)
    features = Features({"image": datasets.Image(), "query": Value("string"), "label": Value("string")})
    rows = [{"image": {"bytes": None, "path": str(tmp_path / "secret.png")}, "query": "Q?", "label": "A"}]
    hostile = DatasetDict({"test": Dataset.from_list(rows, features=features)})
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: hostile)
    with pytest.raises(RecordError, match="no image file"):
        load_chartqa("hostile/set")
    assert len(load_chartqa(hostile)["test"]) == 1  # the user's own object is trusted


@pytest.mark.parametrize("path", HUB_FILES)
def test_a_stream_from_the_hub_may_name_files_there(path, monkeypatch, folder):
    content, fetched = (folder / "images" / "a.png").read_bytes(), []
    monkeypatch.setattr("chartqa_ft.data.hub_files.fetched", lambda path, token: fetched.append(path) or content)
    stream = Dataset.from_list([named_image(path)] * 2, features=NAMED_IMAGES).to_iterable_dataset()
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: IterableDatasetDict({"train": stream}))
    for number, source in enumerate(("someone/charts", stream), start=1):
        records = list(load_chartqa(source, split="train", streaming=True).decode(False))
        assert [record["image"] for record in records] == [{"bytes": content, "path": path}] * 2
        assert {record["chart_id"] for record in records} == {path}
        assert fetched == [path] * number  # once for both questions


@pytest.mark.parametrize(
    "path", ["hf://datasets/victim/private@main/a.png", "hf://datasets/someone/charts@main/../../victim/x@main/a.png"]
)
def test_a_stream_from_the_hub_cannot_name_files_of_other_repositories(path, monkeypatch):
    monkeypatch.setattr("chartqa_ft.data.hub_files.fetched", lambda *_: pytest.fail("it was fetched"))
    stream = Dataset.from_list([named_image(path)], features=NAMED_IMAGES).to_iterable_dataset()
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: IterableDatasetDict({"train": stream}))
    with pytest.raises(RecordError, match="path leaves image_dir"):
        list(load_chartqa("someone/charts", split="train", streaming=True))


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
        ({**RECORDS[0], "query": {}}, "ambiguous record", "expected text or a number, found {}", "a.png"),
        ({"imgname": "a.png", "query": "Q?"}, "no answer", "column 'label' holds None", "a.png"),
        ({**RECORDS[0], "label": ""}, "no answer", "column 'label' holds ''", "a.png"),
        ({**RECORDS[0], "label": []}, "no answer", "column 'label' holds []", "a.png"),
        ({**RECORDS[0], "label": [None]}, "no answer", "column 'label' holds [None]", "a.png"),
        ({**RECORDS[0], "label": float("nan")}, "no answer", "column 'label' holds nan", "a.png"),
        ({**RECORDS[0], "label": "['']"}, "no answer", "column 'label' holds", "a.png"),
        ({**RECORDS[0], "label": ["a", "b"]}, "ambiguous record", "1 question(s) and 2 answer(s)", "a.png"),
        ({**RECORDS[0], "query": ["p?", "q?"]}, "ambiguous record", "2 question(s) and 1 answer(s)", "a.png"),
        (["a.png", "Q?", "A"], "malformed record", "line 2 is not an object", "charts.jsonl"),
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
    assert message.startswith(f"record 1 of split 'train' ({printable(error.file)}): {reason}: ")
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
def test_each_fault_of_an_image_inside_the_dataset(tmp_path, data_and_reason, feature, streaming, caplog):
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


def test_loaded_images_of_a_stream_are_upright_and_damaged_ones_are_dropped():
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6  # to be turned clockwise
    photo = Image.new("RGB", (8, 6), (10, 0, 0))
    photo.putpixel((0, 0), (200, 0, 0))
    photo.save(file, "PNG", exif=exif)
    contents = [file.getvalue(), undecodable(), chart(20)]

    def generate():
        for content in contents:
            yield {"image": Image.open(io.BytesIO(content)), "question": "Q?", "answer": "A"}

    errors = []
    turned, other = load_chartqa(IterableDataset.from_generator(generate), on_error=errors.append)
    assert turned["image"].size == (6, 8)
    assert [turned["image"].getpixel(place)[0] for place in ((0, 0), (5, 0))] == [10, 200]
    assert plain([other])[0]["image"] == (8, 6, 20)
    assert [(error.index, error.reason) for error in errors] == [(1, "unreadable image")]
    assert errors[0].cause.startswith("the file cannot be read (broken data stream")
    with pytest.raises(RecordError, match=r"record 1 of split 'train' .*unreadable image: the file cannot be read"):
        list(load_chartqa(IterableDataset.from_generator(generate)))


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
