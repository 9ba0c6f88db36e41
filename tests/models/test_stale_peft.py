"""A folder holds one model: what is saved replaces an adapter or a full model that was there before."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from chartqa_ft import ChartQATrainer
from chartqa_ft.hub.model_files import files_of_model
from chartqa_ft.models.load import load_checkpoint
from chartqa_ft.models.saving import replaced_whole

from ..support.common import arguments
from ..support.families import records

FULL = {"config.json", "generation_config.json", "model.safetensors"}
ADAPTER = {"adapter_config.json", "adapter_model.safetensors", "generation_config.json"}


@pytest.fixture
def trained(base_trainer):
    """Makes a trainer whose trainable weights were all moved by `shift`."""

    def make(folder: Path, shift: float, *, lora: bool) -> ChartQATrainer:
        made = base_trainer(folder, lora=lora)
        with torch.no_grad():
            for weight in made.model.parameters():
                if weight.requires_grad:
                    weight.add_(shift)
        return made

    return make


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(weight, other[name]) for name, weight in one.items())


@pytest.mark.parametrize("lora", [False, True])
def test_a_run_into_the_folder_of_a_run_of_the_other_kind(tmp_path, trained, lora):
    trained(tmp_path, 0.5, lora=not lora).save_model()
    (tmp_path / "notes.md").write_text("mine")
    made = trained(tmp_path, 0.25, lora=lora)
    made.save_model()
    kept, gone = (ADAPTER, FULL) if lora else (FULL, ADAPTER)
    assert {path.name for path in tmp_path.iterdir()} & (kept | gone) == kept
    assert set(files_of_model(tmp_path)) & (kept | gone) == kept
    assert (tmp_path / "notes.md").read_text() == "mine"
    assert same(weights(load_checkpoint(tmp_path)[0]), weights(made.model))


OLD = ("adapter_model.bin", "pytorch_model.bin", "pytorch_model.bin.index.json", "model-00001-of-00002.safetensors")


@pytest.mark.parametrize(
    ("config", "left"),
    [("config.json", {*OLD[1:3]}), ("adapter_config.json", {"adapter_model.bin"}), ("chartqa_config.json", {*OLD})],
)
def test_files_of_the_other_kind_go_and_others_stay(tmp_path, config, left):
    others = {"model_notes.json", "ema.safetensors", "adapter_model.md", "generation.json"}
    for name in (*OLD, *others):
        (tmp_path / name).write_text("old")
    with replaced_whole(tmp_path) as fresh:
        (fresh / config).write_text("{}")
        if config != "chartqa_config.json":
            (fresh / config.replace("config.json", "model.safetensors")).write_text("new")
    new = {config} if config == "chartqa_config.json" else {config, config.replace("config.json", "model.safetensors")}
    assert {path.name for path in tmp_path.iterdir()} == left | others | new


def test_the_folder_of_the_base_model_is_never_replaced(tmp_path, base, trained):
    before = {path.name: path.read_bytes() for path in base.iterdir()}
    with pytest.raises(ValueError, match="is the folder of the base model, which saving the PEFT weights there"):
        trained(base, 0.0, lora=True)
    made = trained(tmp_path / "out", 0.0, lora=True)
    with pytest.raises(ValueError, match="is the folder of the base model"):
        made.save_model(str(base))
    assert {path.name: path.read_bytes() for path in base.iterdir()} == before
    made.save_model()
    with pytest.raises(ValueError, match="holds the PEFT weights, which the merged model would replace"):
        made.save_merged(tmp_path / "out")


def test_a_folder_with_two_models_is_not_pushed(tmp_path, base, trained):
    trained(tmp_path, 0.5, lora=True).save_model()
    (tmp_path / "config.json").write_text("{}")
    assert "config.json" not in files_of_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match=r"contains both PEFT weights .* and a full model"):
        files_of_model(tmp_path)


# ---------------------------------------------------------------- what loading makes of a folder


def test_a_merged_adapter_is_trained_like_any_other_model(tmp_path, base, trained):
    trained(tmp_path / "adapter", 0.5, lora=True).save_model()
    model, processor, adapter = load_checkpoint(tmp_path / "adapter", merge=True)
    plain = load_checkpoint(base)[0]
    assert [name for name, weight in model.named_parameters() if not weight.requires_grad] == []
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in plain.named_parameters()]
    before = weights(model)
    settings = arguments(tmp_path / "out", learning_rate=0.01)
    ChartQATrainer(model, settings, records(4), None, processor, adapter).train()
    assert not same(weights(model), before)
    kept = load_checkpoint(tmp_path / "adapter")[0]
    assert [name for name, weight in kept.named_parameters() if weight.requires_grad] == []


@pytest.mark.parametrize("lora", [False, True])
def test_other_safetensors_beside_a_pickle_do_not_silence_the_warning(tmp_path, trained, caplog, lora):
    trained(tmp_path, 0.5, lora=lora).save_model()
    safe, pickled = ("adapter_model", "adapter_model") if lora else ("model", "pytorch_model")
    stored = load_file(tmp_path / f"{safe}.safetensors")
    caplog.set_level("WARNING", "chartqa_ft")
    told = load_checkpoint(tmp_path)[0]
    assert "can run code" not in caplog.text
    torch.save(stored, tmp_path / f"{pickled}.bin")
    (tmp_path / f"{safe}.safetensors").rename(tmp_path / "ema.safetensors")
    again = load_checkpoint(tmp_path)[0]
    assert caplog.text.count("can run code") == 1
    assert same(weights(again), weights(told))
