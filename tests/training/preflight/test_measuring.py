"""A measured step: what it tells, what it changes (nothing), and where it is refused."""

from __future__ import annotations

import random
from datetime import datetime

import numpy as np
import pytest
import torch

from chartqa_ft import ChartQATrainer, default_lora_config
from chartqa_ft.training.preflight import measuring
from chartqa_ft.training.preflight.facts import measured_step
from chartqa_ft.training.preflight.measuring import MeasuredStep, refuse_measuring

from ...support.common import arguments, drawn_charts, tiny, trainer
from ...support.family_cases import ready

STEP = MeasuredStep(
    rows=4,
    read_seconds=1.0,
    compute_seconds=3.0,
    batches=2,
    steps=3000,
    reads_beside=False,
    peak_bytes=3 * 2**30,
    total_bytes=16 * 2**30,
)


def test_a_step_as_text():
    assert str(STEP) == (
        "a step takes 8 s (2 x 4 questions on this process: 1 s to read a batch, 3 s to compute its gradients) and "
        "3.0 of 16.0 GiB of memory, without the optimizer's states"
    )
    assert STEP.run_seconds == 24_000
    assert STEP.end(datetime(2026, 11, 28, 20, 0)) == (
        "3,000 steps take about 6.7 hours, until 2026-11-29 02:40, without evaluations and saves"
    )


def test_workers_read_while_a_step_is_computed():
    values = {**vars(STEP), "reads_beside": True}
    assert MeasuredStep(**values).step_seconds == 6.0
    assert MeasuredStep(**{**values, "read_seconds": 5.0}).step_seconds == 10.0


def test_a_stream_has_no_end():
    endless = MeasuredStep(**{**vars(STEP), "steps": None, "peak_bytes": None})
    assert endless.run_seconds is None
    assert endless.end(datetime(2026, 1, 1)) is None
    assert "memory" not in str(endless)


def with_dropout(model):
    """The model with dropout, so that its losses depend on the random state."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.3
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.3
    return model


def weights_after(folder, *, measured: bool, **changes):
    model, _ = tiny()
    own = {"peft_config": default_lora_config(model, r=2, lora_dropout=0.3)} if changes.pop("lora", False) else {}
    run = trainer(
        folder, model=with_dropout(model), max_steps=3, eval_dataset=drawn_charts(2, seed=8), **own, **changes
    )
    if measured:
        names = [finding.name for finding in run.check(measure=True).findings]
        assert {"step", "max_steps"} <= set(names)
    run.train()
    state = run.optimizer.state_dict()["state"]
    moments = [value for entry in state.values() for value in entry.values()]
    return [*run.model.state_dict().values(), *moments], [entry.get("loss") for entry in run.state.log_history]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"lora": True},
        {"activation_checkpointing": True},
        {"gradient_accumulation_steps": 2, "dataloader_num_workers": 1, "random_padding": True},
        {"bf16": True},
    ],
    ids=["full", "lora", "activation checkpointing", "accumulation and workers", "bf16"],
)
def test_a_training_after_it_is_the_same_to_the_bit(tmp_path, changes):
    weights, losses = weights_after(tmp_path / "a", measured=False, **changes)
    same_weights, same_losses = weights_after(tmp_path / "b", measured=True, **changes)
    assert losses == same_losses
    assert len(weights) == len(same_weights)
    assert all(torch.equal(one, two) for one, two in zip(weights, same_weights, strict=True))


@pytest.mark.parametrize("family", ["qwen2_5_vl", "florence2", "pix2struct"])
def test_nothing_changes_in_other_families(tmp_path, family):
    model, adapter = ready(family)
    run = ChartQATrainer(
        model.eval(), arguments(tmp_path, activation_checkpointing=True), drawn_charts(), adapter=adapter
    )
    state = {name: value.clone() for name, value in run.model.state_dict().items()}
    attributes = {name: dict(vars(module)) for name, module in run.model.named_modules()}
    hooks = {name: len(module._forward_pre_hooks) for name, module in run.model.named_modules()}
    drawn = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    step = measured_step(run)
    assert step.compute_seconds > 0
    assert step.rows == 4
    assert all(torch.equal(value, state[name]) for name, value in run.model.state_dict().items())
    assert all(weight.grad is None for weight in run.model.parameters())
    for name, module in run.model.named_modules():
        assert vars(module).keys() == attributes[name].keys()
        assert all(vars(module)[key] is value for key, value in attributes[name].items())
        assert len(module._forward_pre_hooks) == hooks[name]
    assert random.getstate() == drawn[0]
    assert np.random.get_state()[1].tolist() == drawn[1]
    assert torch.equal(torch.get_rng_state(), drawn[2])


def test_activation_checkpointing_is_part_of_the_measured_step(tmp_path, monkeypatch):
    on = []
    real = measuring._timed_pass

    def timed(run, batch, device):
        on.append(run.model.is_gradient_checkpointing)
        return real(run, batch, device)

    monkeypatch.setattr(measuring, "_timed_pass", timed)
    run = trainer(tmp_path, activation_checkpointing=True)
    measured_step(run)
    assert on == [True, True]
    assert not run.model.is_gradient_checkpointing


def test_a_long_pass_is_measured_once(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "_timed_pass", lambda *_: 60.0)
    step = measured_step(trainer(tmp_path))
    assert step.compute_seconds == 60.0


class OwnLoss(ChartQATrainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        raise AssertionError("is not called")


class OwnStep(ChartQATrainer):
    def training_step(self, *args, **kwargs):
        raise AssertionError("is not called")


@pytest.mark.parametrize("kind", [OwnLoss, OwnStep])
def test_steps_of_subclasses_are_not_measured(tmp_path, kind):
    model, processor = tiny()
    run = kind(model, arguments(tmp_path), drawn_charts(), processing_class=processor)
    found = {finding.name: finding for finding in run.check(measure=True).findings}
    assert found["step"].message == "no step was measured: this subclass of the trainer computes a step in its own way"
    assert measured_step(run) is None


def test_hooks_on_gradients_are_not_run(tmp_path):
    run = trainer(tmp_path)
    name, weight = next(iter(run.model.named_parameters()))
    weight.register_post_accumulate_grad_hook(lambda weight: weight.data.zero_())
    assert refuse_measuring(run) == f"{name} has a hook on its gradient, which could update it"
    assert measured_step(run) is None


@pytest.mark.parametrize("name", ["is_deepspeed_enabled", "is_fsdp_enabled"])
def test_split_models_are_not_measured(tmp_path, name):
    run = trainer(tmp_path)
    setattr(run, name, True)
    assert refuse_measuring(run) == "DeepSpeed and FSDP split the model only when the training begins"


def test_a_step_that_does_not_fit_into_memory_is_a_warning(tmp_path, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(measuring, "_timed_pass", full)
    run = trainer(tmp_path)
    (warning,) = run.check(measure=True).warnings
    assert warning.name == "per_device_train_batch_size"
    assert warning.message.startswith("a batch of 4 questions does not fit into the memory of the GPU")
    assert measured_step(run) is None
    assert all(weight.grad is None for weight in run.model.parameters())
