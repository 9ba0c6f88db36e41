"""A checkpoint gives a model all its weights, or is refused with their names."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from chartqa_ft import ChartQATrainer, load_checkpoint

from ..support.common import arguments, drawn_charts
from ..support.families import build

FULL, PEFT = "model.safetensors", "adapter_model.safetensors"


def changed(folder: Path, file: str, change) -> Path:
    """Change the weights in a file of a checkpoint."""
    weights = load_file(folder / file)
    change(weights)
    save_file(weights, folder / file, metadata={"format": "pt"})
    return folder


@pytest.fixture
def full(tmp_path) -> Path:
    for saved in build("unichart"):
        saved.save_pretrained(tmp_path / "full")
    return tmp_path / "full"


@pytest.fixture
def lora(base, tmp_path) -> Path:
    model, processor, _ = load_checkpoint(base)
    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], modules_to_save=["final_layer_norm"])
    get_peft_model(model, config).save_pretrained(tmp_path / "lora")
    processor.save_pretrained(tmp_path / "lora")
    return tmp_path / "lora"


def drop(part: str):
    def change(weights: dict) -> None:
        gone = [name for name in weights if part in name]
        assert gone
        for name in gone:
            del weights[name]

    return change


@pytest.mark.parametrize("part", ["final_layer_norm.bias", "encoder_attn.q_proj", "embed_positions", "embed_tokens"])
def test_missing_weights_are_named(full, part):
    with pytest.raises(ValueError, match=rf"{full} lacks \d+ weights? of the model.*{part}"):
        load_checkpoint(changed(full, FULL, drop(part)))


def test_a_missing_shard_is_an_error(tmp_path):
    model, processor = build("llava")
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    processor.save_pretrained(tmp_path)
    shard = sorted(tmp_path.glob("model-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises((OSError, ValueError), match=shard.name):
        load_checkpoint(tmp_path)


def test_a_shard_that_the_index_forgot_is_an_error(tmp_path):
    model, processor = build("llava")
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    processor.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    index["weight_map"] = {key: file for key, file in index["weight_map"].items() if "lm_head" not in key}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"lacks 1 weight of the model.*lm_head\.weight"):
        load_checkpoint(tmp_path)


def test_tied_weights_that_are_stored_once_are_not_missing(full):
    assert "decoder.lm_head.weight" not in load_file(full / FULL)
    model, _, _ = load_checkpoint(full)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_the_unused_pooler_that_published_checkpoints_lack_is_not_missed(tmp_path):
    for saved in build("trocr"):
        saved.save_pretrained(tmp_path)
    weights = load_file(tmp_path / FULL)
    assert "encoder.pooler.dense.weight" in weights
    changed(tmp_path, FULL, drop("encoder.pooler.dense"))
    load_checkpoint(tmp_path, prompt="{question}")
    with pytest.raises(ValueError, match=r"decoder\..*fc1"):
        load_checkpoint(changed(tmp_path, FULL, drop("fc1")), prompt="{question}")


def test_weights_of_another_shape_are_refused(full, caplog):
    def change(weights: dict) -> None:
        name = next(name for name in weights if name.endswith("fc1.weight") and "decoder" in name)
        weights[name] = weights[name][:-1].contiguous()

    changed(full, FULL, change)
    with pytest.raises(ValueError, match=r"1 weight of another shape.*fc1\.weight \(\(\d+, \d+\) instead of \("):
        load_checkpoint(full)
    with caplog.at_level(logging.WARNING, logger="chartqa_ft"):
        load_checkpoint(full, ignore_mismatched_sizes=True)
    assert "They are random (ignore_mismatched_sizes=True)" in caplog.text


def test_weights_that_the_model_does_not_use_are_reported(full, caplog):
    def change(weights: dict) -> None:
        weights["decoder.second_head.weight"] = torch.zeros(2, 2)

    with caplog.at_level(logging.WARNING, logger="chartqa_ft"):
        load_checkpoint(changed(full, FULL, change))
    assert "has 1 weight that the model does not use: decoder.second_head.weight" in caplog.text


@pytest.mark.parametrize("is_peft", [False, True])
def test_a_whole_checkpoint_is_loaded_without_a_word(full, lora, caplog, recwarn, is_peft):
    with caplog.at_level(logging.WARNING):
        load_checkpoint(lora if is_peft else full)
    assert caplog.text == ""
    assert [str(warning.message) for warning in recwarn if "missing" in str(warning.message)] == []


def test_training_does_not_begin_on_random_weights(full, tmp_path):
    changed(full, FULL, drop("encoder_attn"))
    with pytest.raises(ValueError, match="encoder_attn"):
        ChartQATrainer(str(full), arguments(tmp_path / "out"), train_dataset=drawn_charts())
    assert not (tmp_path / "out").exists()
