"""What differs by model family and by task: prompt, target, tensors, image cost, processor, generation, metrics of
tasks and legacy numbers."""

from .base import Adapter
from .causal import Causal
from .decoder_prompt import DecoderPrompt, add_prompt_tokens
from .encoder_prompt import EncoderPrompt
from .image_cost import set_image_cost
from .kosmos2 import Kosmos2
from .paligemma import PaliGemma
from .pix2struct import Pix2Struct
from .registry import adapter_for, register_adapter
from .tasks import Task, register_task
from .text import IGNORE_INDEX
from .wrappers import base_model

__all__ = [
    "IGNORE_INDEX",
    "Adapter",
    "Causal",
    "DecoderPrompt",
    "EncoderPrompt",
    "Kosmos2",
    "PaliGemma",
    "Pix2Struct",
    "Task",
    "adapter_for",
    "add_prompt_tokens",
    "base_model",
    "register_adapter",
    "register_task",
    "set_image_cost",
]
