"""What is pushed, that it is whole and one commit, and that every fault of the Hub ends in words and in a second try
that sends nothing twice."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import shutil
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from chartqa_ft.hub import CardFacts, CardSample
from chartqa_ft.hub.card.render import write_card
from chartqa_ft.hub.errors import HubError, explained
from chartqa_ft.hub.model_files import check_files, files_of_checkpoint, files_of_model, stage
from chartqa_ft.hub.public import find_token, redact
from chartqa_ft.hub.push import push_checkpoint
from chartqa_ft.hub.retry import retrying

from ..hub_client import Client, ClientError
from ..hub_server import HubServer, environment

UPLOAD, COMMIT = "/storage/upload/*", "/api/models/*/commit/*"
PUSH = "chartqa_ft.hub.push.push_checkpoint"
TOKEN = "hf_" + "abcdefghij" * 3
CARD = "---\nlicense: mit\n---\n# A model\n"
SETTINGS = ("chartqa_config.json", "config.json", "generation_config.json", "metrics.json", "training_args.json")
PROCESSOR = ("chat_template.jinja", "processor_config.json", "tokenizer.json", "tokenizer_config.json")
NEVER = ("training_args.bin", "optimizer.pt", "pytorch_model.bin", "scaler.pkl", "model.py", "run.log", ".env")
PUSHED = {"README.md", "assets/curve.png", "model.safetensors", *SETTINGS, *PROCESSOR}


def weights(path: Path, seed: int, names: str = "ab") -> None:
    """Some 80 kB for each name, other bytes for each seed."""
    values = np.random.default_rng(seed)
    save_file({name: values.random(10_000) for name in names}, path, metadata={"format": "pt"})


def save(folder: Path, seed: int = 0, *, shards: bool = False, adapter: bool = False) -> Path:
    """A folder as training leaves it, with what must not be pushed beside it."""
    for name in ("assets/curve.png", "assets/run.py", "checkpoint-5/model.safetensors", "runs/events", *NEVER):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"\x80\x04bytes")
    (folder / "README.md").write_text(CARD)
    (folder / "predictions.jsonl").write_text('{"index": 0}\n')
    for name in (*SETTINGS, *PROCESSOR):
        (folder / name).write_text(json.dumps({"of": name}))
    if shards:
        index = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
        for name, shard in index.items():
            weights(folder / shard, seed, name)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    elif adapter:
        (folder / "adapter_config.json").write_text("{}")
        weights(folder / "adapter_model.safetensors", seed)
    else:
        weights(folder / "model.safetensors", seed)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---------------------------------------------------------------- what belongs to a model


def test_which_files_are_taken(tmp_path):
    assert set(files_of_model(save(tmp_path / "full"))) == PUSHED
    assert set(files_of_model(tmp_path / "full", predictions=True)) == PUSHED | {"predictions.jsonl"}
    single = PUSHED - {"model.safetensors"}
    shards = {f"model-0000{number}-of-00002.safetensors" for number in (1, 2)}
    assert set(files_of_model(save(tmp_path / "sharded", shards=True))) == single | shards | {
        "model.safetensors.index.json"
    }
    adapter = save(tmp_path / "adapter", adapter=True)
    bare = single - {"config.json", "generation_config.json"}
    assert set(files_of_model(adapter)) == bare | {"adapter_config.json", "adapter_model.safetensors"}
    (adapter / "trainer_state.json").write_text("{}")
    states = set(files_of_checkpoint(adapter))
    assert {"optimizer.pt", "trainer_state.json", "adapter_model.safetensors"} < states
    assert not [name for name in states if name.endswith((".py", "training_args.bin"))]


def cut(folder: Path) -> Path:
    path = folder / "model.safetensors"
    os.truncate(path, path.stat().st_size - 1)
    return path


def no_header(folder: Path) -> Path:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 1 << 40) + b"{}")
    return folder / "model.safetensors"


def bad_header(folder: Path) -> Path:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 9) + b'{"a": {}}')
    return folder / "model.safetensors"


def empty(folder: Path) -> Path:
    (folder / "model.safetensors").write_bytes(b"")
    return folder / "model.safetensors"


def half_json(folder: Path) -> Path:
    (folder / "tokenizer.json").write_text('{"model": ')
    return folder / "tokenizer.json"


def only_a_pickle(folder: Path) -> Path:
    (folder / "model.safetensors").unlink()
    return folder / "pytorch_model.bin"


def no_config(folder: Path) -> Path:
    (folder / "config.json").unlink()
    return folder / "config.json"


def as_shards(folder: Path) -> Path:
    (folder / "model.safetensors").unlink()
    save(folder, shards=True)
    return folder / "model-00002-of-00002.safetensors"


def no_shard(folder: Path) -> Path:
    as_shards(folder).unlink()
    return folder / "model-00002-of-00002.safetensors"


def shard_of_another(folder: Path) -> Path:
    weights(as_shards(folder), 1, "a")
    return folder / "model-00002-of-00002.safetensors"


def shard_elsewhere(folder: Path) -> Path:
    as_shards(folder)
    index = folder / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "../other.safetensors"}}')
    return index


def token_in_json(folder: Path) -> Path:
    (folder / "training_args.json").write_text(json.dumps({"hub_token": TOKEN}))
    return folder / "training_args.json"


def token_of_the_login(folder: Path) -> Path:
    (folder / "README.md").write_text("# use my-own-secret")
    return folder / "README.md"


def token_in_weights(folder: Path) -> Path:
    save_file({"a": np.zeros(1)}, folder / "model.safetensors", metadata={"by": TOKEN})
    return folder / "model.safetensors"


DAMAGES = [cut, no_header, bad_header, empty, half_json, only_a_pickle, no_config, no_shard, shard_of_another]
DAMAGES += [shard_elsewhere, token_in_json, token_of_the_login, token_in_weights]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda one: one.__name__)
def test_what_is_refused_before_any_request(tmp_path, monkeypatch, damage):
    monkeypatch.setattr("huggingface_hub.HfApi.__init__", lambda *_, **__: pytest.fail("a request was prepared"))
    named = damage(save(tmp_path / "model"))
    with pytest.raises(ValueError) as caught:
        push_checkpoint(tmp_path / "model", "alice/model", token="my-own-secret")
    assert named.name in str(caught.value)
    assert TOKEN not in str(caught.value)
    assert "my-own-secret" not in str(caught.value)


def test_other_refusals(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        push_checkpoint(tmp_path / "none", "a/b")
    folder = save(tmp_path / "model")
    (folder / "predictions.jsonl").unlink()
    with pytest.raises(ValueError, match=r"no predictions\.jsonl"):
        push_checkpoint(folder, "a/b", predictions=True)
    with pytest.raises(FileNotFoundError, match=r"no trainer_state\.json"):
        push_checkpoint(folder, "a/b", checkpoint=folder)
    with pytest.raises(ValueError, match="path_in_repo"):
        push_checkpoint(folder, "a/b", checkpoint=folder, path_in_repo="../x")
    with pytest.raises(HubError, match="'a//b' is not a valid model name"):
        push_checkpoint(folder, "a//b")


def test_a_staged_checkpoint_outlives_its_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("chartqa_ft.hub.model_files._LARGEST_COPY", 1000)
    folder = save(tmp_path / "checkpoint-5")
    files = content(folder)
    del files["training_args.bin"]
    (tmp_path / "aside").mkdir()
    (tmp_path / "aside" / "old").write_text("old")
    assert stage(folder, tmp_path / "aside") == tmp_path / "aside"
    assert content(tmp_path / "aside") == files
    assert (tmp_path / "aside" / "model.safetensors").samefile(folder / "model.safetensors")
    assert not (tmp_path / "aside" / "config.json").samefile(folder / "config.json")
    check_files(files_of_model(tmp_path / "aside"))

    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    stage(folder, tmp_path / "copied")
    for path in folder.rglob("*"):
        path.unlink() if path.is_file() else None
    assert content(tmp_path / "aside") == content(tmp_path / "copied") == files


# ---------------------------------------------------------------- words, and trying again


def test_tokens_are_found_and_taken_out():
    assert redact(f"a {TOKEN} b Bearer x.y123 c mine", ["mine"]) == (
        "a TOKEN_REMOVED b Bearer TOKEN_REMOVED c TOKEN_REMOVED"
    )
    assert find_token(f"'{TOKEN}'")
    assert find_token("mine", "mine")
    assert not find_token("from huggingface_hub import hf_hub_download; hf-internal-testing/hf_tiny-model-for-tests")


def raise_after(failures: list[Exception], calls: list[int]) -> str:
    calls.append(1)
    if failures:
        raise failures.pop(0)
    return "done"


@pytest.fixture
def slept(monkeypatch) -> list[float]:
    seconds: list[float] = []
    monkeypatch.setattr("chartqa_ft.hub.retry.time.sleep", seconds.append)
    return seconds


def http_package():
    """httpx or httpx2, whichever huggingface_hub stands on."""
    from huggingface_hub.errors import HTTPError

    return importlib.import_module(HTTPError.__module__.partition(".")[0])


def answered(
    status: int, method: str = "POST", path: str = "/api/models/a/b/commit/main", **headers: str
) -> Exception:
    """What huggingface_hub makes of an answer."""
    from huggingface_hub.utils import hf_raise_for_status

    http = http_package()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = http.Request(method, f"https://huggingface.co{path}", headers={"authorization": f"Bearer {TOKEN}"})
    with pytest.raises(OSError) as caught:
        hf_raise_for_status(http.Response(status, headers=names, request=request))
    return caught.value


def test_waits_grow_and_follow_the_hub(slept, caplog):
    calls: list[int] = []
    failures = [answered(503), answered(429, retry_after="7"), http_package().ReadError("reset")]
    assert retrying(lambda: raise_after(failures, calls), what="the push to a/b") == "done"
    assert (len(calls), slept) == (4, [1, 7, 4])
    assert [record.getMessage() for record in caplog.records] == [
        "the push to a/b: the Hub answered with error 503; trying again in 1 s (2 of 4)",
        "the push to a/b: too many requests; trying again in 7 s (3 of 4)",
        "the push to a/b: the connection to the Hub broke; trying again in 4 s (4 of 4)",
    ]


def test_what_is_not_tried_again(slept):
    from huggingface_hub.errors import OfflineModeIsEnabled

    http = http_package()
    hopeless = [answered(status) for status in (400, 401, 403, 404, 409)]
    hopeless += [OfflineModeIsEnabled("offline"), ValueError("x"), http.UnsupportedProtocol("x")]
    hopeless += [answered(429, retry_after="1000"), ConnectionError("xet: HTTP status 503")]
    hopeless.append(from_cause(RuntimeError("Error while uploading 'x' to the Hub."), answered(503)))
    for failure in hopeless:
        calls: list[int] = []
        with pytest.raises(type(failure)):
            retrying(lambda: raise_after([failure], calls))  # noqa: B023
        assert (len(calls), slept) == (1, []), failure
    # A pull request is opened once more only if the first cannot have come about.
    for failure, number in ((http.ReadError("x"), 1), (http.ConnectError("x"), 2), (answered(502), 2)):
        calls = []
        failures = [failure]
        with contextlib.suppress(http.ReadError):
            retrying(lambda: raise_after(failures, calls), repeatable=False)  # noqa: B023
        assert len(calls) == number, failure
    with pytest.raises(ValueError, match="attempts"):
        retrying(lambda: None, attempts=0)


def from_cause(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def test_every_failure_has_its_words(tmp_path, monkeypatch):
    from huggingface_hub import constants, errors

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    http, repo = http_package(), "/api/models/a/b"
    uploading = RuntimeError("Error while uploading 'model.safetensors' to the Hub.")
    said = {
        "cannot be reached (ConnectError)": http.ConnectError("[Errno 111]"),
        "broke (ReadError)": http.ReadError("reset"),
        "did not answer (ReadTimeout)": http.ReadTimeout("slow"),
        "refused the token": answered(401, path="/api/repos/create"),
        "the token may not write to a/b": from_cause(uploading, answered(403)),
        "in a few minutes": answered(429),
        "in 55 seconds": answered(429, ratelimit='"api";r=0;t=55'),
        "error 500": answered(500),
        "no model a/b, or it is private and your token": answered(404, x_error_code="RepoNotFound"),
        "it has no branch, tag or commit 'v9'": answered(404, "GET", x_error_code="RevisionNotFound"),
        "no file 'x.json'": answered(404, "GET", f"{repo}/resolve/main/x.json", x_error_code="EntryNotFound"),
        "on request only": answered(403, "GET", x_error_code="GatedRepo"),
        "disabled": answered(403, "GET", x_error_message="Access to this resource is disabled."),
        "the name is taken": answered(409, path="/api/repos/create"),
        "somebody else changed": answered(412),
        "(it says: too large)": answered(413, x_error_message="too large"),
        "HF_HUB_OFFLINE": errors.OfflineModeIsEnabled("offline"),
        "cache does not hold": errors.LocalEntryNotFoundError("not there"),
        "is not a valid model name": errors.HFValidationError("bad"),
        "you are not logged in": errors.LocalTokenNotFoundError("none"),
        "the disk is full": OSError(28, "No space left on device"),
    }
    for words, error in said.items():
        with pytest.raises(HubError) as caught, explained("push", "a/b", keep=tmp_path, revision="v9"):
            raise error
        message = str(caught.value)
        assert message.startswith("a/b was not pushed: ")
        assert words in message
        assert str(tmp_path) in message
        assert caught.value.__cause__ is error
    with pytest.raises(HubError, match="was not loaded: the token may not read it"), explained("load", "a/b"):
        raise answered(403, "GET")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE=1 forbids"), explained("load", "a/b"):
        raise errors.LocalEntryNotFoundError("not there")


def test_other_errors_stay_what_they_are():
    for error in (KeyError("x"), ValueError("x"), RuntimeError("x"), FileNotFoundError(2, "x"), HubError("x")):
        with pytest.raises(type(error)) as caught, explained("push", "a/b"):
            raise error
        assert caught.value is error


def test_no_token_in_words_or_causes():
    with pytest.raises(HubError) as caught, explained("push", "a/b", token="mine"):
        raise ConnectionError(f"xet: mine, {TOKEN}, HTTP status 418 I am a teapot")
    assert "mine" not in str(caught.value)
    assert TOKEN not in str(caught.value)
    assert (caught.value.status, caught.value.__cause__) == (418, None)


# ---------------------------------------------------------------- in a process of its own


def push(folder: str, repo_id: str, **settings) -> dict:
    """What the client's process calls: pushes without waiting; the waits are told."""
    logging.basicConfig(level=logging.INFO)
    slept: list[float] = []
    sleep, time.sleep = time.sleep, slept.append
    try:
        commit = push_checkpoint(folder, repo_id, **settings)
    finally:
        time.sleep = sleep
    return {"url": commit.commit_url, "oid": commit.oid, "pr": commit.pr_url, "slept": slept}


def load(repo_id: str, **settings) -> list[float]:
    """What the client's process calls to fetch a snapshot; returns the waits."""
    from huggingface_hub import snapshot_download

    slept: list[float] = []
    sleep, time.sleep = time.sleep, slept.append
    try:
        with explained("load", repo_id, revision=settings.get("revision"), token=settings.get("token")):
            retrying(lambda: snapshot_download(repo_id, **settings), what=f"fetching {repo_id}")
    finally:
        time.sleep = sleep
    return slept


class World:
    """A server, its user alice, and a process of hers."""

    def __init__(self, folder: Path, *, xet: bool):
        self.folder, self.xet = folder, xet
        self.hub = HubServer(folder / "hub", xet=folder / "cas" if xet else None)
        self.token = self.hub.add_user("alice")
        self.hub.add_organisation("lab", "alice")
        self.client = self.process("home")

    def process(self, home: str) -> Client:
        variables = environment(self.hub, self.folder / home, xet=self.xet, token=self.token)
        return Client(variables, self.folder / f"{home}.log")

    def push(self, folder: Path, name: str, **settings) -> dict:
        return self.client.call("tests.hub.test_push.push", folder, name, **settings)

    def refused(self, folder: Path, name: str, **settings) -> str:
        """The message, which says where the files are; they are as before."""
        before = content(folder)
        with pytest.raises(ClientError) as caught:
            self.push(folder, name, **settings)
        assert caught.value.kind == "HubError", caught.value.trace
        assert content(folder) == before
        assert self.token not in caught.value.trace
        assert f"Nothing is lost: the files are kept in {folder}." in caught.value.message
        assert caught.value.message.startswith(f"{name} was not pushed: ")
        return caught.value.message

    def files(self, name: str, **settings) -> dict[str, bytes]:
        files = self.hub.files(name, **settings)
        files.pop(".gitattributes", None)
        return files

    def stored(self) -> set[tuple[str, int]]:
        """What hf_xet has stored, with the time of writing."""
        return {(path.name, path.stat().st_mtime_ns) for path in self.folder.glob("cas/xet/xorbs/xorbs/default.*[!t]")}

    def uploads(self, since: int) -> list:
        return self.hub.matching(UPLOAD, "PUT", since=since)


def world_of(folder: Path, *, xet: bool) -> Iterator[World]:
    world = World(folder, xet=xet)
    with world.hub, world.client:
        yield world
    assert world.token not in repr(world.hub.requests)
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert world.client.log in written
    assert not [path for path in written if world.token.encode() in path.read_bytes()]


@pytest.fixture(scope="module")
def lfs(tmp_path_factory) -> Iterator[World]:
    yield from world_of(tmp_path_factory.mktemp("lfs"), xet=False)


@pytest.fixture(scope="module")
def xet(tmp_path_factory) -> Iterator[World]:
    yield from world_of(tmp_path_factory.mktemp("xet"), xet=True)


@pytest.fixture(params=["lfs", "xet"])
def world(request) -> World:
    """Both ways that clients are set up."""
    return request.getfixturevalue(request.param)


def expected(folder: Path, **settings) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in files_of_model(folder, **settings).items()}


def test_one_commit_for_each_push_and_nothing_stale(world, tmp_path):
    hub, name = world.hub, "alice/life"
    full, shards = save(tmp_path / "full"), save(tmp_path / "shards", 1, shards=True)
    adapter = save(tmp_path / "adapter", 2, adapter=True)
    first = world.push(full, name, private=True, predictions=True, commit_message="Step 5")
    assert hub.is_private(name)
    assert world.files(name) == expected(full, predictions=True)
    assert [commit.title for commit in hub.commits(name)][:-1] == ["Step 5"]
    assert first["url"] == f"{hub.url}/{name}/commit/{first['oid']}"
    assert first["oid"] == hub.commits(name)[0].sha
    assert world.push(full, name, predictions=True)["oid"] == first["oid"]  # nothing new, no commit
    world.push(shards, name)
    assert world.files(name) == expected(shards)
    number = len(hub.requests)
    world.push(full, name)
    assert world.files(name) == expected(full)  # no shard, no index, no predictions of other weights
    assert not world.uploads(number)
    world.push(adapter, name)
    assert world.files(name) == expected(adapter)
    assert len(hub.commits(name)) == 5


def test_what_others_left_there(lfs, tmp_path):
    mine = {"notes.md": b"mine", "assets/mine.png": b"mine", "deep/model.safetensors": b"mine"}
    old = {"pytorch_model.bin": b"old", "adapter_model.bin": b"old", "old/training_args.bin": b"old"}
    lfs.hub.upload("alice/old", mine | old | {"training_args.bin": b"old", "vocab.txt": b"old"})
    lfs.push(save(tmp_path / "model"), "alice/old")
    assert lfs.files("alice/old") == expected(tmp_path / "model") | mine
    assert "old/training_args.bin, training_args.bin is deleted from alice/old" in lfs.client.log.read_text()


OWN = ("assets/curve2.png", "assets/sample_chart.png", "assets/deep/sample_1.png", "model.fp16.safetensors")
OWN += ("model-small.safetensors", "model_quantized.safetensors", "pytorch_model_notes.txt", "openvino.index.json")


def with_card(folder: Path, samples: int, log: list[dict]) -> Path:
    """A real card in place of the folder's, with so many charts and a curve of `log`."""
    chart = Image.new("RGB", (40, 30), "red")
    asked = [CardSample(question="How?", answer="1", prediction="1", image=chart) for _ in range(samples)]
    shutil.rmtree(folder / "assets")
    write_card(folder, CardFacts(name="a/b", kind="full", samples=asked, log_history=log), include_images=True)
    return folder


def test_pictures_and_weights_of_earlier_pushes_go_and_what_others_put_there_stays(lfs, tmp_path):
    hub, name = lfs.hub, "alice/layouts"
    mine = dict.fromkeys(OWN, b"mine")
    hub.upload(name, mine)
    log = [{"step": step, "loss": 1.0 / step} for step in (1, 2)]
    shards = with_card(save(tmp_path / "shards", 1, shards=True), 3, log)
    few = with_card(save(tmp_path / "few", 2), 1, log)
    plain = with_card(save(tmp_path / "plain", 3, adapter=True), 0, [])
    pictures = {"assets/training_curve.png", *(f"assets/sample_{number}.png" for number in (1, 2, 3))}
    assert {path for path in expected(shards) if path.startswith("assets/")} == pictures
    assert [path for path in expected(plain) if path.startswith("assets/")] == []
    for number, folder in enumerate((shards, few, plain, shards), start=1):
        lfs.push(folder, name)
        assert lfs.files(name) == expected(folder) | mine
        assert len(hub.commits(name)) == 2 + number  # with what is deleted in the same one


def test_branches_pull_requests_and_owners(world, tmp_path):
    hub, folder = world.hub, save(tmp_path / "model")
    world.push(folder, "plain")  # one's own
    assert world.files("alice/plain") == expected(folder)
    weights(folder / "model.safetensors", 3)
    for _ in range(2):
        world.push(folder, "alice/plain", revision="trial")
    assert world.files("alice/plain", revision="trial") == expected(folder) != world.files("alice/plain")
    assert len(hub.commits("alice/plain", revision="trial")) == 3
    world.push(folder, "lab/model", private=True)
    assert hub.is_private("lab/model")
    hub.upload("bob/model", {"pytorch_model.bin": b"old"})
    pull_request = world.push(folder, "bob/model", create_pr=True)["pr"]
    assert pull_request == f"{hub.url}/bob/model/discussions/1"
    assert world.files("bob/model") == {"pytorch_model.bin": b"old"}
    assert world.files("bob/model", revision="refs/pr/1") == expected(folder)


def test_a_checkpoint_with_its_optimizer(lfs, tmp_path):
    folder, name = save(tmp_path / "model"), "alice/resume"
    checkpoint = save(folder / "checkpoint-9", 9)
    (checkpoint / "trainer_state.json").write_text("{}")
    shutil.rmtree(checkpoint / "checkpoint-5")
    lfs.hub.upload(name, {"last-checkpoint/rng_state.pth": b"old", "checkpoint-5/optimizer.pt": b"kept"})
    lfs.push(folder, name, checkpoint=checkpoint)
    states = {f"last-checkpoint/{path}": file.read_bytes() for path, file in files_of_checkpoint(checkpoint).items()}
    kept = {"checkpoint-5/optimizer.pt": b"kept"}
    assert lfs.files(name) == expected(folder) | states | kept
    assert "last-checkpoint/optimizer.pt" in states
    lfs.push(folder, name, checkpoint=checkpoint, path_in_repo="checkpoint-9")
    more = {path.replace("last-checkpoint", "checkpoint-9"): bytes_ for path, bytes_ in states.items()}
    assert lfs.files(name) == expected(folder) | states | more | kept
    lfs.push(folder, name)  # leaves checkpoints alone
    assert lfs.files(name) == expected(folder) | states | more | kept


# ---------------------------------------------------------------- faults

PASSES = [
    # where, how, the waits before it went through
    (UPLOAD, {"how": "reset", "after_bytes": 30_000}, [1]),
    (UPLOAD, {"how": "close", "after_bytes": 30_000}, [1]),
    (UPLOAD, {"status": 503}, [1]),
    (UPLOAD, {"status": 429, "retry_after": 3}, [4]),
    ("/api/repos/create", {"status": 503, "times": 2}, [1, 2]),
    ("*/preupload/*", {"status": 500}, [1]),
    ("*/tree/*", {"how": "reset"}, [1]),
    ("*/objects/batch", {"status": 502}, [1]),
    (COMMIT, {"status": 500, "times": 3}, [1, 2, 4]),
    (COMMIT, {"status": 429, "retry_after": 3}, [3]),
    (COMMIT, {"how": "reset"}, [1]),
    (COMMIT, {"how": "close"}, [1]),
    (COMMIT, {"how": "lost"}, [1]),
]


@pytest.mark.parametrize(("where", "order", "slept"), PASSES)
def test_faults_that_pass(lfs, tmp_path, where, order, slept):
    number = len(lfs.hub.requests)
    name, folder = f"alice/passes-{number}", save(tmp_path / "model", number)
    fault = lfs.hub.fail(where, **order)
    assert lfs.push(folder, name)["slept"] == slept
    assert fault.left == 0
    assert lfs.files(name) == expected(folder)
    assert len(lfs.hub.commits(name)) == 2  # the commit whose answer was lost is not made twice
    assert len(lfs.uploads(number)) == (2 if where == UPLOAD else 1)
    if where == COMMIT:
        assert f"the push to {name}: " in lfs.client.log.read_text()


ALWAYS = {"times": None}
REFUSED = [
    # where, how, words of the message, whether the weights are stored by then
    (UPLOAD, {"status": 403, "method": "PUT"}, "the token may not write to", False),
    (UPLOAD, {"status": 503, **ALWAYS}, "the Hub has a problem (error 503)", False),
    (UPLOAD, {"how": "reset", "after_bytes": 1000, **ALWAYS}, "the connection to the Hub broke", False),
    ("*/preupload/*", {"status": 403}, "the token may not write to", False),
    ("*/preupload/*", {"status": 404, **ALWAYS}, "there is no model", False),
    ("/api/repos/create", {"how": "close", **ALWAYS}, "the connection to the Hub broke", False),
    (COMMIT, {"status": 401}, "the Hub refused the token", True),
    (COMMIT, {"status": 403}, "the token may not write to", True),
    (COMMIT, {"status": 412}, "somebody else changed", True),
    (COMMIT, {"status": 503, **ALWAYS}, "the Hub has a problem (error 503)", True),
    (COMMIT, {"how": "reset", **ALWAYS}, "the connection to the Hub broke", True),
    (COMMIT, {"status": 429, "retry_after": 900}, "you sent the Hub too many requests. Try again in 900 s", True),
]


@pytest.mark.parametrize(("where", "order", "words", "stored"), REFUSED)
def test_faults_that_end_a_push(lfs, tmp_path, where, order, words, stored):
    number = len(lfs.hub.requests)
    name, folder = f"alice/refused-{number}", save(tmp_path / "model", number)
    lfs.hub.fail(where, **order)
    assert words in lfs.refused(folder, name)
    if lfs.hub.exists(name):
        assert not lfs.files(name)
    lfs.hub.mend()
    number = len(lfs.hub.requests)
    lfs.push(folder, name)
    assert lfs.files(name) == expected(folder)
    assert len(lfs.hub.commits(name)) == 2
    assert len(lfs.uploads(number)) == (0 if stored else 1)


def test_who_may_not(lfs, tmp_path):
    hub, folder = lfs.hub, save(tmp_path / "model", 77)
    hub.create_repo("bob/taken")
    hub.create_repo("alice/taken")
    number, reader = len(hub.requests), hub.add_user("alice", "read")
    nobody = {"token": False}
    for name, settings, words in [
        ("alice/new", nobody, "you are not logged in. Log in with a token that has write permission: hf auth login"),
        ("alice/new", {"token": TOKEN}, "the Hub refused the token"),
        ("alice/new", {"token": reader}, "the token may not write to alice/new"),
        ("bob/new", {}, "If you do not belong to 'bob', the name is taken"),
        ("bob/taken", {}, "If you do not belong to 'bob', the name is taken"),
        ("alice/taken", {"token": reader}, "the token may not write to alice/taken"),
        ("alice/taken", {"exist_ok": False}, "the name is taken: there is a model alice/taken already"),
    ]:
        message = lfs.refused(folder, name, **settings)
        assert words in message, message
        assert TOKEN not in message
        assert reader not in message
    assert not lfs.uploads(number)
    with pytest.raises(ClientError, match="everybody can read it, although private=True"):
        lfs.push(folder, "alice/taken", private=True)
    assert not lfs.uploads(number)
    for name in ("bob/taken", "alice/taken"):
        assert not lfs.files(name)
    assert not hub.exists("alice/new")


def test_faults_while_fetching(lfs, tmp_path):
    folder = save(tmp_path / "model", 80)
    stored, listing = "/storage/download/*", "/api/models/bob/*"
    for number, (where, order, end) in enumerate(
        [
            (stored, {"how": "reset", "after_bytes": 1000}, [1]),
            (stored, {"status": 503, "times": 2}, [1, 2]),
            (listing, {"status": 503}, [1]),
            (listing, {"status": 429, "retry_after": 5}, [5]),
            (listing, {"how": "reset"}, [1]),
            (stored, {"status": 403}, "the token may not read it"),
            (listing, {"status": 503, **ALWAYS}, "the Hub has a problem (error 503)"),
            (None, {"token": TOKEN}, "the Hub refused the token"),
            (None, {"token": False, "repo_id": "bob/none"}, "it is private and you are not logged in"),
            (None, {"repo_id": "bob/none"}, "there is no model bob/none, or it is private and your token may not"),
            (None, {"revision": "v9"}, "it has no branch, tag or commit 'v9'"),
        ]
    ):
        lfs.hub.upload(f"bob/fetched-{number}", {"model.safetensors": (folder / "model.safetensors").read_bytes()})
        if where:
            lfs.hub.fail(where, **order)
        settings = {"repo_id": f"bob/fetched-{number}"} | ({} if where else order)
        if isinstance(end, list):
            assert lfs.client.call("tests.hub.test_push.load", **settings) == end
        else:
            with pytest.raises(ClientError) as caught:
                lfs.client.call("tests.hub.test_push.load", **settings)
            assert caught.value.kind == "HubError", caught.value.trace
            assert caught.value.message.startswith(f"{settings['repo_id']} was not loaded: ")
            assert end in caught.value.message
            assert TOKEN not in caught.value.trace
        lfs.hub.mend()


def test_a_card_that_the_hub_refuses(lfs, tmp_path):
    folder = save(tmp_path / "model", 81)
    (folder / "README.md").write_text("---\nlicense: [\n---\n")
    number = len(lfs.hub.requests)
    assert "Invalid metadata in README.md" in lfs.refused(folder, "alice/card")
    assert not lfs.uploads(number)
    assert not lfs.files("alice/card")


def test_a_pull_request_is_not_opened_twice(lfs, tmp_path):
    folder = save(tmp_path / "model", 78)
    lfs.hub.create_repo("bob/proposed")
    lfs.hub.fail(COMMIT, how="lost")
    assert "discussions" in lfs.refused(folder, "bob/proposed", create_pr=True)
    assert [ref for ref in lfs.hub.refs("bob/proposed") if "pr" in ref] == ["refs/pr/1"]


def test_a_process_killed_between_weights_and_commit(lfs, tmp_path):
    folder, name = save(tmp_path / "model", 79), "alice/killed"
    lfs.hub.fail(f"/api/models/{name}/commit/*", how="hold")
    with lfs.process("killed") as client:
        client.start("tests.hub.test_push.push", folder, name)
        lfs.hub.wait_for(f"/api/models/{name}/commit/*")
    lfs.hub.mend()
    assert not lfs.files(name)
    number = len(lfs.hub.requests)
    lfs.push(folder, name)
    assert lfs.files(name) == expected(folder)
    assert not lfs.uploads(number)


XET = "*/xet-write-token/*"


@pytest.mark.parametrize(
    ("where", "order", "words"),
    [
        (XET, {"status": 401}, "the Hub refused the token"),
        (XET, {"status": 403}, "the token may not write to"),
        (XET, {"status": 404}, "there is no model"),
        (COMMIT, {"status": 403}, "the token may not write to"),
        (COMMIT, {"status": 503, **ALWAYS}, "a problem (error 503)"),
    ],
)
def test_faults_with_xet(xet, tmp_path, where, order, words):
    number = len(xet.hub.requests)
    name, folder = f"alice/xet-{number}", save(tmp_path / "model", number)
    xet.hub.fail(where, **order)
    assert words in xet.refused(folder, name)
    assert not xet.files(name)
    xet.hub.mend()
    before = xet.stored()
    xet.push(folder, name)
    assert len(xet.stored() - before) == (0 if where == COMMIT else 1)
    assert xet.files(name) == expected(folder)
    assert len(xet.hub.commits(name)) == 2


def test_xet_faults_that_pass(xet, tmp_path):
    for number, (where, order) in enumerate(
        [(XET, {"status": 503}), (COMMIT, {"status": 500}), (COMMIT, {"how": "lost"})]
    ):
        name, folder = f"alice/xet-passes-{number}", save(tmp_path / str(number), 90 + number)
        fault = xet.hub.fail(where, **order)
        xet.push(folder, name)
        assert fault.left == 0
        assert xet.files(name) == expected(folder)
        assert len(xet.hub.commits(name)) == 2
