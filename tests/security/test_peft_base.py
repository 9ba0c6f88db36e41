"""A PEFT checkpoint may name anything as its base model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model

from chartqa_ft import load_checkpoint
from chartqa_ft.hub.answers import check_revision

from ..support.common import tiny


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    model, processor = tiny()
    get_peft_model(model, LoraConfig(target_modules=["q_proj"])).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def peft(saved: Path, folder: Path, base: object, **settings: object) -> Path:
    shutil.copytree(saved, folder, dirs_exist_ok=True)
    file = folder / "adapter_config.json"
    named = {"base_model_name_or_path": str(base) if isinstance(base, Path) else base}
    file.write_text(json.dumps(json.loads(file.read_text()) | named | settings))
    return folder


@pytest.mark.parametrize(
    "base",
    [7, 1.5, True, [], ["a"], {}, {"a": "b"}, "", "\x00", "a\nb", "\x1b[2J", "x" * 5000, "/" + "x" * 300],
    ids=ascii,
)
def test_bases_that_are_none(saved, tmp_path, base):
    with pytest.raises((ValueError, OSError), match="adapter_config") as caught:
        load_checkpoint(peft(saved, tmp_path / "lora", base))
    assert len(str(caught.value)) < 2000


def test_a_base_that_is_itself(saved, tmp_path, monkeypatch):
    own = tmp_path / "lora"
    (tmp_path / "link").symlink_to(own)
    monkeypatch.chdir(tmp_path)
    for base in (str(own), "lora", "./lora", f"{own}/../lora", str(tmp_path / "link")):
        with pytest.raises(ValueError, match="correct base_model_name_or_path"):
            load_checkpoint(peft(saved, own, base))


def test_bases_in_a_circle_and_long_chains(saved, tmp_path):
    first = peft(saved, tmp_path / "first", tmp_path / "second")
    peft(saved, tmp_path / "second", tmp_path / "third")
    peft(saved, tmp_path / "third", first)
    for merge in (False, True):
        with pytest.raises(ValueError, match="correct base_model_name_or_path"):
            load_checkpoint(first, merge=merge)
    for number in range(12):
        peft(saved, tmp_path / str(number), tmp_path / str(number + 1))
    with pytest.raises(ValueError, match="more than 8 others"):
        load_checkpoint(tmp_path / "0")


BAD_REVISIONS = ["../../escaped", "a/../../b", "/etc/passwd", "a\\b", "a\x1bb", "", 7, ["main"], "x" * 300, "C:x"]


@pytest.mark.parametrize("revision", BAD_REVISIONS, ids=ascii)
def test_revisions_that_would_be_paths(saved, tmp_path, revision):
    with pytest.raises(ValueError, match="revision must be a branch, tag or commit"):
        check_revision("alice/model", revision)
    with pytest.raises(ValueError, match="adapter_config"):
        load_checkpoint(peft(saved, tmp_path / "lora", "alice/model", revision=revision))


def test_usual_revisions():
    for revision in (None, "main", "v1.0", "refs/pr/12", "refs/convert/parquet", "a" * 40, "feature/x-1"):
        check_revision("alice/model", revision)
