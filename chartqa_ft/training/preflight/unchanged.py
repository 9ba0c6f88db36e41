"""Keep random states and a model as they were, whatever is computed in between."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = ["kept_model", "kept_random_states"]


@contextmanager
def kept_random_states() -> Iterator[None]:
    """Restore the random states of Python, NumPy and PyTorch (on all devices in use) at the end of the block.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> with kept_random_states():
        ...     inside = torch.rand(3)
        >>> torch.equal(torch.rand(3), inside)
        True
    """
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    device: Any = None
    for kind in ("cuda", "xpu"):
        module = getattr(torch, kind, None)
        if module is not None and module.is_available() and module.is_initialized():
            device, states = module, module.get_rng_state_all()
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if device is not None:
            device.set_rng_state_all(states)
        if mps is not None:
            torch.mps.set_rng_state(mps)


@contextmanager
def kept_model(model: nn.Module) -> Iterator[None]:
    """Restore a model at the end of the block: gradients, buffers, modes, hooks and other attributes of its modules.

    Parameters are not copied: the block must not change their values. It begins without gradients.

    Args:
        model: any module.

    Example:
        >>> model = nn.BatchNorm1d(2).eval()
        >>> with kept_model(model):
        ...     model.train()(torch.rand(4, 2)).sum().backward()
        >>> model.training, model.weight.grad, int(model.num_batches_tracked)
        (False, None, 0)
    """
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    attributes = [(module, dict(vars(module))) for module in model.modules()]
    # Hooks, and which parameters, buffers and parts there are, stand in dicts that are changed in place.
    containers = [
        (value, value.copy())
        for _, values in attributes
        for value in values.values()
        if isinstance(value, (dict, list, set))
    ]
    for parameter, _ in gradients:
        parameter.grad = None
    try:
        yield
    finally:
        for container, content in containers:
            container.clear()
            container.extend(content) if isinstance(container, list) else container.update(content)
        for module, values in attributes:
            for name in [name for name in vars(module) if name not in values]:
                del vars(module)[name]
            vars(module).update(values)
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
        for parameter, gradient in gradients:
            parameter.grad = gradient
