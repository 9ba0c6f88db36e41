"""What PEFT adapts, trains and saves, of several methods."""

from __future__ import annotations

import pytest
import torch
from peft import IA3Config, LoraConfig, get_peft_model

from chartqa_ft import default_lora_config
from chartqa_ft.training.model_check.peft_weights import (
    adapted_share,
    fill_zero_weights,
    trained_but_not_saved,
    zero_weights,
)

from ...support.family_cases import ready

torch.set_num_threads(1)
LAYERS = r".*language_model.*(q_proj|v_proj)"


def configs(model):
    return {
        "default": default_lora_config(model),
        "dora": LoraConfig(target_modules=LAYERS, use_dora=True),
        "all biases": LoraConfig(target_modules=LAYERS, bias="all"),
        "a whole module": LoraConfig(target_modules=LAYERS, modules_to_save=["lm_head"]),
        "new tokens": default_lora_config(model, new_tokens=[5, 6]),
        "ia3": IA3Config(target_modules=LAYERS, feedforward_modules=[]),
    }


@pytest.mark.parametrize("name", ["default", "dora", "all biases", "a whole module", "new tokens", "ia3"])
def test_what_is_trained_is_saved(name):
    model, _ = ready("llava")
    model = get_peft_model(model, configs(model)[name])
    assert trained_but_not_saved(model) == []
    weight = model.get_parameter("base_model.model.model.language_model.norm.weight")
    weight.requires_grad_(True)
    assert trained_but_not_saved(model) == ["model.language_model.norm.weight"]


def test_the_share_counts_the_blocks_of_the_language_model():
    model, _ = ready("llava")
    sizes = {n: w.numel() for n, w in model.named_parameters() if "language_model.layers" in n and w.dim() > 1}
    wanted = sum(size for name, size in sizes.items() if "q_proj" in name or "v_proj" in name)
    model = get_peft_model(model, LoraConfig(target_modules=LAYERS))
    assert adapted_share(model) == wanted / sum(sizes.values())
    vision, _ = ready("llava")
    assert adapted_share(get_peft_model(vision, LoraConfig(target_modules=r".*vision.*q_proj"))) == 0.0


def test_zero_weights_are_filled_and_others_kept():
    model, _ = ready("llava")
    model = get_peft_model(model, default_lora_config(model))
    kept = {name: w.clone() for name, w in model.named_parameters() if "lora_B" not in name}
    filled = fill_zero_weights(model)
    assert len(filled) == sum("lora_B" in name for name, _ in model.named_parameters()) == 14
    assert zero_weights(model) == []
    assert all(torch.equal(w, kept[name]) for name, w in model.named_parameters() if name in kept)
