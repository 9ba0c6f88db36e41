"""After a resume, an optimizer has the settings of the arguments, and the same ones as before change nothing."""

from __future__ import annotations

import pytest

from ..support.common import drawn_charts, tiny, trainer


def rates(run):
    return [entry["learning_rate"] for entry in run.state.log_history if "learning_rate" in entry]


def start(folder, **changes):
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "logging_steps": 1, "learning_rate": 1e-2}
    model, _ = tiny()
    return trainer(folder, model, records=drawn_charts(), **{**settings, "lr_scheduler_type": "linear", **changes})


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_a_new_learning_rate_is_used_with_the_schedule_of_the_old_one(tmp_path, schedule, caplog):
    whole = start(tmp_path, lr_scheduler_type=schedule)
    whole.train()
    again = start(tmp_path, lr_scheduler_type=schedule, learning_rate=1e-4, weight_decay=0.03)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert rates(again)[-2:] == pytest.approx([rate / 100 for rate in rates(whole)[-2:]], rel=1e-9)
    assert again.optimizer.param_groups[0]["weight_decay"] == 0.03
    assert "learning rate: 0.0001 of the arguments is used in place of 0.01, which the resumed run had" in caplog.text
    assert "weight_decay: 0.03 of the arguments is used" in caplog.text


def test_the_same_settings_change_nothing_and_say_nothing(tmp_path, caplog):
    whole = start(tmp_path)
    whole.train()
    again = start(tmp_path)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert rates(again) == rates(whole)
    assert "of the arguments is used in place of" not in caplog.text
    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert one.equal(other)


def test_the_rate_of_a_part_is_that_of_the_arguments_too(tmp_path):
    start(tmp_path, learning_rates={"language": 3e-3}).train()
    again = start(tmp_path, learning_rates={"language": 3e-6})
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    own = [entry["learning_rate_language"] for entry in again.state.log_history if "learning_rate_language" in entry]
    assert own == pytest.approx([3e-3 * 3 / 4, 3e-3 * 2 / 4, 3e-6 * 1 / 4, 0.0])


@pytest.mark.parametrize(
    ("first", "then", "lacks"), [("sgd", "adamw_torch", "betas"), ("adamw_torch", "sgd", "momentum")]
)
def test_the_states_of_another_optimizer_are_refused_before_the_next_step(tmp_path, first, then, lacks):
    start(tmp_path, optim=first).train()
    again = start(tmp_path, optim=then)
    said = rf"checkpoint-2 cannot be loaded: .* optimizer, freeze or .*they lack .*{lacks}"
    with pytest.raises(ValueError, match=said):
        again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert again.state.global_step == 2


@pytest.mark.parametrize("then", ["adamw_torch_fused", "adamw_torch"])
def test_another_implementation_and_another_schedule_take_the_states(tmp_path, then):
    """A schedule such as reduce_lr_on_plateau leaves no initial_lr in the states."""
    records = drawn_charts().select(range(2))
    more = {"lr_scheduler_type": "reduce_lr_on_plateau", "metric_for_best_model": "loss", "eval_steps": 2}
    model, _ = tiny()
    settings = {"max_steps": 2, "save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", **more}
    trainer(tmp_path, model, eval_dataset=records, optim="adamw_torch", **settings).train()
    (tmp_path / "checkpoint-2" / "scheduler.pt").unlink()
    (tmp_path / "checkpoint-2" / "chartqa_state.json").unlink()
    again = start(tmp_path, optim=then, allow_inexact_resume=True)
    assert again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2")).global_step == 4
