"""A push sends the files that saving writes, and no other file of this machine."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from chartqa_ft.hub.model_files import files_of_checkpoint, files_of_model, is_checkpoint_name, stage
from chartqa_ft.hub.push import push_checkpoint
from chartqa_ft.training.checkpoints import find_damage, hide_folders, mark_checkpoint

from ..hub.folders import PUSHED, content, save

PRIVATE = (
    ".env",
    ".netrc",
    ".ssh/id_rsa",
    "id_rsa",
    "id_rsa.txt",
    "notes.md",
    "LICENSE.key",
    "assets/passport.jpg",
    "assets/notes.txt",
    "assets/sample_1.png.json",
    "assets/deep/sample_1.png",
    "additional_chat_templates/key.txt",
    "wandb/config.yaml",
    "runs/events.out.tfevents.1",
    "optimizer.pt.bak",
    "rng_state.pkl",
    "model.safetensors.part",
    "checkpoint.zip",
    "states.pickle",
    "modeling_own.py",
    "training_args.bin",
    "pytorch_model.bin",
    "global_step5/key.pem",
)
STATES = (
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "rng_state_3.pth",
    "trainer_state.json",
    "chartqa_scores.json",
)


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    """A checkpoint of a trainer between private files."""
    folder = save(tmp_path / "checkpoint-5")
    for name in (*PRIVATE, *STATES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    (folder / "chartqa_scores.json").write_text("[]")
    (folder / "trainer_state.json").write_text('{"global_step": 5}')
    return folder


def test_only_files_that_saving_writes_are_sent(checkpoint, tmp_path):
    assert set(files_of_model(checkpoint)) == PUSHED
    sent = set(files_of_checkpoint(checkpoint))
    assert sent == PUSHED | set(STATES)
    assert not [name for name in PRIVATE if is_checkpoint_name(name)]
    staged = stage(checkpoint, tmp_path / ".push" / "checkpoint-5")
    assert set(content(staged)) == sent
    assert staged.stat().st_mode & 0o077 == 0


def test_a_pushed_checkpoint_lacks_nothing_that_its_mark_lists(checkpoint, tmp_path):
    mark_checkpoint(checkpoint, {"window": [0.0, 0], "total": [0.0, 0]})
    staged = stage(checkpoint, tmp_path / "last-checkpoint")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "rng_state_3.pth"):
        assert name in json.loads((staged / "chartqa_state.json").read_text())["files"]
        (checkpoint / name).unlink()
    assert "optimizer.pt" in str(find_damage(checkpoint))
    assert "optimizer.pt is not whole" in str(find_damage(staged))  # it is there, and no archive of torch in this test


def test_a_pushed_checkpoint_tells_no_folder_of_this_machine(tmp_path):
    folder = tmp_path / "checkpoint-5"
    folder.mkdir()
    state = {"global_step": 5, "best_model_checkpoint": "/home/carol/out/checkpoint-4", "best_global_step": 4}
    (folder / "trainer_state.json").write_text(json.dumps(state))
    mark_checkpoint(folder, {"window": [0.0, 0], "total": [0.0, 0]})
    staged = stage(folder, tmp_path / "aside")
    hide_folders(staged)
    assert json.loads((staged / "trainer_state.json").read_text()) == {
        **state,
        "best_model_checkpoint": "checkpoint-4",
    }
    assert find_damage(staged) is find_damage(folder) is None
    assert json.loads((folder / "trainer_state.json").read_text()) == state
    assert not [name for name, bytes_ in content(staged).items() if b"carol" in bytes_]


# ------------------------------------------------------------------ links


def link_to_a_key(folder: Path, key: Path) -> str:
    (folder / "vocab.txt").symlink_to(key)
    return "vocab.txt"


def link_in_place_of_a_text(folder: Path, key: Path) -> str:
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to(key)
    return "README.md"


def linked_licence(folder: Path, key: Path) -> str:
    (folder / "LICENSE").symlink_to(key)
    return "LICENSE"


def linked_folder(folder: Path, key: Path) -> str:
    (key.parent / "training_curve.png").write_text("private")
    for path in (folder / "assets").iterdir():
        path.unlink()
    (folder / "assets").rmdir()
    (folder / "assets").symlink_to(key.parent)
    return "assets"


def linked_templates(folder: Path, key: Path) -> str:
    (key.parent / "a.jinja").write_text("private")
    (folder / "additional_chat_templates").symlink_to(key.parent)
    return "additional_chat_templates"


def linked_weights(folder: Path, key: Path) -> str:
    (folder / "model.safetensors").rename(key.parent / "model.safetensors")
    (folder / "model.safetensors").symlink_to(key.parent / "model.safetensors")
    return "model.safetensors"


def linked_within(folder: Path, key: Path) -> str:
    (folder / "merges.txt").symlink_to(folder / ".env")
    return "merges.txt"


LINKS = [link_to_a_key, link_in_place_of_a_text, linked_licence, linked_folder, linked_templates, linked_weights]
LINKS += [linked_within]


@pytest.mark.parametrize("attack", LINKS, ids=lambda one: one.__name__)
def test_no_link_is_followed(tmp_path, monkeypatch, attack):
    monkeypatch.setattr("huggingface_hub.HfApi.__init__", lambda *_, **__: pytest.fail("a request was prepared"))
    key = tmp_path / "private" / "id_rsa"
    key.parent.mkdir()
    key.write_text("a private key")
    name = attack(save(tmp_path / "model"), key)
    with pytest.raises(ValueError, match="is a link, which is not followed") as caught:
        push_checkpoint(tmp_path / "model", "alice/model")
    assert name in str(caught.value)
    with pytest.raises(ValueError, match="is a link"):
        stage(tmp_path / "model", tmp_path / "aside", [name if "." in name else f"{name}/training_curve.png"])


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"])
def test_no_linked_state_is_sent(checkpoint, tmp_path, name):
    (tmp_path / "key").write_text("{}")
    (checkpoint / name).unlink()
    (checkpoint / name).symlink_to(tmp_path / "key")
    with pytest.raises(ValueError, match="is a link"):
        files_of_checkpoint(checkpoint)
    with pytest.raises(ValueError, match="is a link"):
        stage(checkpoint, tmp_path / "aside")


def test_the_folder_itself_may_be_a_link(tmp_path):
    save(tmp_path / "model")
    (tmp_path / "alias").symlink_to("model")
    assert set(files_of_model(tmp_path / "alias")) == PUSHED


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(save(tmp_path / "model") / "vocab.txt")
    assert set(files_of_model(tmp_path / "model")) == PUSHED
