"""LoRA on fifteen families: it learns, what is saved loads and merges, and new tokens come back."""

from __future__ import annotations

import json
import re

import peft
import pytest
import torch
from peft import LoraConfig, PeftConfig, PeftModel
from safetensors.torch import load_file
from torch import nn
from transformers import (
    AutoModelForImageTextToText,
)

from chartqa_ft.adapters import Adapter, adapter_for
from chartqa_ft.adapters.vocabulary import grow_vocabulary
from chartqa_ft.models import add_tokens
from chartqa_ft.models.lora import add_peft, check_gradients, default_lora_config

from ..support.common import checkpointing_enable
from ..support.families import build, records
from ..support.lora import ALL, PROMPT, answer_logits, family, loss, small_llama, targets, wrapped

torch.set_num_threads(1)


ONE_OF_EACH_KIND = ["unichart", "florence2", "llava"]


def train(model: nn.Module, adapter: Adapter, batch: dict[str, torch.Tensor], steps: int = 2) -> None:
    """Some steps of SGD; the gradients of the last one stay."""
    trainable = [weight for weight in model.parameters() if weight.requires_grad]
    for _ in range(steps):
        model.zero_grad()
        loss(model, adapter, batch).backward()
        with torch.no_grad():
            for weight in trainable:
                weight.sub_(0.5 * weight.grad)


def trained_and_frozen(model: nn.Module, adapter: Adapter, batch: dict[str, torch.Tensor]) -> None:
    """Train, and see that every trainable weight got a gradient and moved, and that no other weight moved."""
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    train(model, adapter, batch)
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            assert weight.grad.abs().max() > 0, f"{name} got no gradient"
        assert torch.equal(weight, before[name]) is not weight.requires_grad, name


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_defaults_and_overrides():
    model, _ = build("llava")
    config = default_lora_config(model)
    assert (config.r, config.lora_alpha, config.lora_dropout, config.task_type) == (16, 32, 0.05, None)
    assert config.modules_to_save is None
    assert config.trainable_token_indices is None
    config = default_lora_config(model, r=4, lora_alpha=4, use_dora=True, target_modules=["q_proj"])
    assert (config.r, config.lora_alpha, config.use_dora, config.target_modules) == (4, 4, True, {"q_proj"})


def test_a_config_that_was_saved_for_inference_is_trained():
    model, _ = build("llava")
    config = default_lora_config(model, r=2)
    config.inference_mode = True
    wrapped = add_peft(model, config)
    assert any(weight.requires_grad for weight in wrapped.parameters())
    assert config.inference_mode


def test_a_model_with_an_adapter_is_refused():
    with pytest.raises(ValueError, match="already has PEFT weights"):
        default_lora_config(wrapped(small_llama()))


@pytest.mark.parametrize("vision", [False, True], ids=["text", "vision"])
@pytest.mark.parametrize("name", ALL)
def test_trains_saves_loads_and_merges(name, vision, tmp_path):
    base, saved = tmp_path / "base", tmp_path / "adapter"
    model, processor = family(name)
    model.save_pretrained(base)
    model = wrapped(AutoModelForImageTextToText.from_pretrained(base), vision=vision)
    adapter = adapter_for(model, processor, prompt=PROMPT)
    batch = adapter.encode(records(3))
    with torch.no_grad():
        untrained = answer_logits(model, adapter, batch)
    trained_and_frozen(model, adapter, batch)
    assert check_gradients(model, strict=True) == []
    model.save_pretrained(saved)
    assert {path.name for path in saved.iterdir()} == {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    weights = load_file(saved / "adapter_model.safetensors")
    assert len(weights) == 2 * len(targets(model))
    assert all(key.endswith(("lora_A.weight", "lora_B.weight")) for key in weights)
    assert (
        PeftConfig.from_pretrained(saved).target_modules
        == default_lora_config(family(name)[0], vision=vision).target_modules
    )

    with torch.no_grad():
        expected = answer_logits(model, adapter, batch)
        assert (expected - untrained).abs().max() > 1e-3
        close(answer_logits(AutoModelForImageTextToText.from_pretrained(saved).eval(), adapter, batch), expected)
        loaded = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(base), saved).eval()
        close(answer_logits(loaded, adapter, batch), expected)
        close(answer_logits(loaded.merge_and_unload(), adapter, batch), expected)


@pytest.mark.parametrize("name", ONE_OF_EACH_KIND)
def test_dora_trains_and_merges(name):
    model, processor = family(name)
    model = wrapped(model, vision=True, use_dora=True)
    adapter = adapter_for(model, processor, prompt=PROMPT)
    batch = adapter.encode(records(3))
    trained_and_frozen(model, adapter, batch)
    with torch.no_grad():
        expected = answer_logits(model, adapter, batch)
        close(answer_logits(model.merge_and_unload(), adapter, batch), expected)


@pytest.mark.parametrize("name", ALL)
def test_gradient_checkpointing_gives_the_same_gradients(name):
    model, processor = family(name)
    model = wrapped(model, vision=True, lora_dropout=0.0)
    adapter = adapter_for(model, processor, prompt=PROMPT)
    batch = adapter.encode(records(3))
    train(model, adapter, batch)  # lora_A gets no gradient while lora_B is zero
    model.train()
    if not model.get_base_model().supports_gradient_checkpointing:
        assert name == "pix2struct"
        with pytest.raises(ValueError, match=r"does not support (gradient|activation) checkpointing"):
            checkpointing_enable(model)()
        return

    def gradients() -> dict[str, torch.Tensor]:
        model.zero_grad()
        loss(model, adapter, batch).backward()
        return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.requires_grad}

    expected = gradients()
    calls = []
    text = targets(wrapped(family(name)[0]))  # Florence-2's vision model keeps its activations
    for target in text:
        model.get_base_model().get_submodule(target).register_forward_pre_hook(lambda *_: calls.append(1))
    checkpointing_enable(model)({"use_reentrant": False})
    got = gradients()
    assert len(calls) == 2 * len(text), "the text blocks were not computed again"
    for key, gradient in got.items():
        torch.testing.assert_close(gradient, expected[key], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "unused"),
    [("llava", r"model\.vision_tower\.encoder\.layers\.2\..*"), ("trocr", r"encoder\.pooler\.dense")],
)
def test_adapted_modules_that_the_loss_does_not_use_are_named(name, unused, caplog):
    model, processor = family(name)
    adapter = adapter_for(model, processor, prompt=PROMPT)
    model = wrapped(model, target_modules="all-linear")
    with pytest.raises(RuntimeError, match="after backward"):
        check_gradients(model)
    loss(model, adapter, adapter.encode(records(2))).backward()
    dead = check_gradients(model)
    assert set(dead) == {target for target in targets(model) if re.fullmatch(unused, target)} != set()
    assert f"{len(dead)} adapted modules do not take part in the loss: {dead[0]}" in caplog.text
    with pytest.raises(ValueError, match=rf"{len(dead)} adapted modules .*{re.escape(dead[0])}"):
        check_gradients(model, strict=True)


@pytest.mark.parametrize("name", ALL)
def test_new_tokens_train_save_and_come_back_on_the_base_checkpoint(name, tmp_path):
    base, saved, whole = tmp_path / "base", tmp_path / "adapter", tmp_path / "whole"
    model, processor = family(name)
    model.save_pretrained(base)
    rows = len(processor.tokenizer)
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    ids = add_tokens(model, processor, ["<bar>", "<line>"])
    assert ids == [rows, rows + 1]
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) is tied

    adapter = adapter_for(model, processor, prompt=f"<bar> {PROMPT}")
    batch = adapter.encode(records(3))
    # Pix2Struct draws its prompt: there, the new tokens are learned as outputs alone.
    assert any((batch.get(key) == rows).any() for key in ("input_ids", "decoder_input_ids") if key in batch) is (
        name != "pix2struct"
    )
    with torch.no_grad():
        plain = answer_logits(model, adapter, batch)
    model = wrapped(model, new_tokens=ids)
    with torch.no_grad():
        close(answer_logits(model, adapter, batch), plain)
    if name == "pix2struct":
        train(model, adapter, batch)
    else:
        trained_and_frozen(model, adapter, batch)
    model.save_pretrained(saved)
    token_rows = [value for key, value in load_file(saved / "adapter_model.safetensors").items() if "lora" not in key]
    assert [len(value) for value in token_rows] == [2] * (1 if tied else 2)

    with torch.no_grad():
        expected = answer_logits(model, adapter, batch)
        fresh = AutoModelForImageTextToText.from_pretrained(base).eval()
        assert grow_vocabulary(fresh, processor) == 2
        loaded = PeftModel.from_pretrained(fresh, saved).eval()
        close(answer_logits(loaded, adapter, batch), expected)
        merged = loaded.merge_and_unload()
        close(answer_logits(merged, adapter, batch), expected)
        merged.save_pretrained(whole)
        close(answer_logits(AutoModelForImageTextToText.from_pretrained(whole).eval(), adapter, batch), expected)


@pytest.mark.parametrize("name", ["unichart", "llava"])
def test_new_rows_are_the_mean_of_the_old_ones(name):
    model, processor = build(name)
    old = [layer.weight.detach().clone() for layer in (model.get_input_embeddings(), model.get_output_embeddings())]
    rows = len(old[0])
    assert add_tokens(model, processor, ["1", "<bar>"])[1] == len(processor.tokenizer) - 1 == rows
    assert grow_vocabulary(model, processor) == 0
    for layer, before in zip((model.get_input_embeddings(), model.get_output_embeddings()), old, strict=True):
        assert torch.equal(layer.weight[:rows], before)
        assert torch.equal(layer.weight[rows:], before.mean(dim=0, keepdim=True))
    text = getattr(model.config, "decoder", None) or model.config.get_text_config()
    assert text.vocab_size == rows + 1


def test_rows_to_spare_are_used_as_they_are():
    model, processor = build("llava")
    model.resize_token_embeddings(len(processor.tokenizer) + 8)
    before = model.get_input_embeddings().weight.detach().clone()
    (index,) = add_tokens(model, processor, ["<bar>"])
    assert index == len(processor.tokenizer) - 1
    assert torch.equal(model.get_input_embeddings().weight, before)


def test_new_tokens_by_name_and_by_id():
    model, processor = build("llava")
    (index,) = add_tokens(model, processor, ["<bar>"], special=True)
    assert processor.tokenizer.decode([index], skip_special_tokens=True) == ""
    rows = {"model.language_model.embed_tokens": [index], "lm_head": [index]}
    assert default_lora_config(model, new_tokens=[index]).trainable_token_indices == rows
    assert default_lora_config(model, new_tokens=["<bar>"], processor=processor).trainable_token_indices == rows


def test_new_tokens_that_are_not_there_are_refused():
    model, processor = build("llava")
    rows = len(processor.tokenizer)
    with pytest.raises(ValueError, match=r"'<bar>'.* is not in the vocabulary: call add_tokens"):
        default_lora_config(model, new_tokens=["<bar>"], processor=processor)
    with pytest.raises(ValueError, match="pass processor="):
        default_lora_config(model, new_tokens=["<bar>"])
    with pytest.raises(ValueError, match=rf"\[{rows}\] have no embedding \(there are {rows}\)"):
        default_lora_config(model, new_tokens=[rows])
    for call in (
        lambda: add_tokens(model, processor, "<bar>"),
        lambda: default_lora_config(model, new_tokens="<bar>"),
    ):
        with pytest.raises((TypeError, ValueError), match=r"write \['<bar>'\]"):
            call()
    with pytest.raises(ValueError, match=rf"{rows + 1} tokens and the embeddings {rows} rows.* before get_peft_model"):
        add_tokens(wrapped(model), processor, ["<bar>"])


def test_the_config_is_plain_json(tmp_path):
    model, processor = build("llava")
    config = default_lora_config(model, vision=True, new_tokens=add_tokens(model, processor, ["<bar>"]))
    config.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "adapter_config.json").read_text())
    assert stored["target_modules"] == config.target_modules
    assert stored["peft_version"] == peft.__version__
    assert LoraConfig.from_pretrained(tmp_path).trainable_token_indices == config.trainable_token_indices
