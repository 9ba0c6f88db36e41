"""Every family goes on from its own checkpoint: resumed, and with the best weights at the end."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from chartqa_ft.adapters import base_model
from chartqa_ft.files import read_json
from chartqa_ft.training.checkpoints import STATE_NAME, mark_checkpoint

from ..support.families import records
from ..support.family_cases import ALL, ready, run_of

SAVING = {"save_strategy": "steps", "save_steps": 1, "learning_rate": 1e-2}


def weights(run) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in base_model(run.model).state_dict().items()}


class Begin(TrainerCallback):
    """Keeps the weights with which training begins."""

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.weights = {name: weight.detach().clone() for name, weight in base_model(model).state_dict().items()}


def run_in(folder: Path, family: str, **changes):
    model, adapter = ready(family)
    return run_of(folder, model, adapter, records(2), **SAVING, **changes)


@pytest.mark.parametrize("family", ALL)
def test_a_resumed_run_begins_with_the_weights_of_its_checkpoint(tmp_path, family):
    first = run_in(tmp_path, family, max_steps=1)
    before = weights(first)
    first.train()
    saved = weights(first)
    assert any(not torch.equal(before[name], saved[name]) for name in saved)
    second = run_in(tmp_path, family, max_steps=2)
    begin = Begin()
    second.add_callback(begin)
    second.train(resume_from_checkpoint=True)
    assert begin.weights.keys() == saved.keys()
    assert all(torch.equal(begin.weights[name], saved[name]) for name in saved)


@pytest.mark.parametrize("family", ["llava", "trocr", "unichart"])
def test_the_best_weights_are_those_of_their_checkpoint(tmp_path, family):
    best = {"eval_strategy": "steps", "eval_steps": 1, "load_best_model_at_end": True}
    run = run_in(tmp_path, family, max_steps=2, metric_for_best_model="loss", greater_is_better=True, **best)
    steps: dict[int, dict] = {}

    class Keep(TrainerCallback):
        def on_save(self, args, state, control, model=None, **kwargs):
            steps[state.global_step] = {n: w.detach().clone() for n, w in base_model(model).state_dict().items()}

    run.add_callback(Keep())
    run.train()
    wanted = steps[run.state.best_global_step]
    assert run.state.best_global_step == 1  # the larger loss
    assert all(torch.equal(wanted[name], weight) for name, weight in weights(run).items())


@pytest.mark.parametrize("family", ["llava", "unichart"])
def test_a_checkpoint_that_lacks_weights_is_not_resumed(tmp_path, family):
    run_in(tmp_path, family, max_steps=1).train()
    file = tmp_path / "checkpoint-1" / "model.safetensors"
    stored = load_file(file)
    gone = next(name for name in stored if name.endswith("fc1.weight"))
    del stored[gone]
    save_file(stored, file, metadata={"format": "pt"})
    run = run_in(tmp_path, family, max_steps=2)
    with pytest.raises(ValueError, match=r"checkpoint-1 is damaged: model\.safetensors has"):
        run.train(resume_from_checkpoint=str(file.parent))
    mark_checkpoint(file.parent, read_json(file.parent / STATE_NAME))  # as if it had been saved like that
    with pytest.raises(ValueError, match=r"checkpoint-1 lacks 1 weight of the model.*fc1\.weight"):
        run.train(resume_from_checkpoint=str(file.parent))
    assert run.state.global_step == 0


def test_other_peft_weights_than_those_of_the_checkpoint_are_not_resumed(tmp_path):
    run_in(tmp_path, "llava", max_steps=1, peft_config=LoraConfig(r=2, target_modules=["q_proj"])).train()
    run = run_in(tmp_path, "llava", max_steps=2, peft_config=LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    with pytest.raises(ValueError, match=r"checkpoint-1 lacks \d+ weights: .*v_proj.*peft_config of the checkpoint"):
        run.train(resume_from_checkpoint=True)


def test_peft_weights_of_another_size_are_refused_with_their_checkpoint(tmp_path):
    run_in(tmp_path, "llava", max_steps=1, peft_config=LoraConfig(r=4, target_modules=["q_proj"])).train()
    run = run_in(tmp_path, "llava", max_steps=2, peft_config=LoraConfig(r=2, target_modules=["q_proj"]))
    with pytest.raises(
        ValueError, match=r"checkpoint-1 cannot be loaded into this model: .*the same r and target_mod"
    ):
        run.train(resume_from_checkpoint=True)
