"""How much of a language model PEFT weights adapt."""

from __future__ import annotations

import re

from torch import nn

from ..adapters import base_model
from .lora_targets import block_weights
from .peft_state import plain_layer

__all__ = ["adapted_share", "is_peft"]


def adapted_share(model: nn.Module) -> float:
    """Return the share of the weights of the language model's blocks that PEFT adapts, 0 to 1.

    Example:
        >>> from peft import get_peft_model
        >>> from chartqa_ft import default_lora_config, tiny_unichart
        >>> model, _ = tiny_unichart("test", image_size=64, window_size=4)
        >>> adapted_share(get_peft_model(model, default_lora_config(model)))
        1.0
    """
    base = base_model(model)
    adapted: set[int] = set()
    for module in base.modules():
        inner = plain_layer(module)
        if hasattr(module, "parameter_name"):  # one of the parameters of a layer: PEFT's target_parameters
            adapted.add(id(getattr(inner, module.parameter_name, None)))
        elif inner is not module:
            adapted |= {id(weight) for weight in inner.parameters()}
    blocks = {name: size for name, size in block_weights(base).items() if not is_peft(name)}
    ids = {name: id(weight) for name, weight in base.named_parameters()}
    total = sum(blocks.values())
    return sum(size for name, size in blocks.items() if ids[name] in adapted) / total if total else 0.0


def is_peft(name: str) -> bool:
    """Return whether a parameter was added by PEFT, by its name.

    Example:
        >>> is_peft("layers.0.q_proj.lora_A.default.weight"), is_peft("layers.0.q_proj.base_layer.weight")
        (True, False)
    """
    return re.search(r"\.(lora_|ia3_|modules_to_save\.|trainable_tokens_)", name) is not None
