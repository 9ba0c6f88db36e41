"""Decide whether a PEFT checkpoint must include the embeddings, without asking the Hub."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from torch import nn
from transformers import AutoConfig

from ..adapters import base_model
from .peft_state import active_name

logger = logging.getLogger(__name__)


def needs_embeddings(model: nn.Module) -> bool:
    """Return whether a PEFT checkpoint must include the whole embeddings, for PEFT's `save_embedding_layers`.

    It must if the base model will not have them when the checkpoint is loaded: if they have new rows that are neither
    those that `grow_vocabulary` can recreate nor trained and stored individually (`trainable_token_indices`).

    PEFT's own `"auto"` requests the config of the base model from the Hub at every save, and warns if it cannot. It
    only looks at `config.vocab_size`, which models with a vision part do not have. And it stores adapted embeddings
    even if the base model has the same ones.

    Args:
        model: A `PeftModel`.
    """
    config = model.peft_config[active_name(model)]
    trained = _trained_rows(getattr(config, "trainable_token_indices", None))
    known = base_vocabulary(config.base_model_name_or_path, config.revision)
    base = base_model(model)
    if known is None or all(len(weight) <= known for weight in embedding_weights(base)):
        return False
    built = _rows_built(type(base), base_config(config.base_model_name_or_path, config.revision))
    return any(
        _has_own_rows(weight, max(known, built[place] if place < len(built) else 0), trained)
        for place, weight in enumerate(embedding_weights(base))
    )


def base_vocabulary(name: str | None, revision: str | None = None) -> int | None:
    """Return the number of words of a base model, from its config in a folder or in the cache.

    It is `None` if the config is not on this machine or does not tell.
    """
    try:
        return base_config(name, revision).get_text_config(decoder=True).vocab_size
    except AttributeError:  # no config, or one of a model with its own code
        return None


def base_config(name: str | None, revision: str | None = None) -> Any:
    """Return the config of a base model from a folder or from the cache; `None` if it is not on this machine."""
    if not name:
        return None
    file: Any = Path(name) / "config.json"
    if not file.is_file():
        try:
            file = try_to_load_from_cache(name, "config.json", revision=revision)
        except ValueError:  # the path of a deleted folder is not a valid name of a model
            return None
    if not isinstance(file, str | Path):
        return None
    try:
        return AutoConfig.from_pretrained(Path(file).parent, trust_remote_code=False)
    except (OSError, ValueError):  # an older layout, or a model with its own code
        return None


def _rows_built(model_class: Any, config: Any) -> list[int]:
    """Return the rows of the input and output embeddings that a model class creates from a config.

    Mllama has eight input embeddings more than words. Empty if this model class takes no such config.
    """
    try:
        with torch.device("meta"):
            return [len(weight) for weight in embedding_weights(model_class(config))]
    except Exception as error:  # constructors raise anything for a config that is not theirs
        logger.debug("%s cannot be created from its config: %s", model_class.__name__, error)
        return []


def embedding_weights(model: nn.Module) -> list[torch.Tensor]:
    """Return the weights of the input and output embeddings, without what PEFT wraps around them."""
    layers = [model.get_input_embeddings(), model.get_output_embeddings()]
    weights = [getattr(layer, "weight", None) for layer in layers]
    return [weight for weight in weights if isinstance(weight, torch.Tensor) and weight.is_floating_point()]


def _trained_rows(indices: Any) -> set[int]:
    """Return the rows that `trainable_token_indices` names, of any layer."""
    if not indices:
        return set()
    return {int(i) for ids in (indices.values() if isinstance(indices, Mapping) else [indices]) for i in ids}


def _has_own_rows(weight: torch.Tensor, known: int, trained: Collection[int] = ()) -> bool:
    """Return whether rows after the first `known` ones differ from what `grow_vocabulary` would add.

    Rows in `trained` do not count: they are stored individually.
    """
    rows = [row for row in range(known, len(weight)) if row not in trained]
    if not rows:
        return False
    mean = weight[:known].float().mean(dim=0).to(weight.dtype)
    return not torch.equal(weight[rows], mean.expand(len(rows), -1))
