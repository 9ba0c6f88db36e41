"""What a user passes to `generate`: settings of the model's generation, or objects that take part in it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn
from transformers import GenerationConfig

OWN_ARGUMENTS = ("max_length", "num_return_sequences", "return_dict_in_generate", "generation_config", "inputs")
"""Arguments of `model.generate` that would change what an answer is."""


def split_settings(model: nn.Module, kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a user passed to `generate`: (fields of the generation config, arguments of `model.generate`)."""
    for name in OWN_ARGUMENTS:
        neutral = (1,) if name == "num_return_sequences" else (None, False)
        if name in kwargs and kwargs[name] not in neutral:
            raise ValueError(
                f"generate() takes no {name}={kwargs[name]!r}: every question gets one answer, as token ids of at "
                "most max_new_tokens; pass settings one by one"
            )
    known = inspect.signature(model.generate).parameters
    fields = GenerationConfig().to_dict()
    unknown = sorted(set(kwargs) - set(known) - set(fields))
    if unknown:
        raise TypeError(
            f"generate() got unknown arguments: {', '.join(unknown)}. Known are the fields of "
            "transformers.GenerationConfig, such as num_beams, and what model.generate takes, such as logits_processor"
        )
    settings = {name: value for name, value in kwargs.items() if name not in known and name not in OWN_ARGUMENTS}
    return settings, {name: value for name, value in kwargs.items() if name in known and name not in OWN_ARGUMENTS}
