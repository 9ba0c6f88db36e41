"""The transformers model inside PEFT, DDP and compiled wrappers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from accelerate.utils import extract_model_from_parallel, is_compiled_module
from torch import nn


def base_model(model: nn.Module) -> nn.Module:
    """Return the transformers model inside PEFT, DDP and compiled wrappers.

    Example:
        >>> import torch
        >>> from chartqa_ft import tiny_unichart
        >>> from chartqa_ft.adapters import base_model
        >>> model, processor = tiny_unichart("test")
        >>> base_model(torch.nn.DataParallel(model)) is model
        True
    """
    while True:
        if is_compiled_module(model):
            model = extract_model_from_parallel(model, keep_torch_compile=False)
        elif hasattr(model, "get_base_model"):
            model = model.get_base_model()
        elif hasattr(model, "module") and isinstance(model.module, nn.Module):
            model = model.module
        else:
            return model


@contextmanager
def without_autocast(model: nn.Module) -> Iterator[None]:
    """Leave out the autocast that accelerate puts around the forward pass of a model.

    accelerate does not remove it after training. With it, a model that was trained in this process would answer in
    another precision than the same model after it has been saved and loaded.

    Example:
        >>> import torch
        >>> from accelerate import Accelerator
        >>> model = torch.nn.Linear(2, 2)
        >>> _ = Accelerator(cpu=True, mixed_precision="bf16").prepare_model(model)
        >>> with without_autocast(model):
        ...     "forward" in vars(model)
        False
    """
    model = base_model(model)
    wrapped = vars(model).get("forward")
    if wrapped is None or "_original_forward" not in vars(model):
        yield
        return
    del model.forward
    try:
        yield
    finally:
        model.forward = wrapped
