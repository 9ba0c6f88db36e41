"""Hyperparameter search: what a trial may change, and what is optimized."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from .arguments import ChartQATrainingArguments
from .checks.argument_types import make_plain
from .checks.argument_values import refusals
from .checks.best_metric import check_best_metric
from .checks.changed_arguments import FIXED_ARGUMENTS
from .checks.findings import raise_all
from .checks.optimizer_arguments import unread_arguments
from .copying import own_copy
from .parts import as_rates

_FIXED = ("output_dir", *FIXED_ARGUMENTS)


def forget_num_steps(args: ChartQATrainingArguments) -> None:
    """Remove `num_steps` from `gradient_accumulation_kwargs`, where upstream's `Trainer` adds it when it is created.

    Upstream refuses it when it creates another accelerator, for a trial.

    Example:
        >>> args = ChartQATrainingArguments(output_dir="out", use_cpu=True)
        >>> args.accelerator_config.gradient_accumulation_kwargs = {"sync_each_batch": True, "num_steps": 1}
        >>> forget_num_steps(args)
        >>> args.accelerator_config.gradient_accumulation_kwargs
        {'sync_each_batch': True}
    """
    (args.accelerator_config.gradient_accumulation_kwargs or {}).pop("num_steps", None)


def set_trial(
    args: ChartQATrainingArguments,
    before: ChartQATrainingArguments,
    values: Mapping[str, Any],
    own_optimizer: Any = None,
) -> None:
    """Set the arguments of a trial. All others are as before the search, whatever earlier trials had.

    Upstream converts each value to the type of the old one, which makes 0 of 0.5 where the old value was 100.

    Args:
        args: the arguments of the trainer, which are changed.
        before: the arguments as they were before the search.
        values: what `hp_space` returned.
        own_optimizer: `optimizer_cls_and_kwargs` of the trainer.

    Raises:
        ValueError: a name that is no argument, or an argument that would not be used; all in one message.

    Example:
        >>> args = ChartQATrainingArguments(output_dir="out", use_cpu=True, warmup_steps=100)
        >>> set_trial(args, own_copy(args), {"warmup_steps": 0.5})
        >>> args.warmup_steps
        0.5
    """
    args.__dict__.update(vars(own_copy(before)))
    for name, value in values.items():
        if hasattr(args, name) and name not in _FIXED:
            kind = type(getattr(before, name))
            setattr(args, name, kind(value) if issubclass(kind, Enum) else value)
    make_plain(args)
    check_trial(args, values, own_optimizer)
    args.learning_rates = as_rates(args.learning_rates)


def check_trial(args: ChartQATrainingArguments, names: Mapping[str, Any], own_optimizer: Any = None) -> None:
    """Check the arguments that a trial has set.

    Args:
        args: the arguments of the trainer, with the values of the trial.
        names: what `hp_space` returned.
        own_optimizer: `optimizer_cls_and_kwargs` of the trainer.

    Raises:
        ValueError: a name that is no argument, or an argument that would not be used; all in one message.
    """
    unread = () if args.uses_deepspeed else unread_arguments(None, own_optimizer)
    messages = [f"hp_space has {name}, which is no training argument" for name in names if not hasattr(args, name)]
    messages += [f"hp_space has {name}, which trials cannot change" for name in names if name in _FIXED]
    messages += [
        f"hp_space has {name}, which optimizer_cls_and_kwargs does not read, so that all trials would be the same: "
        "leave one of them out"
        for name in names
        if name in unread
    ]
    if "num_train_epochs" in names and "max_steps" not in names and args.max_steps > 0:
        messages.append(
            f"hp_space has num_train_epochs, which max_steps={args.max_steps} overrides: pass max_steps=-1 and "
            "num_train_epochs to the arguments"
        )
    raise_all([*messages, *refusals(args)])


def search_objective(
    args: ChartQATrainingArguments,
    compute_objective: Callable | None,
    kwargs: dict[str, Any],
    *,
    eval_dataset: Any,
    own_metrics: bool = False,
) -> tuple[Callable[[dict[str, float]], float], dict[str, Any]]:
    """Return the objective of a search and the arguments of the search with its direction.

    Args:
        args: the arguments of the trainer.
        compute_objective: the objective of the user, if any.
        kwargs: the arguments of the search.
        eval_dataset: the records that trials are scored on, or a dict of them.
        own_metrics: whether the trainer has `compute_metrics`, which may add other names.

    Raises:
        ValueError: there is nothing to score trials on, no evaluation will have the metric, or the direction would
            choose the worst trial.

    Example:
        >>> args = ChartQATrainingArguments(output_dir="out", use_cpu=True)
        >>> from chartqa_ft import synthetic_chartqa
        >>> objective, chosen = search_objective(args, None, {}, eval_dataset=synthetic_chartqa(1, seed=0))
        >>> objective({"eval_relaxed_accuracy": 0.5, "eval_loss": 1.0}), chosen
        (0.5, {'direction': 'maximize'})
    """
    if eval_dataset is None:
        raise ValueError("hyperparameter_search scores each trial on eval_dataset: pass one to the trainer")
    if compute_objective is not None:
        return compute_objective, kwargs
    name = args.metric_for_best_model or ("relaxed_accuracy" if args.predict_with_generate else "loss")
    key = f"eval_{name.removeprefix('eval_')}"
    check_best_metric(name, eval_dataset, own_metrics)
    best = "minimize" if args.greater_is_better is False or name.endswith("loss") else "maximize"
    if kwargs.get("direction", best) != best:
        raise ValueError(
            f"direction={kwargs['direction']!r} would choose the worst {key}: leave it out, or pass compute_objective"
        )

    def objective(metrics: dict[str, float]) -> float:
        if key not in metrics:
            raise ValueError(
                f"the evaluation of the trial has no {key}: set metric_for_best_model to one of "
                f"{', '.join(metrics)}, or pass compute_objective"
            )
        return metrics[key]

    return objective, {**kwargs, "direction": best}
