"""Everything about a model and this process that a check must leave as it was, as values that can be compared."""

from __future__ import annotations

import gc
import hashlib
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_state_dict_hooks", "_load_state_dict_pre_hooks")


@contextmanager
def frozen_garbage() -> Iterator[None]:
    """Let garbage collections, of which every training makes one, skip what exists before the block.

    In the process of a test suite each would take as long as the training of a tiny model.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def digest(tensor: torch.Tensor | None) -> str | None:
    """The digest of the bytes of a tensor."""
    if tensor is None:
        return None
    return hashlib.sha256(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()


def state_of(model: nn.Module) -> dict[str, Any]:
    """Weights, gradients, buffers, modes, hooks, classes and configs of a model; random states; the environment."""
    modules = dict(model.named_modules())
    configs = {
        f"{name}.{kind}": config.to_dict()
        for name, module in modules.items()
        for kind in ("config", "generation_config")
        if hasattr(config := getattr(module, kind, None), "to_dict")
    }
    return {
        "weights": {name: (id(w), digest(w), digest(w.grad), w.requires_grad) for name, w in model.named_parameters()},
        "buffers": {name: digest(buffer) for name, buffer in model.named_buffers()},
        "modules": {name: (type(module), module.training, sorted(vars(module))) for name, module in modules.items()},
        "hooks": {name: [list(vars(module)[kind]) for kind in _HOOKS] for name, module in modules.items()},
        "dropout": {name: module.p for name, module in modules.items() if isinstance(module, nn.Dropout)},
        "configs": configs,
        "peft": {name: config.to_dict() for name, config in (getattr(model, "peft_config", None) or {}).items()},
        "random": (random.getstate(), str(np.random.get_state()), digest(torch.get_rng_state())),
        "environment": dict(os.environ),
    }
