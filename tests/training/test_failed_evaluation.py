"""An error in an evaluation of the training loop costs no step: it is saved, and the error says where."""

from __future__ import annotations

import pytest
import torch
from transformers import TrainerCallback

from chartqa_ft.training.checkpoints import find_damage

from ..support.common import drawn_charts, trainer

SETTINGS = {"max_steps": 4, "eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 4}
SAVED = r"Step 2 is saved in .*checkpoint-2: correct it, and go on with resume_from_checkpoint=True"


class TrackerError(Exception):
    """An error that is not made from a message alone."""

    def __init__(self, code: int, url: str) -> None:
        super().__init__(f"{code} at {url}")


class Fails(TrainerCallback):
    def __init__(self, hook: str, error: Exception) -> None:
        setattr(self, hook, self.fail)
        self.error = error

    def fail(self, args, state, control, **kwargs):
        if state.global_step == 2:
            raise self.error


def test_an_image_that_cannot_be_decoded_costs_no_step(tmp_path):
    records = [dict(record) for record in drawn_charts().select(range(4))]
    records[3]["image"] = b"\x89PNG no picture"
    run = trainer(tmp_path, eval_dataset=records, **SETTINGS)
    with pytest.raises(ValueError, match=f"the image cannot be decoded .*{SAVED}"):
        run.train()
    assert find_damage(tmp_path / "checkpoint-2") is None
    whole = trainer(tmp_path / "whole", eval_dataset=records[:3], **SETTINGS)
    whole.train()
    again = trainer(tmp_path, eval_dataset=records[:3], **SETTINGS)
    again.train(resume_from_checkpoint=True)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], weight), name


@pytest.mark.parametrize("hook", ["on_evaluate", "on_log"])
def test_an_error_of_a_callback_keeps_its_type(tmp_path, hook):
    run = trainer(
        tmp_path,
        eval_dataset=drawn_charts().select(range(3)),
        callbacks=[Fails(hook, ConnectionError("the tracker is away"))],
        logging_strategy="no",
        **SETTINGS,
    )
    with pytest.raises(ConnectionError, match=rf"the tracker is away\. {SAVED}"):
        run.train()
    assert find_damage(tmp_path / "checkpoint-2") is None


def test_an_error_that_takes_no_message_stays_and_gets_a_note(tmp_path):
    error = TrackerError(503, "wandb")
    run = trainer(
        tmp_path, eval_dataset=drawn_charts().select(range(3)), callbacks=[Fails("on_evaluate", error)], **SETTINGS
    )
    with pytest.raises(TrackerError, match="503 at wandb") as caught:
        run.train()
    assert caught.value is error
    assert any("Step 2 is saved in" in note for note in error.__notes__)


def test_a_name_that_is_too_long_for_a_file_costs_no_step(tmp_path):
    run = trainer(tmp_path, eval_dataset={"x" * 260: drawn_charts().select(range(3))}, **SETTINGS)
    with pytest.raises(OSError, match=r"eval_x+-step-2.*Step 2 is saved in"):
        run.train()


def test_a_step_that_cannot_be_saved_leaves_the_error_of_the_evaluation(tmp_path, monkeypatch):
    error = ConnectionError("the tracker is away")
    run = trainer(
        tmp_path, eval_dataset=drawn_charts().select(range(3)), callbacks=[Fails("on_evaluate", error)], **SETTINGS
    )
    monkeypatch.setattr(run.saver, "save", lambda *args: 1 / 0)
    with pytest.raises(ConnectionError) as caught:
        run.train()
    assert caught.value.__notes__ == ["Step 2 could not be saved (ZeroDivisionError: division by zero)"]


@pytest.mark.parametrize("hook", ["on_step_end", "on_optimizer_step"])
def test_an_error_outside_an_evaluation_saves_nothing(tmp_path, hook):
    """The step may be half done."""
    failing = Fails(hook, ConnectionError("away"))
    run = trainer(tmp_path, eval_dataset=drawn_charts().select(range(3)), callbacks=[failing], **SETTINGS)
    with pytest.raises(ConnectionError, match=r"^away$"):
        run.train()
    assert not list(tmp_path.glob("checkpoint-*"))
