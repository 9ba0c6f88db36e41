"""The reported loss is a mean over tokens, also after a resume from the last complete checkpoint."""

from __future__ import annotations

import pytest
import torch

from chartqa_ft.training.running_loss import RunningLoss, last_checkpoint

from ..support.common import trainer


def test_running_loss_is_a_mean_over_tokens():
    class OneProcess:
        device = torch.device("cpu")

        @staticmethod
        def reduce(value, reduction):
            assert reduction == "sum"
            return value

    loss = RunningLoss(OneProcess())
    loss.add(torch.tensor(6.0), torch.tensor(3))
    loss.add(torch.tensor(2.0), torch.tensor(1))
    assert loss.since_last_log() == 2.0
    loss.add(torch.tensor(5.0), torch.tensor(1))
    assert loss.since_last_log() == 5.0
    assert loss.since_start() == 2.6
    assert loss.since_last_log() == 0.0


def test_running_loss_goes_on_after_a_resume(tmp_path):
    settings = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3, "logging_steps": 4, "random_padding": True}
    unbroken = trainer(tmp_path / "a", **settings)
    wanted = unbroken.train()
    resumed = trainer(tmp_path / "a", **settings)
    output = resumed.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-3"))
    assert output.training_loss == wanted.training_loss
    losses = [[entry["loss"] for entry in r.state.log_history if "loss" in entry] for r in (unbroken, resumed)]
    assert losses[0] == losses[1]
    for name, parameter in unbroken.model.state_dict().items():
        assert torch.equal(parameter, resumed.model.state_dict()[name]), name


def test_unfinished_checkpoints_are_passed_over(tmp_path, caplog):
    assert last_checkpoint(tmp_path) is None
    for step, finished in ((5, True), (20, True), (100, False)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if finished:
            (tmp_path / f"checkpoint-{step}" / "chartqa_state.json").write_text("{}")
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-20")
    assert "checkpoint-100 was not written to its end" in caplog.text
    with pytest.raises(ValueError, match="no complete checkpoint in"):
        trainer(tmp_path / "empty").train(resume_from_checkpoint=True)
