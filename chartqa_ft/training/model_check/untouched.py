"""Check a model in place, and leave it as it was."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import nn

from ..preflight.unchanged import kept_model, kept_random_states

__all__ = ["kept_weights", "untouched", "without_dropout"]

_RANDOM = ("drop", "jitter")
"""Parts of the names of settings that make a forward pass in training mode random."""


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Restore a model and the state of this process at the end of the block.

    These are gradients, buffers, modes, hooks, classes and attributes of its modules, which of its weights are
    trainable, its configs, random states, the states that accelerate shares, and environment variables. Values of
    weights are not copied: see `kept_weights`.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> model, _ = tiny_unichart("test", image_size=64, window_size=4)
        >>> with untouched(model):
        ...     _ = model.train().requires_grad_(False)
        ...     model.config.pad_token_id = 99
        >>> model.training, all(weight.requires_grad for weight in model.parameters()), model.config.pad_token_id
        (False, True, 1)
    """
    weights = [(weight, weight.data, weight.requires_grad) for weight in model.parameters()]
    classes = [(module, module.__class__) for module in model.modules()]
    configs = [(config, _shallow(vars(config))) for config in _configs(model)]
    shared = [(state._shared_state, dict(state._shared_state)) for state in (PartialState, AcceleratorState)]
    shared.append((GradientState._shared_state, dict(GradientState._shared_state)))
    environment = dict(os.environ)
    try:
        with kept_random_states(), kept_model(model), torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, kind in classes:
            module.__class__ = kind
        for config, values in configs:
            vars(config).clear()
            vars(config).update(values)
        for state, values in shared:
            state.clear()
            state.update(values)
        for name in set(os.environ) - set(environment):
            del os.environ[name]
        os.environ.update(environment)
        for weight, data, flag in weights:
            if weight.data_ptr() != data.data_ptr():  # PEFT casts the other weights of a quantized model
                weight.data = data
            weight.requires_grad_(flag)


@contextmanager
def kept_weights(weights: Iterable[torch.Tensor]) -> Iterator[None]:
    """Restore the values of weights at the end of the block, bit for bit, from copies in the memory of the CPU.

    Example:
        >>> weight = nn.Parameter(torch.ones(2))
        >>> with kept_weights([weight]):
        ...     _ = weight.data.zero_()
        >>> weight.tolist()
        [1.0, 1.0]
    """
    copies = [(weight, weight.detach().to("cpu", copy=True)) for weight in weights]
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, value in copies:
                weight.data.copy_(value)


def without_dropout(model: nn.Module) -> None:
    """Turn off what makes a forward pass in training mode random: dropout, stochastic depth, layer drop, jitter.

    `untouched` turns it on again.

    Example:
        >>> layer = nn.Dropout(0.5)
        >>> without_dropout(layer)
        >>> layer.p
        0.0
    """
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        for name, value in list(vars(module).items()):
            if _is_random(name, value):
                setattr(module, name, 0.0)
    for config in _configs(model):
        for name, value in list(vars(config).items()):
            if _is_random(name, value):
                setattr(config, name, 0.0)


def _is_random(name: str, value: Any) -> bool:
    return isinstance(value, float) and 0 < value <= 1 and any(part in name.lower() for part in _RANDOM)


def _configs(model: nn.Module) -> list[Any]:
    """Return the configs of a model, of its parts and of its PEFT weights, each once."""
    found: dict[int, Any] = {}
    for module in model.modules():
        attributes = vars(module)
        todo = [attributes.get("config"), attributes.get("generation_config")]
        peft = attributes.get("peft_config")
        todo += list(peft.values()) if isinstance(peft, dict) else []
        while todo:
            config = todo.pop()
            if config is None or id(config) in found or not hasattr(config, "__dict__"):
                continue
            found[id(config)] = config
            todo += [getattr(config, name, None) for name in getattr(config, "sub_configs", {})]
    return list(found.values())


def _shallow(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value.copy() if type(value) in (dict, list, set) else value for name, value in values.items()}
