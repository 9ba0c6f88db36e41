"""A merged model answers as the model with its PEFT weights: loaded, merged, saved and loaded again."""

from __future__ import annotations

from functools import cache
from tempfile import mkdtemp

import pytest
import torch
from peft import LoraConfig, get_peft_model

from chartqa_ft import default_lora_config, load_checkpoint
from chartqa_ft.adapters import base_model
from chartqa_ft.adapters.vocabulary import declare_tying
from chartqa_ft.models.merging import merge_peft

from ..support.families import build, records
from ..support.family_cases import PROMPTS

HEAD = {"target_modules": ["q_proj", "lm_head"]}


@cache
def base(family: str) -> str:
    folder = mkdtemp()
    for saved in build(family):
        saved.save_pretrained(folder)
    return folder


def load(folder, family: str, **settings):
    return load_checkpoint(folder, prompt=PROMPTS.get(family), **settings)


def logits(model, adapter) -> torch.Tensor:
    """Logits of the base model inside, which is the one that evaluations call."""
    batch = adapter.encode(records(2))
    with torch.no_grad():
        return base_model(model.eval())(**adapter.model_inputs(batch)).logits


def far(model) -> None:
    """Move the trainable weights away from where they began, as training does."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("unichart", HEAD),
        ("unichart", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}),
        ("unichart", {"target_modules": ["embed_tokens"]}),
        ("unichart", {"target_modules": ["q_proj"], "trainable_token_indices": [5, 9]}),
        ("unichart", {**HEAD, "use_dora": True}),
        ("unichart", {"target_modules": ["q_proj", "v_proj"], "lora_bias": True}),
        ("paligemma", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "embed_tokens"]}),
        (
            "paligemma",
            {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
        ),
        ("paligemma", {"target_modules": ["q_proj", "embed_tokens"], "ensure_weight_tying": True}),
        ("paligemma", {"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [5, 9]}}),
        ("florence2", HEAD),
        ("florence2", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}),
        ("gemma3", HEAD),
        ("kosmos2", HEAD),
        ("internvl", HEAD),
        ("trocr", {"target_modules": ["q_proj", "output_projection"]}),
        ("llava", HEAD),  # not tied
    ],
    ids=str,
)
def test_all_ways_to_load_give_the_same_logits(tmp_path, family, settings):
    model, processor, adapter = load(base(family), family)
    if "trainable_token_indices" in settings:
        declare_tying(model)
    before = logits(model, adapter)
    config = LoraConfig(r=4, **settings)
    model = get_peft_model(model, config)
    far(model)
    wanted = logits(model, adapter)
    assert (wanted - before).abs().max() > 1e-2
    model.save_pretrained(tmp_path / "peft", save_embedding_layers=False)
    processor.save_pretrained(tmp_path / "peft")
    loaded, _, _ = load(tmp_path / "peft", family)
    torch.testing.assert_close(logits(loaded, adapter), wanted, rtol=0, atol=1e-5)
    merged, _, _ = load(tmp_path / "peft", family, merge=True)
    torch.testing.assert_close(logits(merged, adapter), wanted, rtol=0, atol=1e-4)
    merged.save_pretrained(tmp_path / "merged")
    processor.save_pretrained(tmp_path / "merged")
    again, _, _ = load(tmp_path / "merged", family)
    torch.testing.assert_close(logits(again, adapter), wanted, rtol=0, atol=1e-4)


def test_weights_that_stay_equal_stay_tied():
    model, _, _ = load_checkpoint(base("paligemma"))
    merged = merge_peft(get_peft_model(model, default_lora_config(model, r=2, init_lora_weights=False)))
    assert merged.get_output_embeddings().weight is merged.get_input_embeddings().weight
    assert merged.config.tie_word_embeddings


def test_biases_that_the_base_model_has_no_place_for_are_refused(tmp_path):
    model, processor, _ = load_checkpoint(base("paligemma"))
    config = LoraConfig(r=2, target_modules=["lm_head"], lora_bias=True)
    get_peft_model(model, config).save_pretrained(tmp_path, save_embedding_layers=False)
    processor.save_pretrained(tmp_path)
    load_checkpoint(tmp_path)
    with pytest.raises(ValueError, match=r"cannot be merged.*lora_bias.*merge=False"):
        load_checkpoint(tmp_path, merge=True)
