"""Datasets on the Hub that name what is not theirs: local files, addresses, other people's repositories."""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from chartqa_ft.data.data_files import check_resolved, is_inside
from chartqa_ft.hub.errors import HubError

from ..images.files import encoded, noise
from ..project.test_hub_server import World
from ..support.hub_charts import LOAD, SEED, raised
from .test_image_bombs import EPS

ROWS = [{"question": f"Q{number}?", "answer": str(number)} for number in range(4)]


class Canary(BaseHTTPRequestHandler):
    """A service on loopback that nothing should ask."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(f"{self.command} {self.path}")
        self.send_response(404)
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def canary() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Canary)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[World]:
    """A Hub with a private dataset of alice's, and a client of hers with a Ghostscript that says when it runs."""
    folder = tmp_path_factory.mktemp("hub")
    (folder / "bin").mkdir()
    for name in ("gs", "gswin32c", "gswin64c"):
        (folder / "bin" / name).write_text(f"#!/bin/sh\ntouch {folder}/ghostscript\nexit 1\n")
        (folder / "bin" / name).chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")
        with World(folder, xet=False) as world:
            world.hub.create_repo("alice/secret", private=True, **SEED)
            world.hub.upload("alice/secret", {"train.parquet": parquet(png=encoded(noise(), "PNG"))}, **SEED)
            world.hub.upload("alice/secret", {"a.png": encoded(noise(), "PNG")}, **SEED)
            yield world
            assert not (folder / "ghostscript").exists()


def parquet(*, png: bytes | None = None, paths: list[str | None] | None = None) -> bytes:
    images = [{"bytes": png, "path": path} for path in paths or [None] * 4]
    table = pa.Table.from_pylist([{**row, "image": image} for row, image in zip(ROWS, images, strict=True)])
    features = {"image": {"_type": "Image"}, **{name: {"dtype": "string", "_type": "Value"} for name in ROWS[0]}}
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def card(files: object, **settings: object) -> bytes:
    return f"---\nconfigs: {json.dumps([{'config_name': 'default', 'data_files': files, **settings}])}\n---\n".encode()


def places(local: Path, canary: str) -> dict[str, str]:
    return {
        "a local file": str(local),
        "a local pattern": f"{local.parent}/*.parquet",
        "a file address": f"file://{local}",
        "a local address": f"local://{local}",
        "another repository": "hf://datasets/alice/secret@main/train.parquet",
        "another repository by its pattern": "hf://datasets/alice/*/*.parquet",
        "a way to another repository": "../../../../alice/secret@main/train.parquet",
        "loopback": f"{canary}/train.parquet",
        "an archive on loopback": f"zip://*.parquet::{canary}/train.zip",
        "an archive in another repository": "zip://*.parquet::hf://datasets/alice/secret@main/a.zip",
        "a home": "~/train.parquet",
    }


PLACES = list(places(Path("/"), ""))


@pytest.mark.parametrize("place", PLACES)
def test_no_card_names_what_is_not_its_own(world, canary, tmp_path_factory, place):
    local = tmp_path_factory.mktemp("private") / "train.parquet"
    local.write_bytes(parquet(png=encoded(noise(), "PNG")))
    named = places(local, canary)[place]
    number, name = len(world.hub.requests), f"mallory/card-{PLACES.index(place)}"
    forms = {
        "": {"README.md": card(named)},
        "-split": {"README.md": card([{"split": "train", "path": ["train.parquet", named]}])},
        "-hidden": {".huggingface.yaml": card([named]).removeprefix(b"---\n").removesuffix(b"---\n")},
        "-folder": {"README.md": card("train.parquet", data_dir=named.rpartition("/")[0] or named)},
        "-blank": {"README.md": b"\n \n" + card(named)},
        "-windows": {"README.md": card(named).replace(b"\n", b"\r\n")},
    }
    for form, files in forms.items():
        world.hub.upload(name + form, {"train.parquet": parquet(png=encoded(noise(), "PNG")), **files}, **SEED)
        for streaming in (False, True):
            error = raised(world, LOAD, name + form, streaming=streaming)
            assert "HubError" in error.kinds, error.trace
            assert "names the data file" in error.message
            assert "not in its repository" in error.message
    assert not Canary.asked
    assert not [one for one in world.hub.requests[number:] if "secret" in one.path]


def test_an_honest_card_is_loaded(world):
    files = {
        "data/a.parquet": parquet(png=encoded(noise(), "PNG")),
        "README.md": card([{"split": "val", "path": "data/*"}]),
    }
    world.hub.upload("bob/honest", files, **SEED)
    for streaming in (False, True):
        found = world.call(LOAD, "bob/honest", streaming=streaming)
        assert [row[1] for row in found["val"]] == [row["question"] for row in ROWS]


def test_what_was_resolved_lies_in_the_repository():
    def records(file: str) -> dict[str, SimpleNamespace]:
        return {"train": SimpleNamespace(info=SimpleNamespace(download_checksums={file: {}}))}

    check_resolved(records("hf://datasets/bob/charts@0123/a.parquet"), "bob/charts")
    for file in (
        "file:///etc/passwd",
        "hf://datasets/bob/charts-2@0123/a",
        "http://127.0.0.1/a",
        "zip://a::file:///b",
    ):
        with pytest.raises(HubError, match="bob/charts was not loaded: it is made of"):
            check_resolved(records(file), "bob/charts")


def test_patterns_of_published_copies_are_inside():
    for place in ("data/train-*", "**", "train/*.png", "ChartQA Dataset/val/*.json", "a..b/c", "x@y.csv", "."):
        assert is_inside(place), place


# ---------------------------------------------------------------------------------------------- images of streams


def image_folder(images: dict[str, bytes], names: list[str] | None = None) -> dict[str, bytes]:
    names = names or list(images)
    lines = [json.dumps({"file_name": name, **row}) for name, row in zip(names, ROWS, strict=False)]
    return {"train/metadata.jsonl": "\n".join(lines).encode(), **{f"train/{n}": image for n, image in images.items()}}


PNG = encoded(noise(), "PNG")


def test_a_stream_of_an_image_folder_loses_exactly_its_bad_images(world):
    images = {"a.png": PNG, "b.png": EPS, "c.png": PNG[:-60], "d.png": encoded(Image.new("L", (9000, 10)), "PNG")}
    world.hub.upload("mallory/folder", image_folder(images), **SEED)
    found = world.call(LOAD, "mallory/folder", streaming=True, on_error="skip")
    assert [row[1] for row in found["train"]] == ["Q0?"]
    assert found == world.call(LOAD, "mallory/folder", streaming=True, on_error="skip")
    error = raised(world, LOAD, "mallory/folder", streaming=True)
    assert error.kind == "RecordError"
    assert "none of PNG, JPEG" in error.message
    assert "train/b.png" in error.message


@pytest.mark.parametrize(
    "path",
    [
        "hf://datasets/alice/secret@main/a.png",
        "hf://datasets/mallory/rows@main/../../alice/secret@main/a.png",
        "{canary}/a.png",
        "file://{local}",
        "{local}",
    ],
)
def test_rows_of_a_stream_name_no_image_outside_their_repository(world, canary, tmp_path, path):
    (tmp_path / "a.png").write_bytes(PNG)
    path = path.format(canary=canary, local=tmp_path / "a.png")
    world.hub.upload("mallory/rows", {"train.parquet": parquet(paths=[path] * 4)}, **SEED)
    number = len(world.hub.requests)
    for streaming in (False, True):
        error = raised(world, LOAD, "mallory/rows", streaming=streaming)
        assert error.kind == "RecordError", error.trace
        assert "no image file" in error.message or "path leaves image_dir" in error.message
    assert not Canary.asked
    assert not [one for one in world.hub.requests[number:] if "secret" in one.path]


def test_rows_of_a_stream_may_name_images_of_their_repository(world):
    path = "hf://datasets/bob/own@main/a.png"
    world.hub.upload("bob/own", {"train.parquet": parquet(paths=[path] * 4), "a.png": PNG}, **SEED)
    found = world.call(LOAD, "bob/own", streaming=True)
    assert [row[1] for row in found["train"]] == [row["question"] for row in ROWS]
    world.hub.upload("bob/own", {"a.png": EPS}, **SEED)
    error = raised(world, LOAD, "bob/own", streaming=True)
    assert (error.kind, "none of PNG, JPEG" in error.message) == ("RecordError", True)
