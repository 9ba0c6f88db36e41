"""A resumed run compares its evaluations by its own metric, and not with a value of another one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from transformers import EarlyStoppingCallback, TrainerState

from chartqa_ft.training.best_metric import check_compared_metric

from ..support.common import scored_trainer


def made(folder, scores, **changes):
    settings = {"save_steps": 1, "metric_for_best_model": "own", **changes}
    return scored_trainer(folder, scores, metric="own", **settings)


@pytest.mark.parametrize(
    ("changes", "best"),
    [
        ({"metric_for_best_model": "own", "greater_is_better": False}, 4),
        ({"metric_for_best_model": "loss"}, None),
    ],
)
def test_the_best_of_another_metric_is_forgotten(tmp_path, changes, best, caplog):
    """Accuracies 0.2, 0.3, then 0.5, 0.1: neither 0.3 nor its direction counts for another metric."""
    made(tmp_path, (0.2, 0.3), max_steps=2).train()
    run = made(tmp_path, (0.5, 0.1), max_steps=4, callbacks=[EarlyStoppingCallback(2)], **changes)
    run.train(resume_from_checkpoint=True)
    assert run.state.global_step == 4
    assert caplog.text.count("whose values say nothing about") == 1
    if best is None:
        losses = {step: run.scores[step].metrics["eval_loss"] for step in (3, 4)}
        best = min(losses, key=losses.__getitem__)
        assert run.state.best_metric == losses[best]
    assert run.weights_step == run.state.best_global_step == best


def test_the_best_of_the_same_metric_stays(tmp_path, caplog):
    made(tmp_path, (0.2, 0.3), max_steps=2).train()
    run = made(tmp_path, (0.1, 0.1), max_steps=4, metric_for_best_model="eval_own")
    run.train(resume_from_checkpoint=True)
    assert (run.state.best_metric, run.weights_step) == (0.3, 2)
    assert "whose values say nothing about" not in caplog.text


def test_a_schedule_that_follows_the_metric_cannot_follow_another(tmp_path):
    schedule = {"lr_scheduler_type": "reduce_lr_on_plateau"}
    made(tmp_path, (0.2,), max_steps=1, **schedule).train()
    with pytest.raises(ValueError, match=r"follows metric_for_best_model='own' .* and cannot go on with 'loss'"):
        made(tmp_path, (0.2,), max_steps=2, metric_for_best_model="loss", **schedule).train(
            resume_from_checkpoint=True
        )


def test_a_checkpoint_that_does_not_say_its_metric_is_taken_as_it_is(tmp_path):
    """Those of earlier releases, and of other trainers."""
    state = TrainerState(best_metric=0.5, best_global_step=2)
    args = SimpleNamespace(metric_for_best_model="loss", greater_is_better=False, lr_scheduler_type="linear")
    for content in (None, "{}"):
        if content is not None:
            (tmp_path / "chartqa_state.json").write_text(content)
        check_compared_metric(args, state, tmp_path)
        assert state.best_metric == 0.5
