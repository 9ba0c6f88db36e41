"""Merge PEFT weights into the base model so that the merged model answers as the trained one did."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from ..adapters import base_model
from ..resources import is_out_of_memory
from .peft_state import plain_layer


def merge_peft(model: nn.Module) -> nn.Module:
    """Merge the PEFT weights of a `PeftModel` into its base model, and return the base model.

    If PEFT adapts only one of several tied weights, such as an `lm_head` tied to the input embeddings, merging in
    place would change the others too. Such weights get copies of their own, and the config no longer ties them.

    Raises:
        ValueError: The weights cannot be merged, for example biases (`lora_bias`) of layers that have none.

    Example:
        >>> from peft import LoraConfig, get_peft_model
        >>> from chartqa_ft import tiny_unichart
        >>> model, _ = tiny_unichart("test", image_size=64, window_size=4)
        >>> config = LoraConfig(target_modules=["lm_head"], init_lora_weights=False)
        >>> merged = merge_peft(get_peft_model(model, config))
        >>> merged.get_output_embeddings().weight is merged.get_input_embeddings().weight
        False
    """
    base = base_model(model)
    ties = [
        (config, config.tie_word_embeddings) for config in _configs(base) if hasattr(config, "tie_word_embeddings")
    ]
    tied = _tied_groups(base)
    adapted = [group for group in tied if any(_is_adapted(base.get_submodule(path)) for path in group)]
    for group in adapted:
        for path in group[1:]:
            plain_layer(base.get_submodule(path)).weight = nn.Parameter(
                plain_layer(base.get_submodule(group[0])).weight.detach().clone(), requires_grad=False
            )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*tie_word_embeddings")  # PEFT's; what it asks for is done here
        try:
            merged = model.merge_and_unload()
        except (NotImplementedError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            raise ValueError(
                f"these PEFT weights cannot be merged ({error}): load and push them with merge=False"
            ) from error
    for config, is_tied in ties:  # PEFT compares addresses, not values
        config.tie_word_embeddings = is_tied
    differ = False
    for group in tied:
        first = plain_layer(merged.get_submodule(group[0])).weight
        others = [plain_layer(merged.get_submodule(path)) for path in group[1:]]
        if all(torch.equal(other.weight, first) for other in others):
            for other in others:
                other.weight = first
        else:
            differ = True
    if differ:
        _untie(merged)
    return merged


def _tied_groups(model: nn.Module) -> list[list[str]]:
    """Return the paths of modules that share one `weight`, as lists of two or more."""
    paths: dict[int, list[str]] = {}
    for path, module in model.named_modules():
        if path.endswith(("base_layer", "original_module")) or ".modules_to_save." in path or ".token_adapter" in path:
            continue
        weight = getattr(plain_layer(module), "weight", None)
        if isinstance(weight, nn.Parameter):
            paths.setdefault(id(weight), []).append(path)
    return [group for group in paths.values() if len(group) > 1]


def _is_adapted(module: nn.Module) -> bool:
    return plain_layer(module) is not module


def _untie(model: nn.Module) -> None:
    """Give every weight tied by the config a copy of its own, and say so in the configs of the model and its parts."""
    keys = getattr(model, "all_tied_weights_keys", None) or {}
    embeddings = {id(model.get_input_embeddings()), id(model.get_output_embeddings())}
    by_config = {name.removesuffix(".weight") for pair in keys.items() for name in pair}
    by_config |= {path for path, module in model.named_modules() if id(module) in embeddings}
    for group in _tied_groups(model):
        for path in group[1:] if by_config.intersection(group) else ():
            layer = model.get_submodule(path)
            layer.weight = nn.Parameter(layer.weight.detach().clone(), requires_grad=layer.weight.requires_grad)
    for config in _configs(model):
        if getattr(config, "tie_word_embeddings", False):
            config.tie_word_embeddings = False
    for part in model.modules():
        if getattr(part, "all_tied_weights_keys", None):
            part.all_tied_weights_keys = {}


def _configs(model: nn.Module) -> Iterator[Any]:
    """Yield the configs of a model and of the models in it, each once."""
    seen: set[int] = set()
    for module in model.modules():
        config = getattr(module, "config", None)
        todo = [config] if config is not None else []
        while todo:
            one = todo.pop()
            if id(one) not in seen:
                seen.add(id(one))
                yield one
                todo += [getattr(one, name) for name in getattr(one, "sub_configs", {}) if getattr(one, name, None)]
