"""Fine-tune vision-language models to read charts, with scores that can be trusted.

Importing this package imports neither torch nor transformers nor datasets: every public name is loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Adapter": "adapters",
    "adapter_for": "adapters",
    "register_adapter": "adapters",
    "Causal": "adapters",
    "EncoderPrompt": "adapters",
    "ChartQACollator": "collator",
    "RecordError": "data",
    "load_chartqa": "data",
    "stratified_subset": "data",
    "answer_questions": "generation",
    "load_checkpoint": "hub",
    "set_image_cost": "image_cost",
    "add_tokens": "lora",
    "default_lora_config": "lora",
    "quantized_loading": "lora",
    "compare_predictions": "metrics",
    "format_table": "metrics",
    "relaxed_accuracy": "metrics",
    "relaxed_correctness": "metrics",
    "RelaxedAccuracy": "metrics",
    "read_predictions": "predictions",
    "push_checkpoint": "publish",
    "push_dataset": "push_data",
    "synthetic_chartqa": "synthetic",
    "tiny_unichart": "tiny",
    "ChartQATrainer": "trainer",
    "ChartQATrainingArguments": "training_args",
}

__all__ = [*sorted(_HOMES), "__version__"]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
