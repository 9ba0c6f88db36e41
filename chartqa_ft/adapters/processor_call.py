"""The arguments with which every adapter calls its processor."""

from __future__ import annotations

from typing import Any

from .image_cost import image_kwargs


def processor_arguments(processor: Any) -> dict[str, Any]:
    """Return the arguments of a call of the processor, besides charts and prompts.

    Settings that were saved with the tokenizer, such as `truncation=True, max_length=60`, are the defaults of a call:
    `ASSISTANT:` would be cut off. A few processors and models (KOSMOS-2.5, the Q-Former of InstructBLIP) take no
    padding on the left. Adapters pad on the left themselves where generation needs it.

    Args:
        processor: The processor.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> processor_arguments(tiny_unichart("test")[1])
        {'padding': True, 'truncation': False, 'padding_side': 'right', 'return_tensors': 'pt', 'images_kwargs': {}}
    """
    return {
        "padding": True,
        "truncation": False,
        "padding_side": "right",
        "return_tensors": "pt",
        "images_kwargs": image_kwargs(processor),
    }
