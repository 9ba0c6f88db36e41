"""Links and special files in the data set of a stranger: nothing outside it is read, and nothing is waited for."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict

from chartqa_ft import load_chartqa, push_dataset
from chartqa_ft.data.columns import LayoutError
from chartqa_ft.data.record_errors import RecordError

from ..support.chart_records import write_images, write_records

ROWS = [{"imgname": "a.png", "query": "Q?", "label": "1"}]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf_cache")


@pytest.fixture(params=[False, True], ids=["loaded", "streamed"])
def streaming(request) -> bool:
    return request.param


@pytest.fixture
def private(tmp_path) -> Path:
    """What lies outside the data set: charts with questions of the user's own."""
    folder = tmp_path / "private"
    for name in (".", "png", "images", "train", "train/png"):
        write_images(folder / name, a=10)
        write_records(folder / name / "train.json", ROWS)
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "train.parquet")
    return folder


@pytest.fixture
def top(tmp_path) -> Path:
    folder = tmp_path / "stranger"
    folder.mkdir()
    return folder


def loaded(source: Path, streaming: bool, **settings) -> dict[str, list[str]]:
    found = load_chartqa(source, streaming=streaming, **settings)
    return {split: [row["question"] for row in records] for split, records in found.items()}


def with_records(top: Path, name: str = "train.json") -> None:
    (top / name).parent.mkdir(exist_ok=True)
    write_records(top / name, ROWS)


@pytest.mark.parametrize("name", ["png", "images", "train", "train/png", "train/images"])
def test_a_linked_folder_leads_nowhere(top, private, name, streaming):
    with_records(top)
    (top / name).parent.mkdir(exist_ok=True)
    (top / name).symlink_to(private / "png")
    for settings in ({}, {"image_dir": top}, {"on_error": "skip"}):
        with pytest.raises(
            LayoutError, match=rf"{name} leads out of .*stranger, to .*private/png: links in a data set"
        ):
            loaded(top, streaming, **settings)


def test_a_linked_folder_is_not_published(top, private, monkeypatch):
    with_records(top)
    (top / "png").symlink_to(private / "png")
    monkeypatch.setattr(DatasetDict, "push_to_hub", lambda *_, **__: pytest.fail("it was pushed"))
    with pytest.raises(LayoutError, match="leads out of"):
        push_dataset(top, "alice/charts", token="none")


@pytest.mark.parametrize("name", ["train", "annotations", "tables", "val"])
def test_a_linked_folder_of_records_leads_nowhere(top, private, name, streaming):
    (top / name).symlink_to(private / "train")
    with pytest.raises(LayoutError, match=rf"{name}/train.json leads out of"):
        loaded(top, streaming)


@pytest.mark.parametrize("name", ["train.json", "train.jsonl", "train.csv", "train.tsv", "train.parquet"])
def test_a_linked_file_of_records_leads_nowhere(top, private, name, streaming):
    write_images(top, a=10)
    (top / name).symlink_to(private / ("train.parquet" if name.endswith("parquet") else "train.json"))
    with pytest.raises(LayoutError, match=rf"{name} leads out of"):
        loaded(top, streaming)


def test_a_linked_top_below_the_named_one_leads_nowhere(top, private, streaming):
    (top / "ChartQA Dataset").symlink_to(private)
    with pytest.raises(LayoutError, match="ChartQA Dataset leads out of"):
        loaded(top, streaming)


@pytest.mark.parametrize("image", ["link.png", "sub/a.png", "png/deep/a.png", "sub/../sub/a.png", "chain.png"])
def test_a_linked_picture_or_a_link_in_its_path_leads_nowhere(top, private, image, streaming):
    (top / "png").mkdir()
    (top / "link.png").symlink_to(private / "a.png")
    (top / "chain.png").symlink_to("link.png")
    (top / "sub").symlink_to(private / "png")
    (top / "png" / "deep").symlink_to("../../private/png")
    write_records(top / "train.json", [{**ROWS[0], "imgname": image}])
    with pytest.raises(RecordError, match="path leaves image_dir"):
        loaded(top, streaming)


def test_links_that_stay_inside_are_followed(top, streaming):
    write_images(top / "charts" / "pictures", a=10)
    with_records(top)
    (top / "png").symlink_to("charts/pictures")
    (top / "val.json").symlink_to("train.json")
    assert loaded(top, streaming) == {"train": ["Q?"], "val": ["Q?"]}


def test_what_the_user_names_may_be_a_link(top, private, tmp_path, streaming):
    for name, source in {"folder": private / "train", "charts.json": private / "train.json"}.items():
        (tmp_path / name).symlink_to(source)
    assert loaded(tmp_path / "folder", streaming) == {"train": ["Q?"]}
    with_records(top)
    (tmp_path / "pictures").symlink_to(private / "png")
    assert loaded(top, streaming, image_dir=tmp_path / "pictures") == {"train": ["Q?"]}
    assert loaded(tmp_path / "charts.json", streaming, image_dir=private) == {"train": ["Q?"]}


def test_a_snapshot_in_the_cache_of_the_hub_is_whole(tmp_path, streaming):
    repository = tmp_path / "datasets--bob--charts"
    snapshot = repository / "snapshots" / ("a" * 40)
    write_images(repository / "blobs", a=10)
    image = (repository / "blobs" / "a.png").read_bytes()
    rows = [{"image": {"bytes": image, "path": None}, "query": "Q?", "label": "1"}]
    pq.write_table(pa.Table.from_pylist(rows), repository / "blobs" / "0123")
    (snapshot / "data").mkdir(parents=True)
    (snapshot / "data" / "train-0.parquet").symlink_to("../../../blobs/0123")
    assert loaded(snapshot, streaming) == {"train": ["Q?"]}
    (tmp_path / "blobs").mkdir()
    shutil.copy(repository / "blobs" / "0123", tmp_path / "blobs" / "0123")
    (snapshot / "data" / "train-0.parquet").unlink()
    (snapshot / "data" / "train-0.parquet").symlink_to(tmp_path / "blobs" / "0123")
    with pytest.raises(LayoutError, match="leads out of"):
        loaded(snapshot, streaming)


@pytest.mark.parametrize("linked", ["data-00000-of-00001.arrow", "dataset_info.json", "state.json", "", "deep"])
def test_a_linked_part_of_a_saved_data_set_leads_nowhere(tmp_path, private, linked, streaming):
    image = (private / "a.png").read_bytes()
    rows = [{"image": {"bytes": image, "path": None}, "question": "Q?", "answer": "1"}]
    DatasetDict({"train": Dataset.from_list(rows)}).save_to_disk(tmp_path / "saved")
    assert loaded(tmp_path / "saved", streaming) == {"train": ["Q?"]}
    part = tmp_path / "saved" / "train" / linked
    if linked == "deep":
        part = tmp_path / "saved" / "train" / "more" / "deep"
        part.parent.mkdir()
        part.symlink_to(private)
    else:
        part.rename(tmp_path / "elsewhere")
        part.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LayoutError, match="leads out of"):
        loaded(tmp_path / "saved", streaming)


def special(path: Path, kind: str, monkeypatch) -> None:
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        monkeypatch.chdir(path.parent)
        socket.socket(socket.AF_UNIX).bind(path.name)


@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
def test_a_picture_that_is_no_file_is_one_record_less(top, kind, streaming, monkeypatch):
    write_images(top, a=10, b=20)
    write_records(top / "train.json", [*ROWS, {**ROWS[0], "imgname": "b.png", "query": "Is it?"}])
    special(top / "b.png", kind, monkeypatch)
    with pytest.raises(RecordError, match=r"record 1 .*\(b\.png\)"):
        loaded(top, streaming)
    assert loaded(top, streaming, on_error="skip") == {"train": ["Q?"]}


@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
@pytest.mark.parametrize("name", ["train.json", "train.csv", "train.parquet"])
def test_records_that_are_no_file_are_not_waited_for(top, kind, name, streaming, monkeypatch):
    write_images(top, a=10)
    special(top / name, kind, monkeypatch)
    for source, said in ((top, "no records found"), (top / name, "neither a regular file nor a folder")):
        with pytest.raises(LayoutError, match=said):
            loaded(source, streaming)


def test_a_picture_that_is_no_file_is_not_waited_for_when_it_is_read(tmp_path):
    from chartqa_ft.images.check import check_image
    from chartqa_ft.images.opening import open_image, snapshot, stored_bytes

    os.mkfifo(tmp_path / "a.png")
    for read in (check_image, open_image):
        for path in (tmp_path / "a.png", "/dev/zero", tmp_path):
            with pytest.raises(OSError, match="not a regular file"):
                read(path)
    assert stored_bytes(tmp_path / "a.png") is None
    assert snapshot("/dev/zero") == "/dev/zero"
