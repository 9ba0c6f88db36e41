"""A PEFT checkpoint holds exactly the weights that its model uses, or is refused with their names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from chartqa_ft import default_lora_config, load_checkpoint
from chartqa_ft.models.restoring import restore_weights

from ..support.launching import save_family
from ..training.test_peft_training import lora_trainer

WEIGHTS = "adapter_model.safetensors"


def saved(base: Path, folder: Path, *, embeddings: bool = False, **changes) -> Path:
    """Save PEFT weights of a base model, each different from what PEFT starts with."""
    model, processor, _ = load_checkpoint(base)
    config = LoraConfig(**{"r": 2, "target_modules": ["q_proj", "v_proj"], **changes})
    model = get_peft_model(model, config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(0.1)
    model.save_pretrained(folder, save_embedding_layers=embeddings)
    processor.save_pretrained(folder)
    return folder


def change(folder: Path, edit) -> Path:
    weights = load_file(folder / WEIGHTS)
    edit(weights)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def configure(folder: Path, **changes) -> Path:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


@pytest.mark.parametrize("part", ["lora_B", "q_proj.lora_A", "final_layer_norm"])
def test_missing_weights_are_named(base, tmp_path, part):
    folder = saved(base, tmp_path, modules_to_save=["final_layer_norm"])

    def drop(weights):
        for name in [name for name in weights if part in name]:
            del weights[name]

    with pytest.raises(ValueError, match=rf"{folder} lacks .*{part}.*PEFT checkpoint again"):
        load_checkpoint(change(folder, drop))


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_missing_biases_are_named(base, tmp_path, bias):
    folder = configure(saved(base, tmp_path), bias=bias)
    with pytest.raises(ValueError, match=r"lacks \d+ weights of its adapter_config\.json.*\.bias"):
        load_checkpoint(folder)


def test_weights_of_another_rank_are_refused(base, tmp_path):
    with pytest.raises(ValueError, match=r"\d+ weights of another shape than adapter_config\.json.*lora_A\.weight"):
        load_checkpoint(configure(saved(base, tmp_path), r=3))


@pytest.mark.parametrize(
    ("trained", "edited", "left_over"),
    [
        ({}, {"target_modules": ["q_proj"]}, r"4 weights .*v_proj\.lora_A\.weight"),
        ({}, {"exclude_modules": ["v_proj"]}, r"4 weights .*v_proj\.lora_A\.weight"),
        ({"use_dora": True}, {"use_dora": False}, r"4 weights .*lora_magnitude_vector"),
        ({"lora_bias": True}, {"lora_bias": False}, r"4 weights .*lora_B\.bias"),
        ({"bias": "lora_only"}, {"bias": "none"}, r"4 weights .*q_proj\.base_layer\.bias"),
        ({"modules_to_save": ["final_layer_norm"]}, {"modules_to_save": None}, r"2 weights .*final_layer_norm\.bias"),
        ({"trainable_token_indices": [5]}, {"trainable_token_indices": None}, r"1 weight .*trainable_tokens_delta"),
    ],
)
def test_weights_that_the_configuration_leaves_out_are_refused(base, tmp_path, trained, edited, left_over):
    folder = configure(saved(base, tmp_path, **trained), **edited)
    with pytest.raises(ValueError, match=rf"{folder} has {left_over}.*target_modules"):
        load_checkpoint(folder)


@pytest.mark.parametrize("name", ["stray", "base_model.model.decoder.lm_head.weight_scale", "lora_A.weight"])
def test_a_weight_of_nothing_is_refused(base, tmp_path, name):
    folder = change(saved(base, tmp_path), lambda weights: weights.update({name: torch.zeros(2)}))
    with pytest.raises(ValueError, match=rf"has 1 weight without a place in its adapter_config\.json: {name}\."):
        load_checkpoint(folder)


def test_a_configuration_of_another_model_is_named(base, tmp_path):
    folder = saved(base, tmp_path)
    with pytest.raises(ValueError, match=r"adapter_config\.json does not fit its base model.*nothing"):
        load_checkpoint(configure(folder, target_modules=["nothing"]))
    with pytest.raises(ValueError, match=r"no module of .* matches 'second_head' in modules_to_save"):
        load_checkpoint(configure(folder, target_modules=["q_proj", "v_proj"], modules_to_save=["second_head"]))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"bias": "all"},
        {"bias": "lora_only", "use_dora": True},
        {"lora_bias": True, "modules_to_save": ["final_layer_norm"]},
        {"trainable_token_indices": [5, 6]},
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"embeddings": True},
    ],
)
def test_whole_checkpoints_load_as_they_were_saved(base, tmp_path, changes):
    folder = saved(base, tmp_path, **changes)
    stored = load_file(folder / WEIGHTS)
    model, _, _ = load_checkpoint(folder)
    model.save_pretrained(tmp_path / "again", save_embedding_layers=changes.get("embeddings", False))
    again = load_file(tmp_path / "again" / WEIGHTS)
    assert again.keys() == stored.keys()
    assert all(torch.equal(again[name], stored[name]) for name in stored)


def test_the_base_model_keeps_no_hook(base, tmp_path):
    model, _, _ = load_checkpoint(saved(base, tmp_path))
    inner = model.get_base_model()
    assert not inner._load_state_dict_pre_hooks
    assert not inner._load_state_dict_post_hooks


def test_a_resume_takes_no_weights_that_its_model_does_not_train(base, tmp_path):
    folder = saved(base, tmp_path)
    model, _, _ = load_checkpoint(base)
    fewer = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    with pytest.raises(ValueError, match=r"has 4 weights that this model does not train.*v_proj.*peft_config"):
        restore_weights(fewer, folder)
    restore_weights(load_checkpoint(folder, trainable=True)[0], folder)


def test_embeddings_that_are_not_finite_are_refused(base, tmp_path):
    def spoil(weights):
        for name, weight in weights.items():
            if "embed_tokens" in name or "lm_head" in name:  # one weight, under two names
                weight[3] = torch.nan

    folder = change(saved(base, tmp_path / "out", embeddings=True), spoil)
    with pytest.raises(ValueError, match=r"embed_tokens.* not finite|not finite.*embed_tokens"):
        load_checkpoint(folder)


def test_a_folder_does_not_stand_in_for_the_commit_of_a_base(base, tmp_path, monkeypatch):
    folder = configure(saved(base, tmp_path / "out"), base_model_name_or_path="alice/base", revision="b" * 40)
    shutil.copytree(base, tmp_path / "alice" / "base")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"names commit b{40} of the base model 'alice/base', which is a folder here"):
        load_checkpoint(folder)
    load_checkpoint(configure(folder, revision=None))


def test_the_generation_config_of_the_trained_model_is_that_of_the_loaded_and_the_merged_one(base, tmp_path):
    model, processor, _ = load_checkpoint(base)
    model.generation_config.suppress_tokens = [11, 12]
    run = lora_trainer(model, processor, tmp_path / "out", default_lora_config(model, r=2))
    run.train()
    run.save_model()
    for merge in (False, True):
        again = load_checkpoint(tmp_path / "out", merge=merge)[0]
        assert again.generation_config.suppress_tokens == [11, 12]
    assert load_checkpoint(run.save_merged())[0].generation_config.suppress_tokens == [11, 12]
    assert load_checkpoint(base)[0].generation_config.suppress_tokens is None


def test_peft_weights_for_a_base_with_another_config_are_refused_before_the_first_step(tmp_path):
    folder = save_family("llava", tmp_path / "base")
    model, processor, _ = load_checkpoint(folder, vision_feature_layer=-1, dtype=torch.float32)
    config = default_lora_config(model, r=2)
    with pytest.raises(
        ValueError, match=r"was loaded with vision_feature_layer=-1, which differs from its checkpoint"
    ):
        lora_trainer(model, processor, tmp_path / "out", config).train()
    model, processor, _ = load_checkpoint(folder, vision_feature_layer=-1)
    for part in (model, processor):
        part.save_pretrained(tmp_path / "changed")
    model, processor, _ = load_checkpoint(tmp_path / "changed", vision_feature_layer=-1)
    run = lora_trainer(model, processor, tmp_path / "out", default_lora_config(model, r=2))
    run.train()
    run.save_model()
    assert load_checkpoint(tmp_path / "out")[0].config.vision_feature_layer == -1


def test_a_processor_with_its_own_code_is_loaded_and_merged_where_it_is_trusted(base, tmp_path):
    folder = shutil.copytree(base, tmp_path / "own")
    (folder / "own_processing.py").write_text(
        "from transformers import DonutProcessor\n\n\nclass OwnProcessor(DonutProcessor):\n    pass\n"
    )
    for name in ("processor_config.json", "tokenizer_config.json"):
        config = json.loads((folder / name).read_text())
        config |= {"processor_class": "OwnProcessor", "auto_map": {"AutoProcessor": "own_processing.OwnProcessor"}}
        (folder / name).write_text(json.dumps(config))
    model, processor, _ = load_checkpoint(folder, trust_remote_code=True)
    assert type(processor).__name__ == "OwnProcessor"
    run = lora_trainer(model, processor, tmp_path / "out", default_lora_config(model, r=2))
    run.train()
    run.save_model()
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        load_checkpoint(tmp_path / "out")
    for loaded in (tmp_path / "out", run.save_merged()):
        assert type(load_checkpoint(loaded, trust_remote_code=True)[1]).__name__ == "OwnProcessor"
