"""A checkpoint is complete, or it is skipped or refused with its name and what is wrong with it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from chartqa_ft import default_lora_config
from chartqa_ft.training.checkpoints import begin_checkpoint, find_damage, last_checkpoint, mark_checkpoint
from chartqa_ft.training.lineage import RUN_NAME

from ..support.common import tiny, trainer

SETTINGS = {"max_steps": 3, "save_strategy": "steps", "save_steps": 1}
SUMS = {"window": [0.0, 0.0], "total": [3.0, 2.0]}


def made(folder: Path, **changes):
    return trainer(folder, **{**SETTINGS, **changes})


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """The output folder of a run with checkpoints of steps 1, 2 and 3."""
    folder = tmp_path_factory.mktemp("saved")
    made(folder).train()
    return folder


@pytest.fixture(scope="module")
def lora(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("lora")
    model, processor = tiny()
    model.save_pretrained(folder / "base")
    processor.save_pretrained(folder / "base")
    made(folder / "out", model=model, peft_config=default_lora_config(model, r=2), max_steps=2).train()
    return folder / "out"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def zeros_at_the_end(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-100] + bytes(100))


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"0")


def another_kind(path: Path) -> None:
    """JSON of the same size that is a list, padded with spaces."""
    path.write_text("[]".ljust(path.stat().st_size))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def newer(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))


def of_the_step_before(path: Path) -> None:
    shutil.copy(path.parent.parent / "checkpoint-2" / path.name, path)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_broken_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def other_sums(path: Path) -> None:
    mark = json.loads(path.read_text())
    mark["total"][0] += 1
    path.write_text(json.dumps(mark))


DAMAGES: list[tuple[str, Callable[[Path], None], str]] = [
    ("chartqa_state.json", Path.unlink, "was not written to its end"),
    ("chartqa_state.json", empty, "chartqa_state.json is not valid JSON"),
    ("chartqa_state.json", another_kind, "chartqa_state.json does not hold a JSON object"),
    ("chartqa_state.json", zeros, "chartqa_state.json is not valid JSON"),
    ("model.safetensors", cut, "model.safetensors has "),
    ("model.safetensors", zeros, "model.safetensors has other bytes"),
    ("model.safetensors", zeros_at_the_end, "model.safetensors has other bytes"),
    ("model.safetensors", Path.unlink, "model.safetensors is missing"),
    ("optimizer.pt", longer, "optimizer.pt has "),
    ("optimizer.pt", Path.unlink, "optimizer.pt is missing"),
    ("scheduler.pt", zeros, "scheduler.pt has other bytes"),
    ("rng_state.pth", Path.unlink, "rng_state.pth is missing"),
    ("trainer_state.json", another_kind, "trainer_state.json has other bytes"),
    ("tokenizer.json", cut, "tokenizer.json has "),
    ("config.json", zeros, "config.json has other bytes"),
    ("chartqa_scores.json", Path.unlink, "chartqa_scores.json is missing"),
    ("chartqa_state.json", newer, "was saved by a newer release of chartqa_ft (format 99, not 3)"),
    ("chartqa_state.json", other_sums, "chartqa_state.json has other bytes"),
    ("chartqa_state.json", of_the_step_before, "has other bytes than were written"),
    ("chartqa_state.json", a_folder, "not a regular file"),
    ("chartqa_state.json", a_broken_link, "was not written to its end"),
    ("model.safetensors", of_the_step_before, "model.safetensors has other bytes"),
    ("optimizer.pt", of_the_step_before, "optimizer.pt has other bytes"),
    ("trainer_state.json", of_the_step_before, "trainer_state.json has "),
    ("model.safetensors", a_folder, "model.safetensors is missing"),
    ("optimizer.pt", a_broken_link, "optimizer.pt is missing"),
    ("optimizer.pt", a_pipe, "optimizer.pt is missing"),
    ("chartqa_config.json", Path.unlink, "chartqa_config.json is missing"),
    ("tokenizer_config.json", Path.unlink, "tokenizer_config.json is missing"),
]
NAMES = [f"{name} {damage.__name__}" for name, damage, _ in DAMAGES]


@pytest.mark.parametrize(("name", "damage", "reason"), DAMAGES, ids=NAMES)
def test_a_damaged_checkpoint_is_skipped_and_refused_by_name(saved, tmp_path, caplog, name, damage, reason):
    out = Path(shutil.copytree(saved, tmp_path / "out"))
    newest = out / "checkpoint-3"
    assert last_checkpoint(out) == str(newest)
    assert caplog.records == []
    damage(newest / name)
    assert last_checkpoint(out) == str(out / "checkpoint-2")
    (warning,) = caplog.messages
    assert str(newest) in warning
    assert reason in warning
    run = made(out)
    with pytest.raises(ValueError) as caught:
        run.train(resume_from_checkpoint=str(newest))
    assert str(newest) in str(caught.value)
    assert reason in str(caught.value)
    assert run.state.global_step == 0


def without_list(checkpoint: Path) -> None:
    """Give a checkpoint the mark of earlier releases."""
    mark = checkpoint / "chartqa_state.json"
    stored = json.loads(mark.read_text())
    mark.write_text(json.dumps({key: stored[key] for key in ("window", "total", "epoch", "batches")}))


@pytest.mark.parametrize(
    ("name", "damage", "reason"),
    [
        ("model.safetensors", cut, "model.safetensors is not whole"),
        ("model.safetensors", zeros, "model.safetensors is not whole"),
        ("optimizer.pt", cut, "optimizer.pt is not whole"),
        ("rng_state.pth", zeros, "rng_state.pth is not whole"),
        ("trainer_state.json", another_kind, "trainer_state.json does not hold a JSON object"),
        ("tokenizer.json", empty, "tokenizer.json is not valid JSON"),
    ],
)
def test_checkpoints_of_earlier_releases_are_used_if_their_files_are_whole(
    saved, tmp_path, caplog, name, damage, reason
):
    out = Path(shutil.copytree(saved, tmp_path / "out"))
    for checkpoint in out.glob("checkpoint-*"):
        without_list(checkpoint)
    assert last_checkpoint(out) == str(out / "checkpoint-3")
    damage(out / "checkpoint-3" / name)
    assert last_checkpoint(out) == str(out / "checkpoint-2")
    assert reason in caplog.text


def test_a_checkpoint_of_an_earlier_release_resumes_to_the_same_bits(saved, tmp_path):
    out = Path(shutil.copytree(saved, tmp_path / "out"))
    shutil.rmtree(out / "checkpoint-3")
    without_list(out / "checkpoint-2")
    resumed = made(out)
    resumed.train(resume_from_checkpoint=True)
    assert (out / "checkpoint-3" / "model.safetensors").read_bytes() == (
        saved / "checkpoint-3" / "model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize(
    ("name", "damage"), [("adapter_model.safetensors", cut), ("adapter_config.json", zeros), ("optimizer.pt", empty)]
)
def test_a_damaged_lora_checkpoint_is_skipped(lora, tmp_path, caplog, name, damage):
    out = Path(shutil.copytree(lora, tmp_path / "out"))
    assert last_checkpoint(out) == str(out / "checkpoint-2")
    damage(out / "checkpoint-2" / name)
    assert last_checkpoint(out) == str(out / "checkpoint-1")
    assert f"checkpoint-2 is damaged: {name} has" in caplog.text


def test_lora_weights_of_an_earlier_release_need_their_configuration(lora, tmp_path, caplog):
    out = Path(shutil.copytree(lora, tmp_path / "out"))
    without_list(out / "checkpoint-2")
    assert find_damage(out / "checkpoint-2") is None
    (out / "checkpoint-2" / "adapter_config.json").unlink()
    assert find_damage(out / "checkpoint-2") == "is damaged: adapter_config.json is missing"


def test_a_byte_in_the_middle_of_large_weights_counts(tmp_path, monkeypatch):
    out = tmp_path / "out"
    for step in (1, 2):
        folder = out / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        save_file({"weight": torch.zeros(1 << 18)}, folder / "model.safetensors")
        mark_checkpoint(folder, {**SUMS, "step": step})
    weights = out / "checkpoint-2" / "model.safetensors"
    with open(weights, "r+b") as file:
        file.seek(weights.stat().st_size // 2)
        file.write(b"1")
    reason = "is damaged: model.safetensors has other bytes than were written"
    assert find_damage(weights.parent) == reason
    assert find_damage(weights.parent, quick=True) is None
    assert last_checkpoint(out) == str(out / "checkpoint-1")
    with pytest.raises(ValueError, match=f"checkpoint-2 {reason}"):
        made(out).train(resume_from_checkpoint=str(weights.parent))


def test_marks_without_checksums_of_blocks_are_read(saved, tmp_path):
    """As version 2 has them."""
    folder = Path(shutil.copytree(saved / "checkpoint-3", tmp_path / "checkpoint-3"))
    mark = json.loads((folder / "chartqa_state.json").read_text())
    del mark["checksum"]
    for entry in mark["files"].values():
        entry.pop("blocks", None)
    (folder / "chartqa_state.json").write_text(json.dumps(mark))
    assert find_damage(folder) == "is damaged: chartqa_state.json has other bytes than were written"
    (folder / "chartqa_state.json").write_text(json.dumps({**mark, "format": 2}))
    assert find_damage(folder) is None


# ---------------------------------------------------------------------- what a single process of a tiny model has not
def sharded(folder: Path) -> Path:
    """A checkpoint with two shards, saved by two processes."""
    folder.mkdir(parents=True)
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    for number, name in enumerate(names):
        save_file({f"weight_{number}": torch.ones(8)}, folder / name)
    index = {"metadata": {}, "weight_map": {f"weight_{number}": name for number, name in enumerate(names)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for rank in (0, 1):
        torch.save({}, folder / f"rng_state_{rank}.pth")
    mark_checkpoint(folder, {**SUMS, "world_size": 2})
    return folder


@pytest.mark.parametrize("name", ["model-00002-of-00002.safetensors", "rng_state_1.pth"])
@pytest.mark.parametrize("damage", [cut, zeros, Path.unlink])
@pytest.mark.parametrize("listed", [True, False])
def test_every_shard_and_every_rank_counts(tmp_path, name, damage, listed):
    folder = sharded(tmp_path / "checkpoint-7")
    if not listed:
        (folder / "chartqa_state.json").write_text(json.dumps(SUMS))
    assert find_damage(folder) is None
    damage(folder / name)
    found = find_damage(folder)
    if (name, damage, listed) == ("rng_state_1.pth", Path.unlink, False):
        assert found is None  # nothing says how many there were; the resume does
    else:
        assert found is not None
        assert name in found


@pytest.mark.parametrize(
    ("mark", "reason"),
    [
        ({"format": 2, "files": {}}, "lacks the sums 'window'"),
        ({**SUMS, "format": 2}, "lacks the list of files"),
        ({**SUMS, "format": 2, "files": []}, "lacks the list of files"),
        ({**SUMS, "format": 2, "files": {"a": 3}}, "a is missing"),
        ({"window": [0.0], "total": [0.0, 0.0]}, "lacks the sums 'window'"),
        ({**SUMS, "total": "3"}, "lacks the sums 'total'"),
    ],
)
def test_a_mark_of_another_form_is_damage(tmp_path, mark, reason):
    (tmp_path / "chartqa_state.json").write_text(json.dumps(mark))
    assert reason in str(find_damage(tmp_path))


def test_the_state_of_another_step_is_damage(saved, tmp_path):
    out = Path(shutil.copytree(saved, tmp_path / "out"))
    moved = Path(shutil.move(out / "checkpoint-2", out / "checkpoint-9"))
    assert find_damage(moved) == "is damaged: trainer_state.json is of step 2, not 9"
    copied = Path(shutil.copytree(out / "checkpoint-1", out / "last-checkpoint"))
    assert find_damage(copied) is None


def test_the_mark_is_away_while_a_checkpoint_is_rewritten(tmp_path):
    seen = []
    run = made(tmp_path, max_steps=1)
    old = run.running_loss.on_save

    def on_save(args, state, control, **kwargs):
        folder = tmp_path / f"checkpoint-{state.global_step}"
        seen.append(((folder / "chartqa_state.json").exists(), (folder / "optimizer.pt").exists()))
        old(args, state, control, **kwargs)
        seen.append(((folder / "chartqa_state.json").exists(), find_damage(folder)))

    run.running_loss.on_save = on_save
    for _ in range(2):
        run.train()
    assert seen == [(False, True), (True, None)] * 2


def test_states_of_an_older_checkpoint_do_not_outlive_its_rewriting(saved, tmp_path):
    folder = Path(shutil.copytree(saved / "checkpoint-1", tmp_path / "checkpoint-1"))
    begin_checkpoint(folder)
    left = {path.name for path in folder.iterdir()}
    assert "model.safetensors" in left
    assert left.isdisjoint(
        {"optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "chartqa_state.json"}
    )


# ---------------------------------------------------------------------- resumes that cannot be exact
def remove(*names: str) -> Callable[[Path], None]:
    """Remove files from a checkpoint whose mark does not list them, as `save_only_model` or a user does."""

    def change(checkpoint: Path) -> None:
        without_list(checkpoint)
        for name in names:
            (checkpoint / name).unlink()

    return change


def other_world(checkpoint: Path) -> None:
    mark = checkpoint / "chartqa_state.json"
    mark.write_text(json.dumps({**json.loads(mark.read_text()), "world_size": 2}))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (remove("optimizer.pt"), "no state of the optimizer"),
        (remove("scheduler.pt"), "no state of the learning-rate schedule"),
        (remove("rng_state.pth"), "no random state"),
        (lambda checkpoint: (checkpoint / "chartqa_state.json").unlink(), "chartqa_state.json is missing"),
        (other_world, "it was saved by 2 processes, and there are 1"),
    ],
)
def test_an_inexact_resume_is_refused_unless_it_is_allowed(saved, tmp_path, caplog, change, reason):
    out = Path(shutil.copytree(saved, tmp_path / "out"))
    checkpoint = out / "checkpoint-2"
    change(checkpoint)
    run = made(out)
    with pytest.raises(ValueError) as caught:
        run.train(resume_from_checkpoint=str(checkpoint))
    assert str(checkpoint) in str(caught.value)
    assert reason in str(caught.value)
    assert run.state.global_step == 0
    allowed = made(out, allow_inexact_resume=True)
    assert allowed.train(resume_from_checkpoint=str(checkpoint)).global_step == 3
    (warning,) = [message for message in caplog.messages if "cannot be resumed exactly" in message]
    assert reason in warning


def test_a_run_that_saves_only_models_is_not_resumed_without_a_word(tmp_path):
    settings = {"save_only_model": True, "max_steps": 2}
    made(tmp_path, **settings).train()
    assert find_damage(tmp_path / "checkpoint-2") is None
    for resume in (True, str(tmp_path / "checkpoint-2")):
        with pytest.raises(ValueError, match=r"checkpoint-2 cannot be resumed exactly: .*save_only_model=True"):
            made(tmp_path, **settings).train(resume_from_checkpoint=resume)


def test_states_of_another_optimizer_are_refused_by_name(saved, tmp_path):
    out = Path(shutil.copytree(saved, tmp_path / "out"))
    other = made(out, optim="sgd", optim_args="momentum=0.9")
    state = torch.load(out / "checkpoint-2" / "optimizer.pt", weights_only=True)
    state["param_groups"] = state["param_groups"][:1]
    torch.save(state, out / "checkpoint-2" / "optimizer.pt")
    without_list(out / "checkpoint-2")
    with pytest.raises(ValueError, match=r"optimizer in .*checkpoint-2 cannot be loaded"):
        other.train(resume_from_checkpoint=str(out / "checkpoint-2"))


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        made(tmp_path).train(resume_from_checkpoint=str(tmp_path / "nowhere"))


# ---------------------------------------------------------------------- an earlier run in the same folder
def test_a_new_run_is_not_resumed_from_an_earlier_one(saved, tmp_path, caplog):
    out = Path(shutil.copytree(saved, tmp_path / "out"))
    assert not (out / RUN_NAME).exists()
    made(out, save_steps=5, max_steps=1).train()
    assert "checkpoints of an earlier run (checkpoint-1, checkpoint-2, checkpoint-3)" in caplog.text
    last = made(out, max_steps=2, save_steps=2)
    last.train()
    assert last_checkpoint(out) == str(out / "checkpoint-2")
    assert f"{out / 'checkpoint-3'} is of an earlier run" in caplog.text
    shutil.rmtree(out / "checkpoint-2")
    with pytest.raises(ValueError, match="no complete checkpoint in"):
        made(out).train(resume_from_checkpoint=True)
    # An explicit path goes on with the earlier run, whose checkpoints then count again.
    made(out, save_steps=9).train(resume_from_checkpoint=str(out / "checkpoint-1"))
    assert last_checkpoint(out) == str(out / "checkpoint-3")
