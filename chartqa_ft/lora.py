"""The path of earlier releases for `chartqa_ft.models.lora`; it goes with the next one."""

from .models import add_tokens, default_lora_config, quantized_loading  # noqa: F401
from .models.lora import ALPHA, DROPOUT, RANK  # noqa: F401
