"""The argument `generation_config`: which of its settings evaluations use, and what the model keeps of it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import nn
from transformers import GenerationConfig, Seq2SeqTrainer

from ..adapters import base_model
from ..adapters.generation_checks import check_arguments, check_rows
from .arguments import ChartQATrainingArguments

_COUNTED = {"num_beams": "generation_num_beams", "max_new_tokens": "generation_max_new_tokens"}
"""Field of `GenerationConfig` -> the training argument that says the same."""


def chosen_settings(model: nn.Module, args: ChartQATrainingArguments) -> dict[str, Any]:
    """Return the settings of `args.generation_config` that are used in evaluations, in addition to the arguments.

    Args:
        model: the model, whose own token ids the config must not contradict.
        args: the training arguments, whose `generation_config` is a config, or the name or path of one.

    Raises:
        ValueError: a setting contradicts another argument or the model, or would change the shape of answers.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> config = GenerationConfig(num_beams=2, length_penalty=0.5)
        >>> args = ChartQATrainingArguments(output_dir="out", use_cpu=True, generation_config=config)
        >>> chosen_settings(tiny_unichart("test")[0], args)
        {'num_beams': 2, 'length_penalty': 0.5}
    """
    if args.generation_config is None:
        return {}
    given = args.generation_config
    if not isinstance(given, GenerationConfig):
        given = Seq2SeqTrainer.load_generation_config(given)
    # Unset fields are None, so that a value which equals a default is known to be wanted.
    chosen = {name: value for name, value in given.to_diff_dict().items() if value is not None}
    own = base_model(model).generation_config
    settings = {}
    for name, value in chosen.items():
        if name.startswith("_") or name == "transformers_version":
            continue
        if name.endswith("_token_id"):
            if value != getattr(own, name, None):
                raise ValueError(
                    f"generation_config has {name}={value}, and the model has {getattr(own, name, None)}: set "
                    f"model.generation_config.{name} before the trainer and the adapter are created"
                )
            continue
        settings[name] = value
    for name, argument in _COUNTED.items():
        value, default = getattr(args, argument), type(args).__dataclass_fields__[argument].default
        if name in settings and value not in (default, settings[name]):
            raise ValueError(
                f"generation_config has {name}={settings[name]}, and {argument} is {value}: leave one of them out"
            )
    check_arguments(base_model(model), {"num_beams": args.generation_num_beams, **settings})
    check_rows(args.per_device_eval_batch_size, settings, name="per_device_eval_batch_size")
    return settings


def merged_config(
    model: nn.Module, args: ChartQATrainingArguments, settings: Mapping[str, Any]
) -> GenerationConfig | None:
    """Return the model's generation config with `settings`, for the trainer to set and save; `None` without any.

    Upstream replaces the whole config, and with it the ids of the start and end tokens.
    """
    if args.generation_config is None:
        return None
    config = copy.deepcopy(base_model(model).generation_config)
    counts = {name: getattr(args, argument) for name, argument in _COUNTED.items()}
    config.update(**{**counts, **settings})
    return config
