"""Checks before training: arguments that the trainer would have to ignore are refused before any time is spent."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from datasets import Dataset
from torch import nn

from ..adapters import Adapter
from ..batching.records import as_records
from .arguments import ChartQATrainingArguments

logger = logging.getLogger(__name__)

_OWN = ("loss", "relaxed_accuracy", "accuracy_lenient", "accuracy_strict_year")
_REPLACED = ("compute_loss_func", "model_init", "preprocess_logits_for_metrics", "data_collator")


def check_trainer(args: ChartQATrainingArguments, eval_dataset: Any, trainer_arguments: Mapping[str, Any]) -> None:
    """Check the arguments of a `ChartQATrainer` that can be checked without the model.

    Args:
        args: the training arguments.
        eval_dataset: the evaluation data.
        trainer_arguments: further arguments of the trainer, by name.

    Raises:
        ValueError: an argument that the trainer would ignore, or that would fail in the middle of training.
    """
    for name in _REPLACED:
        if trainer_arguments.get(name) is not None:
            raise ValueError(f"ChartQATrainer takes no {name}: subclass it, or use the plain Seq2SeqTrainer")
    if not isinstance(args, ChartQATrainingArguments):
        raise ValueError(f"args must be ChartQATrainingArguments, got {type(args).__name__}")
    if args.auto_find_batch_size:
        raise ValueError("auto_find_batch_size would change the rows of a step: choose per_device_train_batch_size")
    own_metrics = trainer_arguments.get("compute_metrics") is not None
    if own_metrics and not args.predict_with_generate:
        raise ValueError("compute_metrics is called with generated answers: it needs predict_with_generate=True")
    if args.eval_subset is not None:
        for part in eval_dataset.values() if isinstance(eval_dataset, dict) else [eval_dataset]:
            if part is not None and not isinstance(part, Dataset):
                raise ValueError("eval_subset needs a datasets.Dataset to choose from, not a list or a stream")
    if eval_dataset is not None and args.eval_strategy != "no" and args.metric_for_best_model is not None:
        check_best_metric(args.metric_for_best_model, eval_dataset, own_metrics)


def check_data_sets(train_dataset: Any, eval_dataset: Any) -> None:
    """Check that data sets have records of the right form, as far as this is known before they are read.

    Args:
        train_dataset: the training data; `None` for none.
        eval_dataset: the evaluation data, or a dict of them; `None` for none.

    Raises:
        TypeError: one is not a data set of dicts.
        ValueError: one lacks a column, holds several splits, or can be read only once.
    """
    if train_dataset is not None:
        as_records(train_dataset, "train_dataset", answers=True)
    parts = eval_dataset if isinstance(eval_dataset, dict) else {None: eval_dataset}
    for name, part in parts.items():
        if part is not None:
            as_records(part, "eval_dataset" if name is None else f"eval_dataset[{name!r}]")


def refuse_packing(adapter: Adapter, args: ChartQATrainingArguments, model: nn.Module, *, grouped: bool) -> str | None:
    """Return why the questions of a chart cannot be trained as one sequence, or `None` if they can.

    Args:
        adapter: the adapter of the model's family.
        args: the arguments of the training.
        model: the model, with its PEFT weights if it has any.
        grouped: whether questions on one chart share a batch.
    """
    configs = getattr(model, "peft_config", {}).values()
    if not grouped:
        return "group_by_chart is off, and then no questions of a chart meet"
    if not adapter.packs_questions:
        return (
            f"the adapter {adapter.name!r} cannot for this model, which must be decoder-only, with causal sdpa or "
            "eager attention to all tokens and rotary positions of one dimension"
        )
    if args.torch_compile:
        return "torch_compile would compile again for other masks"
    if args.include_num_input_tokens_seen == "non_padding":
        return "include_num_input_tokens_seen='non_padding' would count pairs of tokens"
    if any(getattr(config, "is_prompt_learning", False) for config in configs):
        return "PEFT puts tokens of its own before every sequence, which the mask does not know"
    return None


def check_trainable(model: nn.Module) -> None:
    """Refuse PEFT weights that were loaded for inference, and warn of weights that would be trained in 16 bits.

    Raises:
        ValueError: no PEFT weight is trainable, so that the first backward pass would fail.

    Example:
        >>> check_trainable(nn.Linear(2, 2))
    """
    narrow = {p.dtype for p in model.parameters() if p.requires_grad and p.dtype in (torch.bfloat16, torch.float16)}
    if narrow:
        logger.warning(
            "weights are trained in %s, where most updates of a fine-tuning are rounded away: load the model with "
            "dtype=torch.float32 and leave the 16 bits to mixed precision",
            " and ".join(str(dtype).removeprefix("torch.") for dtype in narrow),
        )
    if hasattr(model, "peft_config") and not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(
            "none of the PEFT weights is trainable: load them with load_checkpoint(..., trainable=True), or with "
            "merge=True and a new peft_config"
        )


def check_best_metric(name: str, eval_dataset: Any, own_metrics: bool) -> None:
    """Refuse a `metric_for_best_model` that no evaluation will have, before training begins.

    Args:
        name: name of the metric, with or without `eval_`.
        eval_dataset: the evaluation data of the trainer. For a dict, the name must say which data set is meant.
        own_metrics: whether there is a `compute_metrics`, which may add other names.

    Raises:
        ValueError: no evaluation has a metric of this name.

    Example:
        >>> check_best_metric("relaxed_acuracy", eval_dataset=None, own_metrics=False)
        Traceback (most recent call last):
        ...
        ValueError: no evaluation has metric_for_best_model='relaxed_acuracy': try 'relaxed_accuracy' or 'loss'
    """
    short = name.removeprefix("eval_")
    if isinstance(eval_dataset, dict):
        part = next((key for key in eval_dataset if short.startswith(f"{key}_")), None)
        if part is None:
            names = ", ".join(f"{key}_relaxed_accuracy" for key in eval_dataset)
            raise ValueError(f"metric_for_best_model={name!r} must say of which data set: {names}")
        short = short.removeprefix(f"{part}_")
    if short not in _OWN and not short.startswith(("relaxed_accuracy_", "share_")) and not own_metrics:
        raise ValueError(f"no evaluation has metric_for_best_model={name!r}: try 'relaxed_accuracy' or 'loss'")
