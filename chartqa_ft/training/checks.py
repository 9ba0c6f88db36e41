"""Arguments that the trainer would have to ignore are refused before any time is spent."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from datasets import Dataset
from torch import nn

from ..adapters import base_model
from ..adapters.pixels import unchanged
from ..adapters.sharing.packing import PROVEN
from .arguments import ChartQATrainingArguments

logger = logging.getLogger(__name__)

_OWN = ("loss", "relaxed_accuracy", "accuracy_lenient", "accuracy_strict_year")
_REPLACED = ("compute_loss_func", "model_init", "preprocess_logits_for_metrics", "data_collator")


def check_trainer(args: ChartQATrainingArguments, eval_dataset: Any, trainer_arguments: Mapping[str, Any]) -> None:
    """Check what a `ChartQATrainer` is made of, as far as it does not need the model.

    Raises:
        ValueError: something that the trainer would ignore or that would fail in the middle of training.
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


def packs_questions(trainer: Any, args: ChartQATrainingArguments, model: nn.Module, grouped: bool) -> bool:
    """Whether training puts the questions of a chart into one sequence.

    Raises:
        ValueError: `pack_questions=True` where that would fail, or not be exact; the message says why.
    """
    adapter = trainer.adapter
    configs = getattr(model, "peft_config", {}).values()
    reason = next(
        reason
        for applies, reason in (
            (not grouped, "group_by_chart is off, and then no questions of a chart meet"),
            (
                not adapter.packs_questions,
                f"the adapter {adapter.name!r} cannot for this model, which must be decoder-only, with causal sdpa or "
                "eager attention to all tokens and rotary positions of one dimension",
            ),
            (args.torch_compile, "torch_compile would compile again for other masks"),
            (
                args.include_num_input_tokens_seen == "non_padding",
                "include_num_input_tokens_seen='non_padding' would count pairs of tokens",
            ),
            (
                any(getattr(config, "is_prompt_learning", False) for config in configs),
                "the PEFT adapter puts tokens of its own before every sequence, which the mask does not know",
            ),
            (True, ""),
        )
        if applies
    )
    if args.pack_questions and reason:
        raise ValueError(f"pack_questions=True is not possible: {reason}. Leave it unset")
    wanted = args.pack_questions
    if wanted is None:
        # A loss of a subclass may count on a row per question.
        wanted = base_model(model).config.model_type in PROVEN and unchanged(trainer, ("compute_loss",))
    return wanted and not reason


def check_trainable(model: nn.Module) -> None:
    """Refuse a PEFT adapter that was loaded for inference: its training would fail in the first backward pass. Warn of
    weights that are trained in 16 bits."""
    narrow = {p.dtype for p in model.parameters() if p.requires_grad and p.dtype in (torch.bfloat16, torch.float16)}
    if narrow:
        logger.warning(
            "weights are trained in %s, where most updates of a fine-tuning are rounded away: load the model with "
            "dtype=torch.float32 and leave the 16 bits to mixed precision",
            " and ".join(str(dtype).removeprefix("torch.") for dtype in narrow),
        )
    if hasattr(model, "peft_config") and not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(
            "no weight of this PEFT adapter is trainable: load it with load_checkpoint(..., trainable=True), or with "
            "merge=True and a new peft_config"
        )


def check_best_metric(name: str, eval_dataset: Any, own_metrics: bool) -> None:
    """Refuse a `metric_for_best_model` that no evaluation will have, before training and not after an evaluation.

    Args:
        name: of the metric, with or without `eval_`.
        eval_dataset: the trainer's; with a dict the name must say of which part.
        own_metrics: whether a `compute_metrics` may bring other names.
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
