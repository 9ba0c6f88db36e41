"""A Hub that lies: no file lands outside the cache, and no content is loaded that was not announced."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace as File
from typing import Any

import pytest

from chartqa_ft.data import synthetic_chartqa
from chartqa_ft.hub.answers import check_content, check_sha, digests_of
from chartqa_ft.hub.errors import HubError

from ..hub_client import ClientError
from ..project.test_hub_server import World

FETCH = "tests.drivers.pull_flows.fetch"
COUNT = "tests.drivers.pull_flows.count_records"
WEIGHTS = bytes(range(256)) * 8
FILES = {"config.json": b"{}", "model.safetensors": WEIGHTS}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("world"), xet=False) as world:
        yield world


@pytest.fixture
def name(world, request) -> Iterator[str]:
    """A model of its own for each test; afterwards nothing lies outside the caches, and the Hub is honest again."""
    name = f"bob/model-{zlib.crc32(request.node.nodeid.encode())}"
    world.hub.upload(name, FILES)
    yield name
    world.hub.mend()
    assert not [path for path in world.folder.rglob("*") if "escaped" in path.name]
    assert all("authorization" not in one.headers for one in world.hub.requests if one.host.startswith("localhost"))


def refused(world: World, name: str, *, call: str = FETCH) -> str:
    with pytest.raises(ClientError) as caught:
        world.call(call, name)
    error = caught.value
    assert error.kind in ("HubError", "ValueError"), error.trace
    assert name in error.message
    assert "\x1b" not in error.message
    return error.message


def answer(change: Callable[[dict[str, Any]], Any]) -> Callable[[bytes], bytes]:
    """Change a JSON answer; what is returned replaces it."""

    def changed(body: bytes) -> bytes:
        content = json.loads(body)
        other = change(content)
        return json.dumps(content if other is None else other).encode()

    return changed


BAD_COMMITS = ["../../../escaped", "/tmp/escaped", "main", "A" * 40, "a" * 41, "", 7, ["a" * 40], "a" * 39 + "\n"]


@pytest.mark.parametrize("sha", BAD_COMMITS, ids=str)
def test_the_commit_of_a_model_must_be_one(world, name, sha):
    world.hub.forge(f"/api/models/{name}*", change=answer(lambda info: info.update(sha=sha)))
    assert "40 hexadecimal digits" in refused(world, name)


def test_no_commit_at_all(world, name):
    world.hub.forge(f"/api/models/{name}*", change=answer(lambda info: info.pop("sha") and None))
    assert "40 hexadecimal digits" in refused(world, name)


@pytest.mark.parametrize("header", ["X-Repo-Commit", "ETag", "X-Linked-Etag"])
@pytest.mark.parametrize(
    "value", ["../../../escaped", "/tmp/escaped", '"../escaped"', "a/escaped", "..", "\x1b[2Jescaped"]
)
def test_headers_that_become_paths(world, name, header, value):
    world.hub.forge(f"/{name}/resolve/*", method="HEAD", headers={header: value})
    refused(world, name)


def test_the_commit_of_a_missing_file(world, name):
    world.hub.fail(f"/{name}/resolve/*/config.json", status=404, times=None)
    headers = {"X-Repo-Commit": "../../../escaped", "X-Error-Code": "EntryNotFound"}
    world.hub.forge(f"/{name}/resolve/*", headers=headers)
    assert "40 hexadecimal digits" in refused(world, name)


@pytest.mark.parametrize(
    "file", ["../../escaped.json", "/tmp/escaped.json", "a/../../escaped.json", "..\\escaped.json", "C:\\escaped.json"]
)
def test_files_that_lead_out(world, name, file):
    def add(info: dict[str, Any]) -> None:
        info["siblings"].append({"rfilename": file})

    world.hub.forge(f"/api/models/{name}*", change=answer(add))
    assert "leads out of the checkpoint's folder" in refused(world, name)


@pytest.mark.parametrize(
    "siblings", [[{}], [{"rfilename": 7}], [7], 7, {"a": 1}, [{"rfilename": "config.json", "lfs": 7}]], ids=str
)
def test_malformed_lists_of_files(world, name, siblings):
    world.hub.forge(f"/api/models/{name}*", change=answer(lambda info: info.update(siblings=siblings)))
    refused(world, name)


@pytest.mark.parametrize(
    "body", [b"[]", b"7", b"{", b"[" * 100_000, b"\xff"], ids=["list", "number", "cut", "deep", "bytes"]
)
def test_an_answer_that_is_no_object(world, name, body):
    world.hub.forge(f"/api/models/{name}*", change=lambda _: body)
    refused(world, name)


# ------------------------------------------------------------------ contents


def test_weights_of_equal_size_and_other_content(world, name):
    world.hub.forge(f"/storage/download/*/{name}/*", change=lambda body: body[:-1] + b"!")
    message = refused(world, name)
    assert "the content of 'model.safetensors' is not the one that the Hub announces" in message
    world.hub.mend()
    assert "model.safetensors" in world.call(FETCH, name)["files"]  # the wrong file is gone from the cache


def test_weights_that_another_program_downloaded(world, name, tmp_path):
    world.hub.forge(f"/storage/download/*/{name}/*", change=lambda body: body[:-1] + b"!")
    for file in FILES:
        world.call("tests.drivers.pull_flows.cache_one_file", name, file)
    world.hub.mend()
    with (
        world.process("home", offline=True) as offline,
        pytest.raises(ClientError, match=r"Delete /.*/model.safetensors and try again"),
    ):
        offline.call(FETCH, name)
    assert "the content of 'model.safetensors'" in refused(world, name)
    assert "model.safetensors" in world.call(FETCH, name)["files"]


def test_settings_of_equal_size_and_other_content(world, name):
    world.hub.forge(f"/{name}/resolve/*/config.json", method="GET", change=lambda body: b"[]")
    assert "the content of 'config.json'" in refused(world, name)


@pytest.mark.parametrize("length", ["1", "999999"])
def test_a_length_that_lies(world, name, length):
    world.hub.forge(f"/{name}/resolve/*/model.safetensors", headers={"X-Linked-Size": length})
    refused(world, name)


def test_files_are_read_for_their_digest_once(tmp_path, monkeypatch):
    folder = tmp_path / "models--bob--model" / "snapshots" / ("a" * 40)
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    (folder / "config.json").write_bytes(b"{}")
    # `git hash-object` of "{}".
    files = {
        "model.safetensors": hashlib.sha256(WEIGHTS).hexdigest(),
        "config.json": "9e26dfeeb6e641a33dae4961196235bdb965b21b",
    }
    check_content("bob/model", folder, files)
    read: list[Path] = []
    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda path, *rest, **named: read.append(path) or opened(path, *rest, **named))
    check_content("bob/model", folder, files)
    assert folder / "model.safetensors" not in read
    (folder / "model.safetensors").write_bytes(WEIGHTS[::-1])
    with pytest.raises(HubError, match=r"the content of 'model\.safetensors'"):
        check_content("bob/model", folder, files)
    assert not (folder / "model.safetensors").exists()


def test_digests_that_are_none_are_ignored():
    files = [
        File(rfilename="a", blob_id=None, lfs=None),
        File(rfilename="b", blob_id="../x", lfs=None),
        File(rfilename="c", blob_id="a" * 40, lfs=File(sha256="b" * 64)),
    ]
    assert digests_of(files) == {"c": "b" * 64}
    assert check_sha("a/b", "0123456789" * 4) == "0123456789" * 4


# ------------------------------------------------------------------ data sets


@pytest.mark.parametrize("sha", ["../../../escaped", "/tmp/escaped"])
def test_the_commit_of_a_data_set_must_be_one(world, tmp_path, sha):
    synthetic_chartqa(2, seed=0).to_parquet(tmp_path / "train.parquet")
    name = f"bob/data-{len(sha)}"
    world.hub.upload(name, {"train.parquet": (tmp_path / "train.parquet").read_bytes()}, repo_type="dataset")
    world.hub.forge(
        f"/api/datasets/{name}*", change=answer(lambda i: i.update(sha=sha) if isinstance(i, dict) else None)
    )
    try:
        assert "40 hexadecimal digits" in refused(world, name, call=COUNT)
    finally:
        world.hub.mend()
    assert not [path for path in world.folder.rglob("*") if "escaped" in path.name]
    assert world.call(COUNT, name) > 0
