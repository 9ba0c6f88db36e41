"""An adapter brings embeddings along where its base model lacks them, is saved in silence, and asks nobody."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file

from chartqa_ft.models import add_tokens, peft_embeddings
from chartqa_ft.models.load import load_checkpoint
from chartqa_ft.models.lora import add_peft, default_lora_config
from chartqa_ft.models.peft_embeddings import base_vocabulary, needs_embeddings

from ..support.families import build
from ..support.family_cases import chosen
from ..support.launching import save_family
from ..training.test_peft_training import answers, lora_trainer

FAMILIES = ("unichart", "llava")
MORE_EMBEDDINGS = [name for name in ("mllama",) if name in chosen("all")]
"""Mllama has more input embeddings than words; its tests need a transformers that works with it."""


def saved(model, processor, folder: Path, peft_config=None):
    """Train and save an adapter; any warning of PEFT is an error. Returns the trainer and what is stored."""
    run = lora_trainer(model, processor, folder, peft_config or default_lora_config(model, r=2))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", module="peft")
        run.train()
        run.save_model()
    return run, load_file(folder / "adapter_model.safetensors")


def embeddings(stored: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value for key, value in stored.items() if "embed_tokens" in key or "lm_head" in key}


@pytest.fixture
def _nobody_asked(monkeypatch):
    """Online as far as PEFT can tell, and yet no question to the Hub."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr("peft.utils.other.file_exists", lambda *_, **__: pytest.fail("the Hub was asked"))


@pytest.mark.usefixtures("_nobody_asked")
@pytest.mark.parametrize("family", [*FAMILIES, *MORE_EMBEDDINGS])
@pytest.mark.parametrize("named", ["someone/tiny", "/a/folder/that/is/gone", "its folder", ""])
def test_saving_an_adapter_is_silent_whatever_its_base_is_called(tmp_path, family, named):
    model, processor, _ = load_checkpoint(save_family(family, tmp_path / "base"), prompt="{question}")
    model.name_or_path = str(tmp_path / "base") if named == "its folder" else named
    _, stored = saved(model, processor, tmp_path / "out")
    assert stored
    assert not embeddings(stored)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_that_can_be_made_again_are_not_stored(tmp_path, family):
    for new_tokens in (None, ["<chart-task>"]):
        model, processor, _ = load_checkpoint(save_family(family, tmp_path / "base"), prompt="{question}")
        add_tokens(model, processor, ["<chart-task>"])
        config = default_lora_config(model, r=2, new_tokens=new_tokens, processor=processor)
        run, stored = saved(model, processor, tmp_path / "out", config)
        assert all(len(rows) == 1 for rows in embeddings(stored).values())
        assert bool(embeddings(stored)) == bool(new_tokens)
        assert answers(*load_checkpoint(tmp_path / "out")[:2]) == answers(run.model, processor)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_ones_own_are_stored_and_come_back(tmp_path, family):
    model, processor, _ = load_checkpoint(save_family(family, tmp_path / "base"), prompt="{question}")
    known = len(processor.tokenizer)
    add_tokens(model, processor, ["<chart-task>"])
    with torch.no_grad():
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            layer.weight[known:] = torch.linspace(-1, 1, layer.weight.shape[1])
    wanted = [layer.weight.clone() for layer in (model.get_input_embeddings(), model.get_output_embeddings())]
    _, stored = saved(model, processor, tmp_path / "out")
    assert {len(weight) for weight in embeddings(stored).values()} == {known + 1}
    again = load_checkpoint(tmp_path / "out", merge=True)[0]
    for layer, weight in zip((again.get_input_embeddings(), again.get_output_embeddings()), wanted, strict=True):
        assert torch.equal(layer.weight, weight)


def test_adapted_embeddings_of_the_base_are_not_stored_a_second_time(tmp_path):
    model, processor, _ = load_checkpoint(save_family("llava", tmp_path / "base"), prompt="{question}")
    config = LoraConfig(r=2, target_modules=["q_proj", "embed_tokens"], init_lora_weights=False)
    run, stored = saved(model, processor, tmp_path / "out", config)
    assert {key.rpartition(".")[2] for key in embeddings(stored)} == {"lora_embedding_A", "lora_embedding_B"}
    assert answers(*load_checkpoint(tmp_path / "out")[:2]) == answers(run.model, processor)


def test_the_base_is_found_in_a_folder_and_in_the_cache_alone(tmp_path, monkeypatch):
    folder = save_family("llava", tmp_path / "base")
    rows = build("llava")[0].get_input_embeddings().weight.shape[0]
    assert base_vocabulary(str(folder)) == rows
    for unknown in ("", None, "someone/tiny", "/a/folder/that/is/gone", str(tmp_path)):
        assert base_vocabulary(unknown) is None
    asked = []

    def cached(name, file, revision=None):
        asked.append((name, file, revision))
        return str(folder / file)

    monkeypatch.setattr(peft_embeddings, "try_to_load_from_cache", cached)
    assert base_vocabulary("someone/tiny", "abc") == rows
    assert asked == [("someone/tiny", "config.json", "abc")]
    shutil.copy(folder / "tokenizer.json", folder / "config.json")
    assert base_vocabulary(str(folder)) is None


def test_a_base_that_cannot_be_found_is_taken_for_unchanged():
    model, _ = build("llava")
    model.resize_token_embeddings(len(model.get_input_embeddings().weight) + 2)
    model.name_or_path = "someone/tiny"
    assert not needs_embeddings(add_peft(model, default_lora_config(model, r=2)))


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_ones_own_beside_trained_ones_come_back(tmp_path, family):
    model, processor, _ = load_checkpoint(save_family(family, tmp_path / "base"), prompt="{question}")
    trained, own = add_tokens(model, processor, ["<trained>", "<own>"])
    with torch.no_grad():
        model.get_input_embeddings().weight[own] = torch.linspace(-1, 1, model.get_input_embeddings().weight.shape[1])
    wanted = model.get_input_embeddings().weight[own].clone()
    run, _ = saved(model, processor, tmp_path / "out", default_lora_config(model, r=2, new_tokens=[trained]))
    again, processor, _ = load_checkpoint(tmp_path / "out", merge=True)
    assert torch.equal(again.get_input_embeddings().weight[own], wanted)
    assert answers(again, processor) == answers(run.model, processor)
