"""The hyperparameters that a model card lists."""

from __future__ import annotations

import json
import re
from typing import Any

from ..public import as_json, public_values, without_folders
from .facts import CardFacts

MAIN_ARGUMENTS = (
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "weight_decay",
    "optim",
    "max_grad_norm",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "num_train_epochs",
    "max_steps",
    "bf16",
    "fp16",
    "label_smoothing_factor",
    "random_padding",
    "group_by_chart",
    "metric_for_best_model",
    "seed",
)
"""The arguments that a card lists whether or not they are at their defaults."""
# Where a run writes its files and how it is monitored says nothing about the model.
_LOCAL = re.compile(
    r"(output_dir|overwrite_output_dir|run_name|project|trackio_.*|report_to|disable_tqdm|do_.*|log_.*|logging_.*|hub_.*"
    r"|push_to_hub.*|save_.*|resume_from_checkpoint|dataloader_.*|local_rank|ddp_.*|use_cpu|no_cuda|write_predictions"
    r"|per_device_eval_batch_size|eval_delay|restore_callback_.*|accelerator_config|.*_config|include_.*|.*token)"
)
_PEFT_SHOWN = ("peft_type", "r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "target_modules", "revision")


def hyperparameters(facts: CardFacts) -> dict[str, Any]:
    """Return the arguments that shape the model, as text: the important ones, and all others that differ from their
    default.

    Example:
        >>> arguments = {"learning_rate": 5e-05, "adam_beta2": 0.98, "output_dir": "out"}
        >>> facts = CardFacts(name="alice/model", kind="full", arguments=arguments)
        >>> hyperparameters(facts)
        {'learning_rate': '5e-05', 'adam_beta2': '0.98'}
    """
    defaults = facts.default_arguments
    arguments = facts.arguments
    shown = {key: arguments[key] for key in MAIN_ARGUMENTS if key in arguments}
    for key in sorted(arguments):
        if key not in shown and not _LOCAL.fullmatch(key) and arguments[key] != defaults.get(key):
            shown[key] = arguments[key]
    if facts.num_processes is not None:
        shown["processes"] = facts.num_processes
    for key in _PEFT_SHOWN:
        if facts.peft_config.get(key) not in (None, False):
            shown[key if key == "peft_type" else f"peft: {key}"] = as_json(facts.peft_config[key])
    return {key: _shown(value) for key, value in shown.items() if value is not None}


def _shown(value: Any) -> str:
    """Return a hyperparameter as text, and of a local path only the last part."""
    if isinstance(value, str):
        return without_folders(value)
    return json.dumps(public_values(value), ensure_ascii=False)
