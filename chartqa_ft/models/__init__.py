"""A checkpoint becomes a model that is ready to answer or to train, and goes back to disk whole."""

from .load import load_checkpoint
from .lora import add_tokens, default_lora_config, quantized_loading
from .tiny import tiny_unichart

__all__ = ["add_tokens", "default_lora_config", "load_checkpoint", "quantized_loading", "tiny_unichart"]
