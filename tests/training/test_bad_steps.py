"""A loss, gradients or weights of NaN or infinity stop the run, and are neither saved nor the best."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from chartqa_ft import ChartQATrainer, default_lora_config
from chartqa_ft.training.arguments import ChartQATrainingArguments
from chartqa_ft.training.bad_steps import BadSteps, DivergedError, never_best, spoil_gradients
from chartqa_ft.training.callbacks import CheckUnusedLora
from chartqa_ft.training.checkpoints import last_checkpoint

from ..support.common import arguments, drawn_charts, tiny, trainer

SETTINGS = {
    "max_steps": 5,
    "per_device_train_batch_size": 2,
    "save_strategy": "steps",
    "save_steps": 1,
    "logging_steps": 1,
}


class SpoilGradient(TrainerCallback):
    """Puts a value into the gradient of one weight at the end of the backward pass of some steps."""

    def __init__(self, value: float, *steps: int):
        self.value, self.steps = value, steps

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        weight = next(weight for weight in model.parameters() if weight.requires_grad)

        def spoil(gradient):
            return torch.full_like(gradient, self.value) if state.global_step + 1 in self.steps else gradient

        self.hook = weight.register_hook(spoil)

    def on_train_end(self, args, state, control, **kwargs):
        self.hook.remove()


class Poisoned:
    """The training collator, which makes one chart of one of its batches NaN."""

    def __init__(self, collator: Any, batch: int):
        self.collator, self.bad, self.made, self.rows = collator, batch, 0, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.collator, name)

    def __call__(self, records):
        batch = self.collator(records)
        self.made += 1
        if self.made == self.bad:
            batch["pixel_values"] = batch["pixel_values"].float()
            batch["pixel_values"][:] = math.nan
            self.rows = batch["rows"]
        return batch


def poison(run, batch: int) -> Poisoned:
    collator = run._collators["train"]
    collator.raw_charts = False
    run._collators["train"] = Poisoned(collator, batch)
    return run._collators["train"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("max_grad_norm", [0.0, 1.0])
def test_bad_gradients_stop_the_run_before_the_update(tmp_path, value, max_grad_norm):
    run = trainer(tmp_path, callbacks=[SpoilGradient(value, 3)], max_grad_norm=max_grad_norm, **SETTINGS)
    with pytest.raises(DivergedError, match=r"diverged at step 3: the gradient norm is (nan|inf)") as caught:
        run.train()
    assert run.state.global_step == 2
    assert all(weight.isfinite().all() for weight in run.model.parameters())
    assert str(caught.value).count(str(tmp_path / "checkpoint-2")) == 1
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
    assert not (tmp_path / "checkpoint-3").exists()
    assert not run.is_in_train
    assert trainer(tmp_path, **SETTINGS).train(resume_from_checkpoint=True).global_step == 5


@pytest.mark.parametrize("lora", [False, True])
def test_a_bad_chart_is_named(tmp_path, lora):
    model, _ = tiny()
    peft_config = default_lora_config(model, r=2) if lora else None
    run = trainer(tmp_path, model=model, peft_config=peft_config, gradient_accumulation_steps=2, **SETTINGS)
    collator = poison(run, 3)
    with pytest.raises(DivergedError) as caught:
        run.train()
    assert "diverged at step 2" in str(caught.value)
    assert len(collator.rows) == 2
    text = str(caught.value)
    for row in collator.rows:
        assert f"{row['index']} (chart_id {row['chart_id']!r}, {row['question']!r})" in text
    assert text.count("(chart_id ") == 2, "the other batch of the step is not named"


def test_weights_that_are_bad_from_the_start_are_named(tmp_path):
    model, _ = tiny()
    name, weight = next((name, weight) for name, weight in model.named_parameters() if weight.dim() > 1)
    with torch.no_grad():
        weight.fill_(math.inf)
    with pytest.raises(DivergedError, match="diverged at step 1") as caught:
        trainer(tmp_path, model=model, **SETTINGS).train()
    assert f"Weights that are not finite: {name}" in str(caught.value)
    assert last_checkpoint(tmp_path) is None


def test_weights_that_overflow_in_the_update_are_not_saved(tmp_path):
    spoil = SpoilGradient(1e10, 1)  # finite, and so is the norm
    run = trainer(tmp_path, learning_rate=1e38, optim="sgd", callbacks=[spoil], **{**SETTINGS, "max_steps": 1})
    with pytest.raises(DivergedError, match="diverged at step 1: weights are not finite"):
        run.train()
    assert last_checkpoint(tmp_path) is None
    assert not list(tmp_path.glob("checkpoint-*/model.safetensors"))


def test_bad_steps_that_are_allowed_change_nothing_and_are_counted(tmp_path, caplog):
    settings = {**SETTINGS, "lr_scheduler_type": "constant"}
    run = trainer(tmp_path, callbacks=[SpoilGradient(math.nan, 2, 4)], max_bad_steps=2, **settings)
    weights = []

    class Watch(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            weights.append(torch.cat([weight.detach().flatten() for weight in model.parameters()]))

    run.add_callback(Watch())
    run.train()
    assert [torch.equal(a, b) for a, b in pairwise(weights)] == [True, False, True, False]
    assert run.state.stateful_callbacks["bad_steps"] == {"count": 2}
    assert "step 2 is skipped" in caplog.text
    assert "step 4 is skipped, since its gradient norm is nan (2 of max_bad_steps=2)" in caplog.text
    losses = [entry["loss"] for entry in run.state.log_history if "loss" in entry]
    assert losses[1] == losses[3] == 0.0, "the losses of skipped steps are left out"
    assert math.isfinite(run.state.log_history[-1]["train_loss"])


def test_a_bad_first_step_of_lora_is_skipped_too(tmp_path):
    model, _ = tiny()
    lora, settings = default_lora_config(model, r=2), {**SETTINGS, "max_steps": 2}
    spoil = SpoilGradient(math.nan, 1)
    run = trainer(tmp_path, model=model, peft_config=lora, callbacks=[spoil], max_bad_steps=1, **settings)
    run.train()
    assert run.state.stateful_callbacks["bad_steps"] == {"count": 1}
    (check,) = [callback for callback in run.callback_handler.callbacks if isinstance(callback, CheckUnusedLora)]
    assert check.checked


def test_a_skipped_step_is_left_out_of_the_loss_of_a_subclass_too(tmp_path):
    class Own(ChartQATrainer):
        def compute_loss(self, *args, **kwargs):
            loss = super().compute_loss(*args, **kwargs)
            return loss * math.nan if self.state.global_step == 1 else loss

    model, processor = tiny()
    args = arguments(tmp_path, max_bad_steps=1, **SETTINGS)
    run = Own(model, args, train_dataset=drawn_charts(), processing_class=processor)
    run.train()
    assert run.state.stateful_callbacks["bad_steps"] == {"count": 1}
    losses = [entry["loss"] for entry in run.state.log_history if "loss" in entry]
    assert losses[1] == 0.0
    assert all(loss > 1 for loss in losses[:1] + losses[2:])
    assert run.state.log_history[-1]["train_loss"] == pytest.approx(sum(losses) / 5, rel=1e-6)


def test_one_bad_step_more_than_allowed_stops_the_run_also_after_a_resume(tmp_path):
    settings = {**SETTINGS, "max_bad_steps": 1}
    trainer(tmp_path, callbacks=[SpoilGradient(math.inf, 2)], **{**settings, "max_steps": 3}).train()
    again = trainer(tmp_path, callbacks=[SpoilGradient(math.inf, 4)], **settings)
    with pytest.raises(DivergedError, match="diverged at step 4"):
        again.train(resume_from_checkpoint=True)


def test_a_loss_of_nan_with_finite_gradients_stops_the_run(tmp_path):
    run = trainer(tmp_path, **SETTINGS)
    old = run.running_loss.add
    run.running_loss.add = lambda loss, tokens: old(loss * math.nan if run.state.global_step == 2 else loss, tokens)
    with pytest.raises(DivergedError, match="step 3: the loss since the last log is nan"):
        run.train()
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("allowed", [0, 1])
def test_a_loss_that_is_not_finite_is_noticed_at_its_step_though_its_gradients_are_finite(tmp_path, value, allowed):
    settings = {**SETTINGS, "logging_steps": 100, "save_steps": 100, "gradient_accumulation_steps": 2}
    run = trainer(tmp_path, max_bad_steps=allowed, **settings)
    old, batches = run.answer_loss, []

    def loss(model, inputs):
        losses, outputs = old(model, inputs)
        batches.append(inputs["rows"])
        constant = torch.full((1,), value if len(batches) == 3 else 0.0)
        return torch.cat([losses, constant]), outputs

    run.answer_loss = loss
    if not allowed:
        with pytest.raises(DivergedError, match="diverged at step 2: the gradient norm is nan") as caught:
            run.train()
        assert all(f"{row['index']} (chart_id" in str(caught.value) for row in batches[2])
        assert run.state.global_step == 1
    else:
        run.train()
        assert run.state.stateful_callbacks["bad_steps"] == {"count": 1}
    assert all(weight.isfinite().all() for weight in run.model.parameters())


@pytest.mark.parametrize("value", [3.7, 1e-30, -0.0, 1e30])
def test_gradients_of_a_finite_loss_stay_as_they_are(value):
    weights = [torch.tensor([value, 1 / 3], requires_grad=True) for _ in range(2)]
    losses = [weight.sin().sum() * value for weight in weights]
    spoilt = spoil_gradients(losses[1])
    assert torch.equal(spoilt, losses[0])
    losses[0].backward()
    spoilt.backward()
    assert torch.equal(weights[0].grad, weights[1].grad)


def test_the_last_update_is_checked_though_nothing_is_saved(tmp_path):
    settings = {"max_steps": 1, "learning_rate": 1e38, "optim": "sgd"}
    run = trainer(tmp_path, callbacks=[SpoilGradient(1e10, 1)], **settings)
    with pytest.raises(DivergedError, match="diverged at step 1: weights are not finite"):
        run.train()


def test_a_running_mean_of_nan_is_not_saved(tmp_path):
    """Frozen weights and buffers take no part in the gradient norm."""
    run = trainer(tmp_path, **SETTINGS)
    run.model.register_buffer("running_mean", torch.tensor([0.0, math.nan]))
    with pytest.raises(DivergedError, match="Weights that are not finite: running_mean"):
        run.train()
    assert last_checkpoint(tmp_path) is None


def test_a_damaged_note_of_runs_does_not_hide_the_error(tmp_path):
    run = trainer(tmp_path, callbacks=[SpoilGradient(math.nan, 2)], **SETTINGS)

    class Damage(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            (tmp_path / "chartqa_run.json").write_text("")

    run.add_callback(Damage())
    with pytest.raises(DivergedError, match="diverged at step 2"):
        run.train()


def test_overflows_that_the_loss_scaler_skips_do_not_count():
    args = ChartQATrainingArguments("out", use_cpu=True)
    state = SimpleNamespace(stateful_callbacks={}, global_step=0)
    for scaler, stops in ((object(), False), (None, True)):
        bad = BadSteps(args, SimpleNamespace(scaler=scaler), SimpleNamespace(begin_step=lambda: None))
        bad.on_step_begin(args, state, None)
        if stops:
            with pytest.raises(DivergedError, match="step 1: the gradient norm is inf"):
                bad.gradient_norm(torch.tensor(math.inf), torch.nn.Linear(1, 1), state)
        else:
            bad.gradient_norm(torch.tensor(math.inf), torch.nn.Linear(1, 1), state)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"max_bad_steps": -1}, "max_bad_steps must be a whole number of at least 0, got -1")],
)
def test_values_that_mean_nothing_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, **changes)


@pytest.mark.parametrize(
    ("metric", "metrics", "best"),
    [
        ("loss", {"eval_loss": math.nan}, math.nan),
        ("loss", {"eval_loss": -math.inf}, math.nan),
        ("relaxed_accuracy", {"eval_loss": math.inf, "eval_relaxed_accuracy": 0.5}, math.nan),
        ("eval_b_relaxed_accuracy", {"eval_a_loss": math.nan, "eval_b_relaxed_accuracy": 0.5}, 0.5),
        ("b_relaxed_accuracy", {"eval_b_loss": math.nan, "eval_b_relaxed_accuracy": 0.5}, math.nan),
        ("relaxed_accuracy", {"eval_loss": 1.0, "eval_relaxed_accuracy": 0.0}, 0.0),
    ],
)
def test_an_evaluation_that_is_not_finite_is_never_the_best(metric, metrics, best, caplog):
    args = ChartQATrainingArguments("out", use_cpu=True, metric_for_best_model=metric)
    found = never_best(metrics, args)
    name = f"eval_{metric.removeprefix('eval_')}"
    assert found[name] == best or (math.isnan(best) and math.isnan(found[name]))
    assert {**found, name: metrics[name]} == metrics
    assert ("is not taken for the best" in caplog.text) == math.isnan(best)


def test_a_run_keeps_the_best_of_its_finite_evaluations(tmp_path):
    charts = drawn_charts().select(range(2))
    run = trainer(
        tmp_path,
        eval_dataset=charts,
        eval_strategy="steps",
        eval_steps=1,
        load_best_model_at_end=True,
        metric_for_best_model="relaxed_accuracy",
        **{**SETTINGS, "max_steps": 2},
    )
    step = run.evaluator.scored

    def scored(output, *args, **kwargs):
        done = step(output, *args, **kwargs)
        if run.state.global_step == 1:
            done.metrics["eval_loss"] = math.nan
        return done

    run.evaluator.scored = scored
    run.train()
    assert run.state.best_global_step == 2
    assert Path(run.state.best_model_checkpoint).name == "checkpoint-2"
