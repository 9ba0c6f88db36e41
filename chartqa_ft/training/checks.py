"""Checks before training: arguments that the trainer would have to ignore are refused before any time is spent."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from datasets import Dataset
from torch import nn
from torch.optim import Optimizer
from transformers import TrainerCallback

from ..adapters import Adapter
from ..batching.records import as_records
from .arguments import ChartQATrainingArguments
from .check import raise_all
from .hook_checks import refused_metrics

logger = logging.getLogger(__name__)

_OWN = ("loss", "relaxed_accuracy", "accuracy_lenient", "accuracy_strict_year")
_PARTS = re.compile(r"relaxed_accuracy_(human|augmented|mean_of_splits|(source|type)_\w+)(_ci_low|_ci_high)?")
_SHARES = ["trailing_dot", "percent", "comma", "dollar", "empty", "unparsable_number", "decimal_comma", "extracted"]
_REFUSED = {
    "compute_loss_func": "override compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None) "
    "in a subclass, where inputs hold labels and all that model(**inputs) needs",
    "preprocess_logits_for_metrics": "evaluations generate answers and keep no logits; pass compute_metrics, which "
    "gets the answers as text",
    "data_collator": "use the arguments random_padding, group_by_chart and pack_questions, pass adapter=... for "
    "another prompt, or override get_train_dataloader in a subclass",
}
_USED = ("callbacks", "compute_metrics", "model_init", "optimizers", "optimizer_cls_and_kwargs")
_OLD = ("tokenizer", "processor", "image_processor", "feature_extractor")


def check_trainer(
    args: Any, model: Any, train_dataset: Any, eval_dataset: Any, trainer_arguments: Mapping[str, Any]
) -> None:
    """Check the arguments of a `ChartQATrainer` that can be checked before the model is prepared.

    Args:
        args: the training arguments.
        model: the model, or its name.
        train_dataset: the training data.
        eval_dataset: the evaluation data.
        trainer_arguments: further arguments of the trainer, by name.

    Raises:
        TypeError: an argument that the trainer does not have.
        ValueError: an argument that the trainer would ignore, or that would fail in the middle of training.
    """
    for name in trainer_arguments:
        if name in _OLD:
            raise TypeError(f"ChartQATrainer has no argument {name}: pass processing_class=<the model's processor>")
        if name not in (*_USED, *_REFUSED):
            raise TypeError(f"ChartQATrainer has no argument {name}{_did_you_mean(name)}")
    if not isinstance(args, ChartQATrainingArguments):
        raise ValueError(f"args must be ChartQATrainingArguments, got {type(args).__name__}")
    for name, advice in _REFUSED.items():
        if trainer_arguments.get(name) is not None:
            raise ValueError(f"ChartQATrainer takes no {name}: {advice}")
    for name, records in (("train_dataset", train_dataset), ("eval_dataset", eval_dataset)):
        if callable(records) and not hasattr(records, "__iter__"):
            raise ValueError(
                f"{name} is a {type(records).__name__}, not records: the trainer makes its own data collator, and "
                "takes model, args, train_dataset, eval_dataset in this order"
            )
        if isinstance(records, str) and (name == "train_dataset" or not isinstance(eval_dataset, dict)):
            raise ValueError(f"{name} is the str {records!r}: pass load_chartqa({records!r})['train'] or the like")
    if (model is None) == (trainer_arguments.get("model_init") is None):
        raise ValueError("ChartQATrainer needs either a model or a model_init: pass one of them")
    _check_callbacks(trainer_arguments.get("callbacks"))
    _check_optimizers(trainer_arguments)
    compute_metrics = trainer_arguments.get("compute_metrics")
    if compute_metrics is not None and not args.predict_with_generate:
        raise ValueError("compute_metrics is called with generated answers: it needs predict_with_generate=True")
    raise_all(refused_metrics(compute_metrics))
    if args.eval_subset is not None:
        for part in eval_dataset.values() if isinstance(eval_dataset, dict) else [eval_dataset]:
            if part is not None and not isinstance(part, Dataset):
                raise ValueError("eval_subset needs a datasets.Dataset to choose from, not a list or a stream")
    if eval_dataset is not None and args.eval_strategy != "no" and args.metric_for_best_model is not None:
        check_best_metric(args.metric_for_best_model, eval_dataset, compute_metrics is not None)


def _did_you_mean(name: str) -> str:
    known = ["model", "args", "train_dataset", "eval_dataset", "processing_class", "adapter", "peft_config", *_USED]
    if name in {field.name for field in fields(ChartQATrainingArguments)}:
        return f": pass it to ChartQATrainingArguments({name}=...)"
    close = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {close[0]}?" if close else f". It has {', '.join(known)}"


def _check_callbacks(callbacks: Any) -> None:
    if callbacks is None:
        return
    if not isinstance(callbacks, (list, tuple)):
        raise ValueError(f"callbacks must be a list, got {type(callbacks).__name__}: pass [callback] for one")
    for callback in callbacks:
        kind = callback if isinstance(callback, type) else type(callback)
        if not issubclass(kind, TrainerCallback):
            raise ValueError(
                f"callbacks has a {kind.__name__}, which is no TrainerCallback: write a class with TrainerCallback as "
                "its base and a method such as on_step_end"
            )


def _check_optimizers(trainer_arguments: Mapping[str, Any]) -> None:
    optimizers = trainer_arguments.get("optimizers", (None, None))
    if not isinstance(optimizers, (tuple, list)) or len(optimizers) != 2:
        raise ValueError("optimizers must be a pair (optimizer, scheduler), where None lets the trainer create one")
    own = [name for name in ("optimizer_cls_and_kwargs", "model_init") if trainer_arguments.get(name) is not None]
    if any(part is not None for part in optimizers) and own:
        advice = {
            "optimizer_cls_and_kwargs": "leave one of them out",
            "model_init": "the weights of model_init do not exist yet: use optimizer_cls_and_kwargs",
        }
        raise ValueError(f"optimizers and {own[0]} exclude each other: {advice[own[0]]}")
    if optimizers[0] is not None and not isinstance(getattr(optimizers[0], "optimizer", optimizers[0]), Optimizer):
        raise TypeError(f"optimizers[0] is {optimizers[0]!r}, not an optimizer such as torch.optim.AdamW(...)")
    chosen = trainer_arguments.get("optimizer_cls_and_kwargs")
    if chosen is not None and not (
        isinstance(chosen, (tuple, list)) and len(chosen) == 2 and callable(chosen[0]) and isinstance(chosen[1], dict)
    ):
        raise ValueError("optimizer_cls_and_kwargs must be a pair such as (torch.optim.AdamW, {'lr': 1e-4})")


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
    if not parts:
        raise ValueError("eval_dataset is an empty dict: pass data sets by name, or leave it out")
    for name, part in parts.items():
        if part is None and name is not None:
            raise ValueError(f"eval_dataset[{name!r}] is None: pass a data set, or leave the name out")
        if part is not None:
            as_records(part, "eval_dataset" if name is None else f"eval_dataset[{name!r}]")


def named_part(eval_dataset: Any, name: str) -> Any:
    """Return the evaluation data set of a name.

    Raises:
        ValueError: there is none; the message lists the names.

    Example:
        >>> named_part({"val": []}, "test")
        Traceback (most recent call last):
        ...
        ValueError: there is no evaluation data set 'test', but val: pass one of these names, or records
    """
    parts = eval_dataset if isinstance(eval_dataset, dict) else {}
    if name not in parts:
        raise ValueError(
            f"there is no evaluation data set {name!r}, but {', '.join(map(str, parts)) or 'none with a name'}: pass "
            "one of these names, or records"
        )
    return parts[name]


def refuse_packing(adapter: Adapter, args: ChartQATrainingArguments, model: nn.Module, *, grouped: bool) -> str | None:
    """Return why the questions of a chart cannot be trained as one sequence, or `None` if they can.

    Args:
        adapter: the adapter of the model's family.
        args: the arguments of the training.
        model: the model, with its PEFT weights if it has any.
        grouped: whether questions on one chart share a batch.
    """
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
        # "val" and "val_human": the longest name wins, unless only a shorter one leaves a metric.
        parts = sorted((key for key in eval_dataset if short.startswith(f"{key}_")), key=lambda key: -len(str(key)))
        if not parts:
            names = ", ".join(f"{key}_relaxed_accuracy" for key in eval_dataset)
            raise ValueError(f"metric_for_best_model={name!r} must say of which data set: {names}")
        metrics = [short.removeprefix(f"{part}_") for part in parts]
        if own_metrics or any(map(_is_metric, metrics)):
            return
        raise ValueError(
            f"no evaluation has metric_for_best_model={name!r}: try '{parts[0]}_relaxed_accuracy' or '{parts[0]}_loss'"
        )
    if not _is_metric(short) and not own_metrics:
        raise ValueError(f"no evaluation has metric_for_best_model={name!r}: try 'relaxed_accuracy' or 'loss'")


def _is_metric(name: str) -> bool:
    return name in _OWN or _PARTS.fullmatch(name) is not None or name.removeprefix("share_") in _SHARES
