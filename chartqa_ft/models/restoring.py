"""Load the weights of a training checkpoint into the model that is trained."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn

from ..adapters import base_model
from ..files import read_json
from .missing_weights import check_all_loaded, listed_weights
from .peft_loading import embedding_names
from .peft_state import active_name

_INDEX = "model.safetensors.index.json"
_ADVICE = "resume from another checkpoint"


def restore_weights(model: nn.Module, folder: str | Path) -> None:
    """Load what `Trainer` leaves out when it loads a checkpoint, and check that nothing is missing.

    `Trainer` reads the names in the file as those of the model, and ignores others. But `save_pretrained` writes many
    families (LLaVA, PaliGemma, Gemma 3, Qwen2.5-VL, InternVL, TrOCR and others) under the names of older versions,
    which only `from_pretrained` translates: training would go on with the weights of the base model.

    Args:
        model: The model, with or without PEFT weights.
        folder: The checkpoint, in safetensors; other formats are left to `Trainer`.

    Raises:
        ValueError: The checkpoint lacks weights; the message names them.
    """
    folder = Path(folder)
    if hasattr(model, "peft_config"):
        _check_peft(model, folder)
        return
    model = base_model(model)
    stored = _stored_names(folder)
    if not stored:
        return
    own = model.state_dict()
    if stored <= set(own):
        found = {own[name].data_ptr() for name in stored}  # tied weights are stored once
        missing = [name for name, weight in own.items() if name not in stored and weight.data_ptr() not in found]
        check_all_loaded(folder, {"missing_keys": missing})
        return
    with torch.random.fork_rng(devices=[]):
        fresh, info = type(model).from_pretrained(
            folder, config=copy.deepcopy(model.config), dtype="auto", output_loading_info=True
        )
    check_all_loaded(folder, info)
    model.load_state_dict(fresh.state_dict())


def _check_peft(model: nn.Module, folder: Path) -> None:
    """Check that a checkpoint has the PEFT weights of a model and no others, except embeddings of its base model.

    Both are named by the same version of PEFT.
    """
    from peft import get_peft_model_state_dict

    file = folder / "adapter_model.safetensors"
    if not file.is_file():
        return
    wanted = get_peft_model_state_dict(model, adapter_name=active_name(model), save_embedding_layers=False)
    with safe_open(file, framework="pt") as tensors:
        stored = set(tensors.keys())
    missing, unused = sorted(set(wanted) - stored), sorted(stored - set(wanted))
    if missing:
        raise ValueError(
            f"{folder} lacks {listed_weights(missing)}, which this model trains: resume with the peft_config of the "
            "checkpoint, or from another checkpoint"
        )
    embeddings = tuple(f"{name}." for name in embedding_names(model))
    plain = [name for name in unused if not name.startswith(embeddings)]
    if plain:
        raise ValueError(
            f"{folder} has {listed_weights(plain, 'that this model does not train')}: resume with the peft_config of "
            "the checkpoint, or from another checkpoint"
        )


def _stored_names(folder: Path) -> set[str]:
    """Return the names of the weights of a full model in safetensors, in one file or several."""
    if (folder / _INDEX).is_file():
        named = read_json(folder / _INDEX, advice=_ADVICE).get("weight_map")
        if not isinstance(named, dict):
            raise ValueError(f"{folder / _INDEX} is damaged (it has no weight_map): {_ADVICE}")
        return set(named)
    if not (folder / "model.safetensors").is_file():
        return set()
    with safe_open(folder / "model.safetensors", framework="pt") as tensors:
        return set(tensors.keys())
