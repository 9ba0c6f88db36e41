"""Hyperparameter search: what a trial may change, and what is optimized."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .arguments import ChartQATrainingArguments
from .checks.argument_values import refusals
from .checks.findings import raise_all

_FIXED = ("output_dir", "freeze", "bf16", "fp16", "use_cpu", "accelerator_config", "generation_config", "report_to")
"""Arguments that are read when the trainer or its arguments are created."""


def check_trial(args: ChartQATrainingArguments, names: Mapping[str, Any]) -> None:
    """Check the arguments that a trial has set.

    Args:
        args: the arguments of the trainer, with the values of the trial.
        names: what `hp_space` returned.

    Raises:
        ValueError: a name that is no argument, or an argument that would not be used; all in one message.
    """
    messages = [f"hp_space has {name}, which is no training argument" for name in names if not hasattr(args, name)]
    messages += [f"hp_space has {name}, which trials cannot change" for name in names if name in _FIXED]
    if "num_train_epochs" in names and "max_steps" not in names and args.max_steps > 0:
        messages.append(
            f"hp_space has num_train_epochs, which max_steps={args.max_steps} overrides: pass max_steps=-1 and "
            "num_train_epochs to the arguments"
        )
    raise_all([*messages, *refusals(args)])


def search_objective(
    args: ChartQATrainingArguments, compute_objective: Callable | None, kwargs: dict[str, Any]
) -> tuple[Callable[[dict[str, float]], float], dict[str, Any]]:
    """Return the objective of a search and the arguments of the search with its direction.

    Raises:
        ValueError: the direction would choose the worst trial.

    Example:
        >>> args = ChartQATrainingArguments(output_dir="out", use_cpu=True)
        >>> objective, chosen = search_objective(args, None, {})
        >>> objective({"eval_relaxed_accuracy": 0.5, "eval_loss": 1.0}), chosen
        (0.5, {'direction': 'maximize'})
    """
    if compute_objective is not None:
        return compute_objective, kwargs
    name = args.metric_for_best_model or ("relaxed_accuracy" if args.predict_with_generate else "loss")
    key = f"eval_{name.removeprefix('eval_')}"
    best = "minimize" if args.greater_is_better is False or name.endswith("loss") else "maximize"
    if kwargs.get("direction", best) != best:
        raise ValueError(
            f"direction={kwargs['direction']!r} would choose the worst {key}: leave it out, or pass compute_objective"
        )

    def objective(metrics: dict[str, float]) -> float:
        return metrics[key]

    return objective, {**kwargs, "direction": best}
