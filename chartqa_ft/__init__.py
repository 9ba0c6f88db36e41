"""Fine-tune vision-language models to read charts, with scores that can be trusted.

Importing this package imports neither torch nor transformers nor datasets: every public name is loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .printable import escape_log_records

__version__ = "0.1.0"

_HOMES = {
    "Adapter": "adapters",
    "adapter_for": "adapters",
    "register_adapter": "adapters",
    "register_task": "adapters",
    "Task": "adapters",
    "Causal": "adapters",
    "DecoderPrompt": "adapters",
    "EncoderPrompt": "adapters",
    "ChartQACollator": "batching",
    "RecordError": "data",
    "load_chartqa": "data",
    "stratified_subset": "data",
    "with_chartqapro_prompts": "data",
    "answer_questions": "evaluation",
    "load_checkpoint": "models",
    "set_image_cost": "adapters",
    "add_tokens": "models",
    "default_lora_config": "models",
    "quantized_loading": "models",
    "compare_predictions": "metrics",
    "export_predictions": "metrics",
    "export_tables": "metrics",
    "as_grpo_dataset": "metrics",
    "format_reward": "metrics",
    "length_reward": "metrics",
    "relaxed_accuracy_reward": "metrics",
    "with_rationales": "metrics",
    "table_reward": "metrics",
    "ProgramError": "metrics",
    "run_program": "metrics",
    "format_table": "metrics",
    "relaxed_accuracy": "metrics",
    "relaxed_correctness": "metrics",
    "RelaxedAccuracy": "metrics",
    "read_predictions": "metrics",
    "Table": "metrics",
    "parse_table": "metrics",
    "read_table_csv": "metrics",
    "table_scores": "metrics",
    "write_table": "metrics",
    "text_scores": "metrics",
    "push_checkpoint": "hub",
    "push_dataset": "data",
    "synthetic_chartqa": "data",
    "tiny_unichart": "models",
    "write_report": "reporting",
    "ChartQATrainer": "training",
    "ChartQATrainingArguments": "training",
    "CheckReport": "training",
    "check_model": "training",
}

__all__ = [*sorted(_HOMES), "__version__"]  # noqa: PLE0604

escape_log_records()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
