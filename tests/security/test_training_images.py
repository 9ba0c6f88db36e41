"""Images of data sets that are given to a trainer as they are: opened by this library, never by `datasets`."""

from __future__ import annotations

import shutil

import datasets
import numpy as np
import pytest
from datasets import Dataset, Features, Value
from PIL import EpsImagePlugin, Image

from chartqa_ft.batching.records import RecordStream, as_records, first_records, readable
from chartqa_ft.batching.rows import KeyedRows, RowKey
from chartqa_ft.data.hub_files import HubFiles

from ..images.files import encoded, noise
from .test_image_bombs import BOMBS, EPS, PNG

FEATURES = Features({"image": datasets.Image(), "question": Value("string"), "answer": Value("string")})


@pytest.fixture(autouse=True)
def no_other_program(monkeypatch):
    """Ghostscript is installed, and must not be started."""
    monkeypatch.setattr(shutil, "which", lambda *_: "/usr/bin/gs")
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was started"))


def of(image: bytes | None, path: str | None = None) -> Dataset:
    good = {"image": {"bytes": PNG, "path": None}, "question": "Good?", "answer": "1"}
    bad = {"image": {"bytes": image, "path": path}, "question": "Bad?", "answer": "2"}
    return Dataset.from_list([good, bad], features=FEATURES)


BAD = {"an EPS": EPS, "a bomb": BOMBS["EXIF after the pixels"](), "a cut file": PNG[:-60]}


@pytest.mark.parametrize("name", BAD)
def test_a_table_names_its_bad_record(name):
    rows = KeyedRows(of(BAD[name]))
    assert np.array_equal(np.asarray(rows[RowKey(0, 0, True)]["image"]), np.asarray(noise()))
    with pytest.raises(ValueError, match=r"row 1, .*Bad\?.* cannot be read"):
        rows[RowKey(1, 0, True)]
    assert len(first_records(of(BAD[name]), 1)) == 1
    with pytest.raises(ValueError, match=r"Bad\?.* cannot be read"):
        first_records(of(BAD[name]), 2)


@pytest.mark.parametrize("name", BAD)
def test_a_stream_names_its_bad_record(name):
    records = readable(as_records(of(BAD[name]).to_iterable_dataset()))
    assert np.array_equal(np.asarray(next(records)["image"]), np.asarray(noise()))
    with pytest.raises(ValueError, match=r"record 1, after .*Good\?.* of the stream cannot be read"):
        next(records)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "RGB"])
def test_images_are_what_datasets_makes_of_them(mode):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = of(encoded(noise(mode), "PNG", exif=exif))
    expected = data[1]["image"]
    rows = [
        KeyedRows(data)[RowKey(1, 0, True)],
        first_records(data, 2)[1],
        list(as_records(data.to_iterable_dataset()))[1],
    ]
    for row in rows:
        assert (row["image"].mode, row["image"].size) == (mode, (17, 23))
        assert np.array_equal(np.asarray(row["image"]), np.asarray(expected))
        assert (row["question"], row["answer"]) == ("Bad?", "2")


def test_a_record_without_an_image_has_none():
    data = Dataset.from_list([{"image": None, "question": "?", "answer": "1"}], features=FEATURES)
    assert KeyedRows(data)[RowKey(0, 0, True)]["image"] is None
    assert next(iter(as_records(data.to_iterable_dataset())))["image"] is None


@pytest.mark.parametrize(
    "path", ["/etc/hostname", "http://127.0.0.1:9/a.png", "hf://datasets/alice/secret@main/a.png"]
)
def test_a_stream_of_the_hub_names_no_file_elsewhere(path):
    stream = RecordStream(of(None, path).to_iterable_dataset(), "train_dataset")
    stream._hub = HubFiles("bob/charts", {"bob/charts": None})  # as `datasets` notes where it has opened a stream
    records = readable(stream)
    next(records)
    with pytest.raises(ValueError, match=r"not (in|a file of) bob/charts"):
        next(records)
