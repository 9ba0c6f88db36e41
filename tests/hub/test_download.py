"""Checkpoints come whole from the Hub, from its cache, or with a word about why not; nothing in them is run."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from peft import get_peft_model
from safetensors.torch import load_file

from chartqa_ft.hub import download, model_files
from chartqa_ft.hub.download import fetch_checkpoint
from chartqa_ft.hub.public import find_token
from chartqa_ft.models.load import load_checkpoint
from chartqa_ft.models.lora import default_lora_config
from chartqa_ft.models.tiny import tiny_unichart

from ..drivers import pull_flows
from ..hub_client import ClientError
from ..project.test_hub_server import World

PROCESSOR = "tests.drivers.pull_flows.processor_of"
LOAD, FETCH = "tests.drivers.pull_flows.load", "tests.drivers.pull_flows.fetch"
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """A base, an adapter on `bob/base@v1`, the two merged, and both as pickles alone."""
    top = tmp_path_factory.mktemp("models")
    model, processor = tiny_unichart("test")
    model.save_pretrained(top / "base")
    processor.save_pretrained(top / "base")
    torch.manual_seed(1)
    model.name_or_path = "bob/base"
    wrapped = get_peft_model(model, default_lora_config(model, revision="v1", r=2))
    for name, weight in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    wrapped.save_pretrained(top / "adapter", save_embedding_layers=False)
    merged = wrapped.merge_and_unload()
    merged.save_pretrained(top / "merged")
    processor.save_pretrained(top / "merged")
    model.save_pretrained(top / "sharded", max_shard_size="50KB")
    processor.save_pretrained(top / "sharded")
    for name, safe, pickled in (
        ("base", WEIGHTS, "pytorch_model.bin"),
        ("adapter", "adapter_model.safetensors", "adapter_model.bin"),
    ):
        shutil.copytree(top / name, top / f"{name}-pickle")
        torch.save(load_file(top / name / safe), top / f"{name}-pickle" / pickled)
        (top / f"{name}-pickle" / safe).unlink()
    return {path.name: path for path in top.iterdir()}


@pytest.fixture(scope="module")
def lfs(tmp_path_factory, folders) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("lfs"), xet=False) as world:
        seed(world, folders)
        yield world
        assert not [path for path in world.folder.rglob("*") if path.is_file() and holds(path, world.token)]


@pytest.fixture(scope="module")
def xet(tmp_path_factory, folders) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("xet"), xet=True) as world:
        seed(world, folders)
        yield world


@pytest.fixture(scope="module")
def offline(lfs) -> Iterator:
    with lfs.process("home", offline=True) as client:
        yield client


def holds(path: Path, token: str) -> bool:
    return token.encode() in path.read_bytes()


def seed(world: World, folders: dict[str, Path]) -> None:
    for name in ("adapter", "merged", "sharded"):
        world.hub.upload(f"bob/{name}", folders[name])
    # The adapter names v1; what is on main since would answer otherwise.
    world.hub.upload("bob/base", folders["base"])
    world.hub.upload("bob/base", {"note.txt": b"first"}, revision="v1")
    world.hub.upload("bob/base", {WEIGHTS: (folders["merged"] / WEIGHTS).read_bytes()})
    world.hub.upload("bob/base", {"training.bin": b"", "last-checkpoint/model.safetensors": b"0" * 64, "run.py": b"0"})


@pytest.fixture(scope="module")
def expected(folders) -> dict[str, dict]:
    """What the same folders give without any Hub."""
    found = {"base": pull_flows.load(str(folders["base"])), "merged": pull_flows.load(str(folders["merged"]))}
    assert found["base"]["weights"] != found["merged"]["weights"]
    assert found["base"]["answers"] != found["merged"]["answers"]
    return found


def raised(client, name: str, *arguments, **named) -> ClientError:
    with pytest.raises(ClientError) as caught:
        client.call(name, *arguments, **named)
    assert not find_token(caught.value.trace)
    return caught.value


def outcome(world: World, name: str, *arguments) -> str | None:
    """What a call complained of, None if it worked."""
    try:
        world.call(name, *arguments)
    except ClientError as error:
        return error.message
    return None


# ---------------------------------------------------------------- what works


@pytest.mark.parametrize("client", ["lfs", "xet"])
def test_full_merged_sharded_and_adapter(client, request, expected):
    world = request.getfixturevalue(client)
    assert world.call(LOAD, "bob/base", revision="v1") == expected["base"]
    for name in ("base", "merged", "sharded") if client == "lfs" else ("sharded",):
        assert world.call(LOAD, f"bob/{name}") == expected["merged"], name
    assert world.call(LOAD, "bob/adapter", merge=True)["answers"] == expected["merged"]["answers"]
    assert world.call(LOAD, "bob/adapter")["answers"] == expected["merged"]["answers"]
    files = world.call(FETCH, "bob/base")
    assert files["commit"] == world.hub.refs("bob/base")["refs/heads/main"]
    assert not {"training.bin", "last-checkpoint/model.safetensors", "run.py"} & set(files["files"])


def test_who_may_load_what(lfs, folders, expected):
    lfs.hub.create_repo("alice/secret", private=True)
    lfs.hub.upload("alice/secret", folders["base"])
    assert lfs.call(LOAD, "alice/secret") == lfs.call(LOAD, "alice/secret", token=lfs.token) == expected["base"]
    for name, settings, said in (
        ("alice/secret", {"token": False}, "private and you are not logged in"),
        ("alice/secret", {"token": lfs.hub.add_user("carol")}, "private and your token may not see it"),
        ("alice/secret", {"token": "hf_" + "x" * 34}, "the Hub refused the token"),
        ("alice/none", {}, "there is no model alice/none"),
        ("bob/base", {"revision": "none"}, "it has no branch, tag or commit 'none'"),
        ("bob/ba..se", {}, "is not a valid model name"),
    ):
        error = raised(lfs, LOAD, name, **settings)
        assert (error.kind, said in error.message) == ("HubError", True), error.message


# ---------------------------------------------------------------- what breaks on the way


@pytest.mark.parametrize(
    ("where", "order"),
    [
        ("/storage/download/*/{}/*", {"how": "reset", "after_bytes": 1000}),
        ("/storage/download/*/{}/*", {"how": "close", "after_bytes": 1000}),
        ("/storage/download/*/{}/*", {"status": 503}),
        ("/{}/resolve/*/config.json", {"how": "reset"}),
        ("/api/models/{}*", {"status": 503}),
        ("/api/models/{}*", {"status": 429, "retry_after": 1, "skip": 1}),
    ],
    ids=["reset", "close", "503", "small-file", "listing", "second-listing"],
)
def test_a_fetch_that_breaks_is_tried_again(lfs, folders, where, order, request):
    name = f"bob/breaks-{request.node.callspec.id}"
    lfs.hub.upload(name, folders["base"])
    fault = lfs.hub.fail(where.format(name), **order)
    files = lfs.call(FETCH, name)["files"]
    assert fault.left == 0
    assert files == sorted(path.name for path in folders["base"].iterdir())


def test_a_fetch_that_stays_broken_says_why_and_goes_on_the_next_time(lfs, folders):
    lfs.hub.upload("bob/broken", folders["base"])
    lfs.hub.fail("/storage/download/*/bob/broken/*", status=503, times=4)
    error = raised(lfs, FETCH, "bob/broken")
    assert error.kind == "HubError"
    assert "bob/broken was not loaded: the Hub has a problem (error 503)" in error.message
    number = len(lfs.hub.requests)
    assert WEIGHTS in lfs.call(FETCH, "bob/broken")["files"]
    again = {
        one.path.rpartition("/")[2] for one in lfs.hub.matching("*", "GET", since=number) if "resolve" in one.path
    }
    assert "config.json" not in again


def test_a_partial_snapshot_is_completed_or_named(lfs, offline, folders):
    names = sorted(path.name for path in folders["base"].iterdir())
    for name in ("bob/part", "bob/other-part"):
        lfs.hub.upload(
            name, {**{path.name: path.read_bytes() for path in folders["base"].iterdir()}, "README.md": b"# A"}
        )
        lfs.call("tests.drivers.pull_flows.cache_one_file", name, "README.md")
        error = raised(offline, FETCH, name)
        assert (error.kind, "HF_HUB_OFFLINE=1" in error.message) == ("HubError", True)
    # The Hub fails just where huggingface_hub then takes what is in the cache.
    fault = lfs.hub.fail("/api/models/bob/part*", status=503, skip=1)
    assert lfs.call(FETCH, "bob/part")["files"] == ["README.md", *names]
    assert fault.left == 0
    lfs.call("tests.drivers.pull_flows.cache_one_file", "bob/other-part", "config.json")
    error = raised(offline, FETCH, "bob/other-part")
    assert "this machine's cache has only a part of it and lacks model.safetensors" in error.message


def test_what_the_hub_itself_lacks(lfs, folders):
    shards = {path.name: path.read_bytes() for path in folders["sharded"].iterdir()}
    lost = next(name for name in sorted(shards) if name.startswith("model-00002"))
    lfs.hub.upload("bob/lost", {name: content for name, content in shards.items() if name != lost})
    lfs.hub.upload("bob/no-model", {"data.csv": b"1"})
    for name, said in (("bob/lost", f"lacks {lost}"), ("bob/no-model", "it is not a checkpoint (it contains ")):
        error = raised(lfs, FETCH, name)
        assert (error.kind, said in error.message) == ("HubError", True), error.message


def test_offline_from_the_cache(lfs, offline, expected):
    lfs.call(FETCH, "bob/adapter")
    lfs.call(FETCH, "bob/base", revision="v1")
    lfs.call(FETCH, "bob/base")
    number = len(lfs.hub.requests)
    assert offline.call(LOAD, "bob/adapter")["answers"] == expected["merged"]["answers"]
    assert offline.call(LOAD, "bob/base", revision="v1") == expected["base"]
    error = raised(offline, LOAD, "bob/nothing-cached")
    assert (error.kind, "HF_HUB_OFFLINE=1" in error.message) == ("HubError", True)
    assert len(lfs.hub.requests) == number


def test_while_the_hub_is_down_the_cache_answers_and_says_so(lfs, folders):
    lfs.hub.upload("bob/down", folders["base"])
    commit = lfs.call(FETCH, "bob/down")["commit"]
    lfs.hub.fail("/api/models/bob/*", status=503, times=None)
    found = lfs.call(FETCH, "bob/down")
    lfs.hub.mend()
    assert found["commit"] == commit
    assert len([text for text in found["warnings"] if f"using commit {commit}" in text]) == 1


# ---------------------------------------------------------------- what must not run


class Evil:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return pull_flows.write, (str(self.path),)


@pytest.mark.parametrize("name", ["base", "adapter"])
def test_a_pickle_alone_is_read_without_running_it(lfs, folders, expected, tmp_path, name):
    folder = folders[f"{name}-pickle"]
    lfs.hub.upload(f"bob/{name}-pickle", folder)
    found = lfs.call(LOAD, f"bob/{name}-pickle")
    assert found["answers"] == expected["base" if name == "base" else "merged"]["answers"]
    warnings = [text for text in found["warnings"] if "can run code" in text]
    assert len(warnings) == 1
    assert "weights_only=True" in warnings[0]
    evil = shutil.copytree(folder, tmp_path / "evil")
    (weights,) = evil.glob("*.bin")
    state = torch.load(weights, weights_only=True)
    for index, protocol in enumerate((None, 4)):
        ran = tmp_path / f"ran-{index}"
        if protocol is None:
            torch.save({**state, "evil": Evil(ran)}, weights)
        else:
            weights.write_bytes(pickle.dumps({"evil": Evil(ran)}, protocol=protocol))
        lfs.hub.upload(f"bob/evil-{name}-{index}", evil)
        error = raised(lfs, LOAD, f"bob/evil-{name}-{index}")
        assert "OSError" in error.kinds, error.trace
        assert "would run code" in error.message
        assert not ran.exists()


def with_code(folder: Path, target: Path, ran: Path) -> Path:
    """A checkpoint that asks for its own classes of everything."""
    shutil.copytree(folder, target)
    for name in ("config.json", "processor_config.json", "preprocessor_config.json", "tokenizer_config.json"):
        path = target / name
        settings = json.loads(path.read_text()) if path.is_file() else {}
        settings["auto_map"] = {
            "AutoConfig": "evil.Config",
            "AutoModelForImageTextToText": "evil.Model",
            "AutoProcessor": "evil.Processor",
            "AutoImageProcessor": "evil.Images",
            "AutoTokenizer": ["evil.Tokens", "evil.Tokens"],
        }
        path.write_text(json.dumps(settings))
    code = (
        f"open({str(ran)!r}, 'w')\nfrom transformers import PretrainedConfig\nclass Config(PretrainedConfig): pass\n"
    )
    (target / "evil.py").write_text(code)
    return target


def test_code_runs_only_where_it_is_trusted(lfs, folders, tmp_path):
    ran = tmp_path / "ran"
    lfs.hub.upload("bob/code", with_code(folders["base"], tmp_path / "code", ran))
    settings = json.loads((folders["base"] / "config.json").read_text())
    unknown = with_code(folders["base"], tmp_path / "unknown", ran)
    auto = json.loads((unknown / "config.json").read_text())["auto_map"]
    (unknown / "config.json").write_text(json.dumps({**settings, "model_type": "evil", "auto_map": auto}))
    lfs.hub.upload("bob/unknown-code", unknown)
    # What transformers knows itself it may load by its own classes; the rest is refused, with what to pass.
    messages = [outcome(lfs, call, name) for call in (LOAD, PROCESSOR) for name in ("bob/code", "bob/unknown-code")]
    assert all(message is None or "trust_remote_code" in message for message in messages), messages
    assert messages[1] is not None
    assert not ran.exists()
    assert "evil.py" not in lfs.call(FETCH, "bob/code")["files"]
    assert raised(lfs, LOAD, "bob/unknown-code").kind == "ValueError"
    assert not ran.exists()
    with pytest.raises(ClientError):  # the classes are not there, but by then their file ran
        lfs.call(LOAD, "bob/unknown-code", trust_remote_code=True)
    assert ran.exists()


@pytest.mark.parametrize(
    "name", ["../../outside.json", "sub/../../outside.txt", "/tmp/outside.json", "..\\outside.json"]
)
def test_names_that_leave_the_folder(lfs, folders, name):
    repo = f"bob/leaves-{len(lfs.hub.requests)}"
    lfs.hub.upload(repo, {**{path.name: path.read_bytes() for path in folders["base"].iterdir()}, name: b"{}"})
    error = raised(lfs, FETCH, repo)
    assert (error.kind, "leads out of the checkpoint's folder" in error.message) == ("ValueError", True)
    assert not list(lfs.folder.rglob("outside*"))


def test_an_index_that_names_files_elsewhere(folders, tmp_path):
    folder = shutil.copytree(folders["sharded"], tmp_path / "model")
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    for elsewhere in ("../secret.safetensors", "/etc/secret.safetensors"):
        content["weight_map"] = dict.fromkeys(content["weight_map"], elsewhere)
        index.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=r"secret\.safetensors', which leads out"):
            load_checkpoint(folder)
    index.write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        load_checkpoint(folder)


def test_local_folders(folders, tmp_path):
    assert fetch_checkpoint(folders["base"]) == folders["base"]
    assert fetch_checkpoint(str(folders["adapter"])) == folders["adapter"]
    with pytest.raises(FileNotFoundError, match=r"has no config\.json or adapter_config\.json"):
        fetch_checkpoint(tmp_path)
    for missing in (
        tmp_path / "none",
        "./none",
        "~/none",
        "a/b/c",
        "C:\\out",
        "C:/out",
        "runs\\out",
        "\\\\server\\out",
    ):
        with pytest.raises(FileNotFoundError, match=r"there is no folder .*: check the path"):
            fetch_checkpoint(missing)


def test_folders_that_are_no_checkpoints_say_what_to_pass(folders, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"not a checkpoint\. Check the path \(it is empty\): pass the folder"):
        fetch_checkpoint(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"config\.json is a file: pass the folder of the checkpoint"):
        fetch_checkpoint(folders["base"] / "config.json")
    (tmp_path / "logs").mkdir()
    with pytest.raises(FileNotFoundError, match="it holds other files"):
        fetch_checkpoint(tmp_path)
    for name in ("checkpoint-5", "checkpoint-10"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"subfolders that are: checkpoint-10, checkpoint-5$"):
        fetch_checkpoint(tmp_path)


def test_every_file_of_settings_that_a_push_sends_is_downloaded():
    names = [name.replace("*", "words") for name in model_files._SETTINGS]
    assert [name for name in names if name not in download._wanted([*names, "model.safetensors"], code=False)] == []
