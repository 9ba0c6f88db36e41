"""The share of a language model that PEFT weights adapt is that of its weights, experts included."""

from __future__ import annotations

import logging

import pytest
from peft import IA3Config, LoraConfig

from chartqa_ft import default_lora_config
from chartqa_ft.models.lora import add_peft
from chartqa_ft.models.lora_share import adapted_share

from ..support.common import tiny, trainer
from ..support.families import build


def weights(model, *ends: str) -> int:
    return sum(p.numel() for name, p in model.named_parameters() if name.endswith(ends) and "layers." in name)


@pytest.mark.parametrize("name", ["llava", "gemma3", "qwen2_5_vl", "florence2", "trocr", "pix2struct"])
def test_the_default_adapts_every_block(name):
    model, _ = build(name)
    # Pix2Struct has a table of positions in a block.
    assert adapted_share(add_peft(model, default_lora_config(model))) == (1.0 if name != "pix2struct" else 2240 / 2245)


@pytest.mark.parametrize("targets", [["q_proj"], ["q_proj", "v_proj"], ["gate_proj", "up_proj", "down_proj"]])
def test_fewer_targets_adapt_their_share(targets):
    model, _ = build("llava")
    text = model.model.language_model
    every = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    wanted = weights(text, *(f"{t}.weight" for t in targets)) / weights(text, *(f"{t}.weight" for t in every))
    pattern = rf".*language_model.*\.({'|'.join(targets)})"
    model = add_peft(model, LoraConfig(target_modules=pattern, r=4))
    assert adapted_share(model) == pytest.approx(wanted)


def test_other_methods_and_the_vision_tower_count_as_what_they_are():
    model, _ = build("llava")
    config = IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"])
    assert 0 < adapted_share(add_peft(model, config)) < 0.5
    model, _ = build("llava")
    assert adapted_share(add_peft(model, LoraConfig(target_modules=r".*vision_tower.*\.q_proj"))) == 0


def test_the_share_is_said_when_a_training_begins(tmp_path, capsys, caplog):
    model, _ = tiny()
    config = default_lora_config(model, r=2)
    run = trainer(tmp_path, model=model, peft_config=config, max_steps=1, disable_tqdm=False)
    with caplog.at_level(logging.INFO, logger="chartqa_ft"):
        run.train()
    said = capsys.readouterr().out + caplog.text
    assert said.count("which adapt 100 % of the weights of the language model's blocks") == 1
