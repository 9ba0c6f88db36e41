"""The transformers model inside PEFT, DDP and compiled wrappers."""

from __future__ import annotations

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
