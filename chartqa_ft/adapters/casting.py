"""The dtype in which a model gets its charts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


def cast_charts(inputs: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    """Return `inputs` with charts in the dtype of an unwrapped model in 16 or 64 bits, unless autocast does it.

    Example:
        >>> import torch
        >>> from chartqa_ft import tiny_unichart
        >>> model = tiny_unichart("test")[0].bfloat16()
        >>> cast = cast_charts({"pixel_values": torch.zeros(1), "labels": torch.zeros(1, dtype=torch.long)}, model)
        >>> cast["pixel_values"].dtype, cast["labels"].dtype
        (torch.bfloat16, torch.int64)
    """
    return {
        key: value.to(model.dtype)
        if torch.is_tensor(value) and value.is_floating_point() and not torch.is_autocast_enabled(value.device.type)
        else value
        for key, value in inputs.items()
    }
