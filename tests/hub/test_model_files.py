"""Which files are pushed, and what is refused before any request."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from chartqa_ft.hub.model_files import check_files, files_of_checkpoint, files_of_model, is_checkpoint_name, stage
from chartqa_ft.hub.push import push_checkpoint

from .folders import PUSHED, TOKEN, content, save, weights


def test_which_files_are_taken(tmp_path):
    assert set(files_of_model(save(tmp_path / "full"))) == PUSHED
    assert set(files_of_model(tmp_path / "full", predictions=True)) == PUSHED | {"predictions.jsonl"}
    single = PUSHED - {"model.safetensors"}
    shards = {f"model-0000{number}-of-00002.safetensors" for number in (1, 2)}
    assert set(files_of_model(save(tmp_path / "sharded", shards=True))) == single | shards | {
        "model.safetensors.index.json"
    }
    adapter = save(tmp_path / "adapter", peft=True)
    bare = single - {"config.json"}
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


def test_a_staged_checkpoint_outlives_its_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("chartqa_ft.hub.model_files._LARGEST_COPY", 1000)
    folder = save(tmp_path / "checkpoint-5")
    files = content(folder)
    files = {name: bytes_ for name, bytes_ in files.items() if is_checkpoint_name(name)}
    assert {"optimizer.pt", "model.safetensors"} < set(files)
    assert not {"training_args.bin", ".env", "model.py", "assets/mine.png"} & set(files)
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


def test_code_that_stays_behind_is_named(tmp_path, caplog):
    folder = save(tmp_path / "full")
    config = json.loads((folder / "config.json").read_text())
    check_files(files_of_model(folder))
    config["auto_map"] = {"AutoModel": "alice/model--modeling_chart.Chart"}
    (folder / "config.json").write_text(json.dumps(config))
    check_files(files_of_model(folder))
    assert caplog.messages == []
    config["auto_map"] |= {"AutoConfig": "configuration_chart.Chart", "AutoTokenizer": ["words.Slow", None]}
    (folder / "config.json").write_text(json.dumps(config))
    check_files(files_of_model(folder))
    (told,) = caplog.messages
    assert "needs its own code (configuration_chart.py, words.py), which is never pushed" in told
