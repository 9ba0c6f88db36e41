"""The arguments of `ChartQATrainer`: those that it would have to ignore are refused before any time is spent."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from datasets import Dataset
from torch.optim import Optimizer
from transformers import TrainerCallback

from ..arguments import ChartQATrainingArguments
from .best_metric import check_best_metric
from .findings import raise_all
from .metric_function import refused_metrics
from .optimizer_arguments import own_optimizer_refusals

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
    _check_optimizers(args, trainer_arguments)
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


def _check_optimizers(args: ChartQATrainingArguments, trainer_arguments: Mapping[str, Any]) -> None:
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
    raise_all(own_optimizer_refusals(args, optimizers[0], chosen))
