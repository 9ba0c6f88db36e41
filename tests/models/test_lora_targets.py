"""Which layers LoRA adapts, on fifteen families and on models of others."""

from __future__ import annotations

import pydoc
import re

import pytest
import torch
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlavaForConditionalGeneration,
)

from chartqa_ft.adapters import adapter_for
from chartqa_ft.models.lora import check_gradients, default_lora_config
from chartqa_ft.models.lora_targets import _weights_read

from ..support.families import build, records
from ..support.lora import ALL, OUTSIDE, PROMPT, family, loss, small_llama, targets, wrapped

torch.set_num_threads(1)


@pytest.mark.parametrize("name", ALL)
def test_every_linear_layer_of_the_text_side_and_no_other_is_adapted(name):
    model, _ = family(name)
    text = model.get_decoder()
    head = model.get_output_embeddings()
    linear = {module for module in text.modules() if isinstance(module, nn.Linear) and module is not head}
    names = {full for full, module in model.named_modules() if module in linear}
    assert len(names) >= 10
    assert targets(wrapped(model)) == names


@pytest.mark.parametrize("name", ALL)
def test_with_vision_all_that_is_left_out_is_outside_the_blocks_or_gets_no_gradient(name):
    model, processor = family(name)
    adapter = adapter_for(model, processor, prompt=PROMPT)
    text = targets(wrapped(family(name)[0]))
    both = targets(wrapped(family(name)[0], vision=True))
    everything = wrapped(model, target_modules="all-linear")
    loss(everything, adapter, adapter.encode(records(3))).backward()
    dead = set(check_gradients(everything))
    assert text < both
    assert not both & dead
    assert all(OUTSIDE.search(left_out) for left_out in targets(everything) - both - dead)


def test_the_targets_read_well():
    blocks = r"self_attn\.(q_proj|k_proj|v_proj|o_proj)|mlp\.(gate_proj|up_proj|down_proj)"
    text = rf"model\.language_model\.layers\.\d+\.({blocks})"
    vision = (
        r"model\.vision_tower\.encoder\.layers\.(0|1)\.(self_attn\.(k_proj|v_proj|q_proj|out_proj)|mlp\.(fc1|fc2))"
    )
    model, _ = build("llava")
    assert default_lora_config(model).target_modules == text
    assert default_lora_config(model, vision=True).target_modules == f"{text}|{vision}"


@pytest.mark.parametrize(("layers", "used"), [(-1, 3), (-2, 2), (1, 1), ([1, -2], 2), ([2, -3], 2)])
def test_vision_blocks_after_the_hidden_states_that_are_read_are_left_out(layers, used):
    _, processor = build("llava")
    config = build("llava")[0].config
    config.vision_feature_layer = layers
    model = wrapped(LlavaForConditionalGeneration(config).eval(), vision=True)
    numbers = {int(number) for name in targets(model) for number in re.findall(r"vision_tower.*layers\.(\d+)", name)}
    assert numbers == set(range(used))
    adapter = adapter_for(build("llava")[0], processor, prompt=PROMPT)
    loss(model, adapter, adapter.encode(records(2))).backward()
    assert check_gradients(model) == []


def test_a_model_of_another_family_is_adapted_by_its_structure():
    assert len(targets(wrapped(small_llama()))) == 14
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=16, n_layer=2, n_head=2, n_positions=8))
    expected = r"transformer\.h\.\d+\.(attn\.(c_attn|c_proj)|mlp\.(c_fc|c_proj))"
    assert default_lora_config(gpt2, fan_in_fan_out=True).target_modules == expected


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        for name in ("attn", "called", "typed", "set_up", "clamped", "fused", "fallback"):
            setattr(self, name, nn.Linear(4, 4))
        nn.init.zeros_(self.set_up.weight)

    def forward(self, x):
        x = self.attn(self.called(x.to(self.typed.weight.dtype)))
        if isinstance(self.typed.weight, torch.Tensor) and self.set_up.weight.shape[0] == 4:
            x = self.set_up(self.typed(x))
        weight = self.clamped.weight.clamp(-1, 1)
        x = nn.functional.linear(x, weight) if self.training else self.clamped(x)
        x = self.fallback(x) @ self.fallback.weight
        return nn.functional.linear(
            x,
            self.fused.weight,
        )


def test_layers_whose_weights_are_read_instead_of_being_called_are_left_out():
    model = small_llama()
    model.model.layers = nn.ModuleList([Block(), Block()])
    assert default_lora_config(model).target_modules == r"model\.layers\.\d+\.(attn|called|typed|set_up)"


@pytest.mark.parametrize(
    ("class_name", "left_out"),
    [
        ("gemma3n.modeling_gemma3n.Gemma3nTextAltUp", {"correction_coefs"}),
        ("nemotron_h.modeling_nemotron_h.NemotronHMamba2Mixer", {"out_proj"}),
        ("jamba.modeling_jamba.JambaMambaMixer", {"dt_proj"}),
        ("t5.modeling_t5.T5DenseGatedActDense", set()),
        ("bloom.modeling_bloom.BloomAttention", set()),
        ("llama.modeling_llama.LlamaMLP", set()),
    ],
)
def test_the_code_of_transformers_tells_which_layers_are_not_called(class_name, left_out):
    linear = {"correction_coefs", "prediction_coefs", "in_proj", "out_proj", "dt_proj", "wo", "dense", "up_proj"}
    assert _weights_read(pydoc.locate(f"transformers.models.{class_name}")) & linear == left_out


def test_a_model_without_vision_and_one_without_blocks_say_what_to_name():
    with pytest.raises(ValueError, match=r"no vision model .* in LlamaForCausalLM: name the layers"):
        default_lora_config(small_llama(), vision=True)
    model = small_llama()
    model.model.layers = nn.ModuleList()
    with pytest.raises(ValueError, match=r"no transformer blocks .* of LlamaForCausalLM: name the layers"):
        default_lora_config(model)
