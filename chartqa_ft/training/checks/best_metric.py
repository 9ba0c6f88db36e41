"""`metric_for_best_model`: a metric that the evaluations have."""

from __future__ import annotations

import re
from typing import Any

_OWN = ("loss", "relaxed_accuracy", "accuracy_lenient", "accuracy_strict_year")

_PARTS = re.compile(r"relaxed_accuracy_(human|augmented|mean_of_splits|(source|type)_\w+)(_ci_low|_ci_high)?")

_SHARES = ["trailing_dot", "percent", "comma", "dollar", "empty", "unparsable_number", "decimal_comma", "extracted"]


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
