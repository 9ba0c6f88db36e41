"""Whether a PEFT adapter has to bring the embeddings along, decided by what is on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from torch import nn
from transformers import AutoConfig

from ..adapters import base_model


def needs_embeddings(model: nn.Module) -> bool:
    """Whether the whole embeddings belong into the files of an adapter, as `save_embedding_layers` of PEFT means it.

    That is where its base model would not have them when the adapter is loaded: they have new rows, which are neither
    those that `grow_vocabulary` makes again nor trained and stored one by one (`trainable_token_indices`). PEFT's own
    `"auto"` asks the Hub for the base model's config at every save, and warns where it cannot; it looks at
    `config.vocab_size` alone, which models with a vision part do not have; and it stores embeddings that an adapter
    stands on although the base model has the same.

    Args:
        model: a `PeftModel`.
    """
    config = model.peft_config[model.active_adapter]
    if getattr(config, "trainable_token_indices", None) is not None:
        return False
    known = base_vocabulary(config.base_model_name_or_path, config.revision)
    return known is not None and any(_has_own_rows(weight, known) for weight in _embeddings(base_model(model)))


def base_vocabulary(name: str | None, revision: str | None = None) -> int | None:
    """Rows of the embeddings of a base model, by its config in a folder or in the cache; `None`: not found there."""
    if not name:
        return None
    file: Any = Path(name) / "config.json"
    if not file.is_file():
        try:
            file = try_to_load_from_cache(name, "config.json", revision=revision)
        except ValueError:  # a folder that is gone is no name of a model
            return None
    if not isinstance(file, str | Path):
        return None
    try:
        return AutoConfig.from_pretrained(Path(file).parent).get_text_config(decoder=True).vocab_size
    except (OSError, ValueError, AttributeError):  # of an older layout, or with code of its own
        return None


def _embeddings(model: nn.Module) -> list[torch.Tensor]:
    """Weights of input and output embeddings, below what PEFT put around them."""
    layers = [model.get_input_embeddings(), model.get_output_embeddings()]
    weights = [getattr(layer, "weight", None) for layer in layers]
    return [weight for weight in weights if isinstance(weight, torch.Tensor) and weight.is_floating_point()]


def _has_own_rows(weight: torch.Tensor, known: int) -> bool:
    if len(weight) <= known:
        return False
    mean = weight[:known].float().mean(dim=0).to(weight.dtype)
    return not torch.equal(weight[known:], mean.expand_as(weight[known:]))
