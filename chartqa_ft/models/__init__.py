"""A checkpoint becomes a model that is ready to answer or to train, and goes back to disk whole."""

from ..adapters.vocabulary import add_tokens
from .load import load_checkpoint
from .lora import default_lora_config
from .quantization import quantized_loading
from .tiny import tiny_unichart

__all__ = ["add_tokens", "default_lora_config", "load_checkpoint", "quantized_loading", "tiny_unichart"]
