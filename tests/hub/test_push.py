"""A push is one commit with the whole model and nothing stale."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from chartqa_ft.hub import CardFacts, CardSample, read_card
from chartqa_ft.hub.card.render import write_card
from chartqa_ft.hub.errors import HubError
from chartqa_ft.hub.model_files import files_of_checkpoint
from chartqa_ft.hub.push import push_checkpoint

from .folders import save, weights
from .world import World, expected, world_of


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


def test_one_commit_for_each_push_and_nothing_stale(world, tmp_path):
    hub, name = world.hub, "alice/life"
    full, shards = save(tmp_path / "full"), save(tmp_path / "shards", 1, shards=True)
    adapter = save(tmp_path / "adapter", 2, peft=True)
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


def test_a_folder_without_a_card_gets_one(lfs, tmp_path):
    folder = save(tmp_path / "model")
    (folder / "README.md").unlink()
    (folder / "metrics.json").write_text('{"eval_relaxed_accuracy": 0.25, "eval_n": 8, "train_loss": 1.0}')
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    lfs.push(folder, "alice/cardless")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    pushed = lfs.files("alice/cardless")
    card = pushed.pop("README.md").decode()
    assert pushed == expected(folder)
    assert read_card(card) == {"relaxed_accuracy": 0.25, "n": 8, "relaxed_accuracy_confidence": 0.95}
    assert "alice/cardless" in card


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
    plain = with_card(save(tmp_path / "plain", 3, peft=True), 0, [])
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
