"""Numbers and names of a PEFT configuration that would be used or ignored without a word."""

from __future__ import annotations

import json
import math

import pytest
from peft import IA3Config, LoraConfig

from chartqa_ft import default_lora_config, load_checkpoint
from chartqa_ft.models.lora import add_peft

from ..support.common import tiny


@pytest.fixture(scope="module")
def model():
    return tiny()[0]


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"lora_alpha": math.nan}, ValueError, "lora_alpha must be a finite number above 0, got nan"),
        ({"lora_alpha": math.inf}, ValueError, "lora_alpha"),
        ({"lora_alpha": 0}, ValueError, "lora_alpha"),
        ({"lora_alpha": -8}, ValueError, "lora_alpha"),
        ({"lora_alpha": "16"}, TypeError, "lora_alpha"),
        ({"lora_alpha": None}, TypeError, "lora_alpha"),
        ({"lora_dropout": -0.1}, ValueError, "lora_dropout must be a number from 0 to below 1"),
        ({"lora_dropout": math.nan}, ValueError, "lora_dropout"),
        ({"lora_dropout": 1.0}, ValueError, "lora_dropout"),
        ({"lora_dropout": "x"}, TypeError, "lora_dropout"),
        ({"r": 2.5}, TypeError, "`r` must be an int"),
        ({"r": True}, TypeError, "`r` must be an int"),
        ({"rank_pattern": {"q_proj": 0}}, ValueError, r"rank_pattern\['q_proj'\] must be an int of at least 1"),
        ({"rank_pattern": ["q_proj"]}, TypeError, "rank_pattern must be a dict"),
        ({"alpha_pattern": {"q_proj": math.nan}}, ValueError, r"alpha_pattern\['q_proj'\]"),
        ({"use_dora": "no"}, TypeError, "use_dora must be True or False"),
        ({"use_rslora": 1}, TypeError, "use_rslora must be True or False"),
        ({"bias": None}, ValueError, "bias must be one of none, all, lora_only"),
        ({"target_modules": "["}, ValueError, "target_modules has no valid regular expression"),
        ({"target_modules": ["q_proj", 5]}, TypeError, "target_modules must be a list of module names"),
        ({"target_modules": ["q_proj", "wq"]}, ValueError, "matches 'wq' in target_modules"),
        ({"exclude_modules": ["nothing"]}, ValueError, "matches 'nothing' in exclude_modules"),
        ({"modules_to_save": ["lm_head", "nothing"]}, ValueError, "matches 'nothing' in modules_to_save"),
        ({"rank_pattern": {"q_proj": 2, "lm_head": 2}}, ValueError, "no adapted module .* 'lm_head' in rank_pattern"),
        ({"alpha_pattern": {"nothing": 2}}, ValueError, "matches 'nothing' in alpha_pattern"),
        ({"trainable_token_indices": [10**6]}, ValueError, "trainable_token_indices has .*1000000"),
        ({"trainable_token_indices": {"embed_tokens": [1.5]}}, ValueError, "trainable_token_indices has .*1.5"),
        ({"trainable_token_indices": {"nothing": [5]}}, ValueError, "names 'nothing', which is no module"),
        ({"new_tokens": [1.5]}, ValueError, "new_tokens must be token ids"),
        ({"new_tokens": [True]}, ValueError, "new_tokens must be token ids"),
        ({"vision": "no"}, TypeError, "vision must be True or False"),
        ({"modules_to_save": "lm_head"}, TypeError, "modules_to_save must be a list of names, got 'lm_head'"),
        ({"target_parameters": "gate_up_proj"}, TypeError, "target_parameters. must be a list of strings"),
        (
            {"target_modules": ["q_proj"], "layers_to_transform": [0, 99]},
            ValueError,
            "layers_to_transform has 99, and no adapted module",
        ),
        ({"target_modules": ["q_proj"], "layers_to_transform": 99}, ValueError, "layers_to_transform has 99"),
        ({"vision": True, "target_modules": ["q_proj"]}, ValueError, "vision=True chooses the layers, and target_mod"),
        ({"new_tokens": [5], "trainable_token_indices": [7]}, ValueError, "both name tokens: leave out one"),
    ],
)
def test_wrong_values_are_named(model, changes, kind, words):
    with pytest.raises(kind, match=words):
        default_lora_config(model, **changes)


def test_models_that_are_something_else(model):
    for wrong in (None, "model", type(model), tiny()[1]):
        with pytest.raises(TypeError, match="model must be a loaded model"):
            default_lora_config(wrong)


def test_right_values_are_used():
    model = tiny()[0]
    config = LoraConfig(
        r=4,
        target_modules=["q_proj", "self_attn.v_proj"],
        exclude_modules=["encoder_attn.q_proj"],
        rank_pattern={"q_proj": 2},
        alpha_pattern={r"layers\.\d+\.self_attn\.v_proj": 64},
    )
    wrapped = add_peft(model, config)
    layer = wrapped.get_base_model().decoder.model.decoder.layers[0]
    assert layer.self_attn.q_proj.r == {"default": 2}
    assert layer.self_attn.v_proj.scaling == {"default": 16.0}
    assert not hasattr(layer.encoder_attn.q_proj, "r")


def test_a_configuration_that_is_handed_over_is_checked_before_the_model_changes(model):
    before = [name for name, _ in model.named_modules()]
    for config in (
        LoraConfig(target_modules=["q_proj", "nothing"]),
        LoraConfig(target_modules="all-linear", lora_alpha=math.nan),
        IA3Config(target_modules=["k_proj", "nothing"], feedforward_modules=[]),
    ):
        with pytest.raises(ValueError, match="peft_config: "):
            add_peft(model, config)
    assert [name for name, _ in model.named_modules()] == before


def test_checkpoints_with_wrong_numbers_and_with_names_that_match_nothing(tmp_path):
    base, saved = tmp_path / "base", tmp_path / "saved"
    model, processor = tiny()
    model.save_pretrained(base)
    processor.save_pretrained(base)
    model, processor, _ = load_checkpoint(base)
    add_peft(model, default_lora_config(model, r=2)).save_pretrained(saved)
    file = saved / "adapter_config.json"
    right = json.loads(file.read_text())
    for changes, words in [
        ({"lora_alpha": math.nan}, "lora_alpha must be a finite number"),
        ({"lora_alpha": "x"}, "lora_alpha"),
        ({"lora_dropout": -1}, "lora_dropout"),
        ({"target_modules": 5}, "target_modules"),
        ({"base_model_name_or_path": 5}, "base_model_name_or_path must be the path or the name"),
        ({"modules_to_save": ["nothing"]}, "no module of VisionEncoderDecoderModel matches 'nothing'"),
    ]:
        file.write_text(json.dumps({**right, **changes}))
        with pytest.raises((TypeError, ValueError), match=rf"adapter_config\.json: {words}"):
            load_checkpoint(saved)
