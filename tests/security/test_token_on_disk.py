"""Secrets of the arguments are on disk at no moment: a process may be killed at any."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from peft import LoraConfig

from chartqa_ft import ChartQATrainingArguments

from ..support.common import trainer

TOKEN = "averysecrettokenwithoutaformat"
NESTED = "another-secret-of-a-scheduler"
_WATCHED: list[Path] = []
_FOUND: set[str] = set()
_EVENTS = ("open", "os.remove", "os.rename", "os.rmdir", "shutil.rmtree", "shutil.copyfile")


def _search(top: Path) -> None:
    for folder, _, names in os.walk(top):
        for name in names:
            path = os.path.join(folder, name)
            try:
                descriptor = os.open(path, os.O_RDONLY)
            except OSError:
                continue
            with open(descriptor, "rb") as file:
                content = file.read()
            if any(secret.encode() in content for secret in (TOKEN, NESTED)):
                _FOUND.add(path)


def _hook(event: str, _: tuple) -> None:
    if _WATCHED and event in _EVENTS:
        top = _WATCHED.pop()  # no events of its own
        _search(top)
        _WATCHED.append(top)


@contextmanager
def watched(top: Path) -> Iterator[set[str]]:
    """Search a folder before any file is opened, moved or removed; the set is of the files with a secret."""
    if not getattr(watched, "hooked", False):
        sys.addaudithook(_hook)  # which stays, and does nothing while nothing is watched
        watched.hooked = True
    _FOUND.clear()
    _WATCHED.append(top)
    try:
        yield _FOUND
    finally:
        _WATCHED.clear()
        _search(top)


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_no_secret_is_written_at_any_moment(tmp_path, kind):
    peft = {"peft_config": LoraConfig(r=2, target_modules=["q_proj"])} if kind == "lora" else {}
    learning = trainer(tmp_path, save_strategy="steps", save_steps=1, hub_token=TOKEN, **peft)
    with watched(tmp_path) as found:
        learning.train()
        learning.args.lr_scheduler_kwargs = {"deep": [{"api_key": NESTED, "power": 1}]}
        learning.args.debug_note = {"password": NESTED}  # not even what is no argument
        learning._save_checkpoint(learning.model, None)
        learning.save_model()
    assert found == set()
    assert not list(tmp_path.rglob("training_args.bin"))
    saved = json.loads((tmp_path / "training_args.json").read_text())
    assert saved["lr_scheduler_kwargs"] == {"deep": [{"power": 1}]}
    assert "hub_token" not in saved


def test_the_watch_sees_what_is_there_only_for_a_moment(tmp_path):
    with watched(tmp_path) as found:
        (tmp_path / "training_args.bin").write_text(f"token {TOKEN}")
        (tmp_path / "training_args.bin").unlink()
    assert found == {str(tmp_path / "training_args.bin")}


def test_the_pickle_of_another_trainer_is_removed(tmp_path):
    (tmp_path / "training_args.bin").write_text(TOKEN)
    trainer(tmp_path).save_model()
    assert not (tmp_path / "training_args.bin").exists()


@dataclass
class Derived(ChartQATrainingArguments):
    more: int = 1


@pytest.mark.parametrize("kind", [ChartQATrainingArguments, Derived])
def test_arguments_tell_loggers_no_secret(tmp_path, kind):
    own = kind(str(tmp_path), hub_token=TOKEN, run_name="ghp_" + "a" * 36, use_cpu=True, report_to="none")
    own.lr_scheduler_kwargs = {"api_key": NESTED, "power": 2, "url": f"https://me:{NESTED}@host/x"}
    texts = [
        str(own),
        repr(own),
        f"{[own]}",
        own.to_json_string(),
        str(own.to_sanitized_dict()),
        json.dumps(own.to_sanitized_arguments()),
    ]
    for text in texts:
        assert TOKEN not in text
        assert NESTED not in text
        assert "ghp_" not in text
    assert json.loads(own.to_json_string())["lr_scheduler_kwargs"]["power"] == 2
    assert (own.hub_token, own.lr_scheduler_kwargs["api_key"]) == (TOKEN, NESTED)  # still there to be used
