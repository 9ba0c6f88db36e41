"""LoRA with `ChartQATrainer` for every family: what is trained and saved, and equal answers after loading."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from chartqa_ft.adapters import Adapter, adapter_for
from chartqa_ft.models.load import load_checkpoint
from chartqa_ft.models.lora import default_lora_config
from chartqa_ft.training.trainer import ChartQATrainer

from ..support.common import Gradients, relative_l2
from ..support.families import records
from ..support.family_cases import ALL, PROMPTS, answer_logits, ready, run_of

torch.set_num_threads(1)


def saved_base(name: str, folder: Path) -> Path:
    model, adapter = ready(name)
    model.save_pretrained(folder)
    adapter.processor.save_pretrained(folder)
    return folder


def lora_run(folder: Path, name: str, base: Path, *, dropout: float = 0.05, **changes) -> ChartQATrainer:
    """A trainer of the default LoRA weights on the model in `base`."""
    model, _, adapter = load_checkpoint(base, prompt=PROMPTS.get(name))
    torch.manual_seed(0)
    config = default_lora_config(model, lora_dropout=dropout)
    return run_of(folder, model, adapter, records(4), peft_config=config, **changes)


@torch.no_grad()
def logits_and_answers(model: torch.nn.Module, adapter: Adapter) -> tuple[torch.Tensor, list[str]]:
    batch = adapter.encode(records(4))
    model.eval()
    adapter.attach(model)
    ids = adapter.generate(model, batch, max_new_tokens=8, min_new_tokens=2)
    return answer_logits(model, adapter, batch), adapter.decode(ids)


@pytest.mark.parametrize("name", ALL)
def test_lora_trains_saves_and_loads(name, tmp_path):
    base, folder = saved_base(name, tmp_path / "base"), tmp_path / "saved"
    run = lora_run(tmp_path / "out", name, base, max_steps=3, learning_rate=2e-2)
    before = {key: weight.detach().clone() for key, weight in run.model.named_parameters()}
    untrained, _ = logits_and_answers(run.model, run.adapter)
    run.train()
    for key, weight in run.model.named_parameters():
        assert weight.requires_grad is ("lora_" in key), key
        assert torch.equal(weight, before[key]) is not weight.requires_grad, key
    run.save_model(str(folder))
    assert {path.name for path in folder.glob("*.safetensors")} == {"adapter_model.safetensors"}
    assert not list(folder.glob("*.bin"))
    trained = {key for key, weight in run.model.named_parameters() if weight.requires_grad}
    assert {key.replace(".weight", ".default.weight") for key in load_file(folder / "adapter_model.safetensors")} == (
        trained
    )

    expected, answers = logits_and_answers(run.model, run.adapter)
    assert (expected - untrained).abs().max() > 0.1
    direct = AutoModelForImageTextToText.from_pretrained(folder)
    models = [load_checkpoint(folder), load_checkpoint(folder, merge=True)]
    assert [hasattr(model, "peft_config") for model, *_ in models] == [True, False]
    assert [adapter.settings() for *_, adapter in models] == [run.adapter.settings()] * 2
    models.append((direct, None, adapter_for(direct, run.adapter.processor, prompt=run.adapter.prompt)))
    for model, _, adapter in models:
        found, again = logits_and_answers(model, adapter)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
        assert again == answers


@pytest.mark.parametrize("name", ALL)
def test_lora_gradient_checkpointing_gives_equal_gradients(name, tmp_path):
    base = saved_base(name, tmp_path / "base")
    vectors, counts = [], []
    for recompute in (False, True):
        capture = Gradients()
        run = lora_run(
            tmp_path / "out",
            name,
            base,
            dropout=0.0,
            # In the first step lora_B is zero, and with it the gradient of lora_A.
            max_steps=2,
            optim="sgd",
            learning_rate=0.5,
            activation_checkpointing=recompute,
            callbacks=[capture],
        )
        if recompute and not run.model.supports_gradient_checkpointing:
            with pytest.raises(ValueError, match=r"does not support (gradient|activation) checkpointing"):
                run.train()
            return
        blocks = [module for key, module in run.model.named_modules() if key.endswith("lora_A.default")]
        calls: list[int] = []
        for block in blocks:
            block.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        run.train()
        vectors.append(capture.vector)
        assert len(calls) >= 2 * len(blocks)
        counts.append(len(calls))
    # With it, the layers of every block are computed again in the backward pass.
    assert counts[1] == 2 * counts[0]
    assert relative_l2(*vectors) <= 1e-6


@pytest.mark.parametrize("name", ["qwen2_5_vl"])
def test_lora_resumes_to_the_bit(name, tmp_path):
    base = saved_base(name, tmp_path / "base")
    settings = {
        "max_steps": 4,
        "save_steps": 2,
        "save_strategy": "steps",
        "per_device_train_batch_size": 2,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "cosine",
    }
    whole = lora_run(tmp_path / "whole", name, base, **settings)
    whole.train()
    torch.manual_seed(5)
    resumed = lora_run(tmp_path / "resumed", name, base, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    files = [load_file(tmp_path / run / "checkpoint-4" / "adapter_model.safetensors") for run in ("whole", "resumed")]
    before = load_file(tmp_path / "whole" / "checkpoint-2" / "adapter_model.safetensors")
    assert files[0].keys() == files[1].keys()
    for key, weight in files[0].items():
        assert torch.equal(weight, files[1][key]), key
        assert not torch.equal(weight, before[key]), key
    losses = [[e["loss"] for e in run.state.log_history if "loss" in e] for run in (whole, resumed)]
    assert losses[0] == losses[1]
