"""What differs by model family: prompt, tensors, image cost, processor, generation and legacy numbers."""

from .base import IGNORE_INDEX, Adapter, base_model
from .causal import Causal, Kosmos2, PaliGemma
from .decoder_prompt import DecoderPrompt, add_prompt_tokens
from .encoder_prompt import EncoderPrompt, Pix2Struct
from .image_cost import set_image_cost
from .registry import adapter_for, register_adapter

__all__ = [
    "IGNORE_INDEX",
    "Adapter",
    "Causal",
    "DecoderPrompt",
    "EncoderPrompt",
    "Kosmos2",
    "PaliGemma",
    "Pix2Struct",
    "adapter_for",
    "add_prompt_tokens",
    "base_model",
    "register_adapter",
    "set_image_cost",
]
