"""A run is resumed from its own checkpoints, and from those that it goes on from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from chartqa_ft.training.checkpoints import last_checkpoint, run_of
from chartqa_ft.training.lineage import RUN_NAME, Lineage

from ..support.common import trainer

SETTINGS = {"max_steps": 4, "save_strategy": "steps", "save_steps": 1}


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    trainer(folder, **SETTINGS).train()
    return folder


@pytest.fixture
def copied(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "out"))


def newest(folder: Path) -> str | None:
    found = last_checkpoint(folder)
    return found and Path(found).name


def test_a_run_that_goes_on_from_an_earlier_step_is_not_resumed_from_later_ones(copied, caplog):
    """As after a training that went wrong: step 2 is taken up with another learning rate."""
    first = run_of(copied / "checkpoint-1")
    again = trainer(copied, **{**SETTINGS, "save_steps": 3, "max_steps": 3, "learning_rate": 1e-4})
    shutil.rmtree(copied / "checkpoint-3")
    chosen = str(copied / "checkpoint-2")
    again.chooser.begin_run(chosen)
    assert "never resumed from later checkpoints that are there already (checkpoint-4)" in caplog.text
    assert newest(copied) == "checkpoint-2", "killed before its first save, it starts there again"
    again.train(resume_from_checkpoint=chosen)
    assert newest(copied) == "checkpoint-3"
    assert run_of(copied / "checkpoint-3") not in (None, first)
    assert f"{copied / 'checkpoint-4'} is of an earlier run" in caplog.text
    # And the same once more, from the second branch.
    third = trainer(copied, **{**SETTINGS, "save_strategy": "no"})
    assert third.train(resume_from_checkpoint=True).global_step == 4
    assert third.state.log_history[0]["step"] == 1
    assert newest(copied) == "checkpoint-3"
    assert json.loads((copied / RUN_NAME).read_text())["from"] == [[first, 2]]


def test_a_resume_from_the_newest_is_the_same_run(copied):
    run = trainer(copied, **{**SETTINGS, "max_steps": 5})
    run.train(resume_from_checkpoint=True)
    assert {run_of(path) for path in copied.glob("checkpoint-*")} == {run_of(copied / "checkpoint-1")}
    assert not (copied / RUN_NAME).exists()
    assert newest(copied) == "checkpoint-5"


def test_a_run_in_the_folder_of_another_is_not_resumed_from_it(copied, saved):
    """A checkpoint that is taken from another folder, into a folder with checkpoints of later steps."""
    source = copied.parent / "source"
    trainer(source, **{**SETTINGS, "max_steps": 2}).train()
    run = trainer(copied, **{**SETTINGS, "max_steps": 3, "save_strategy": "no"})
    run.train(resume_from_checkpoint=str(source / "checkpoint-2"))
    assert newest(copied) is None


def test_a_damaged_later_checkpoint_makes_no_new_run(copied, caplog):
    weights = copied / "checkpoint-4" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    trainer(copied, **SETTINGS).train(resume_from_checkpoint=True)
    assert run_of(copied / "checkpoint-4") == run_of(copied / "checkpoint-1")
    assert "later checkpoints" not in caplog.text


def test_a_new_run_is_told_how_to_go_on_with_the_earlier_one(copied, caplog):
    trainer(copied, **{**SETTINGS, "save_strategy": "no", "max_steps": 1}).train()
    (warning,) = [message for message in caplog.messages if "earlier run" in message]
    assert warning.endswith(f"pass resume_from_checkpoint={str(copied / 'checkpoint-4')!r}")


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"run": "a", "from": 3}', '{"run": "a", "from": [["b"]]}'])
def test_a_damaged_note_is_named_and_replaced(copied, note, caplog):
    (copied / RUN_NAME).write_text(note)
    with pytest.raises(ValueError, match=r"chartqa_run\.json is damaged .*: delete it, and resume from a checkpoint"):
        trainer(copied, **SETTINGS).train(resume_from_checkpoint=True)
    trainer(copied, **SETTINGS).train(resume_from_checkpoint=str(copied / "checkpoint-3"))
    assert newest(copied) == "checkpoint-4"


def test_lineages():
    lineage = Lineage("c", (("a", 4), ("b", 7)))
    assert [lineage.has("b", step) for step in (7, 8)] == [True, False]
    assert lineage.until("c", 9) == lineage
    assert lineage.until("b", 6) == Lineage("b", (("a", 4),))
    assert lineage.until("a", 2) == Lineage("a", ())
    assert lineage.until("other", 2) == Lineage("other", ())
    assert lineage.until("b", 6).branched("d", 6) == Lineage("d", (("a", 4), ("b", 6)))
    assert Lineage(noted=False).has("any", 3)
