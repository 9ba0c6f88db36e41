"""`compute_metrics`: a function of texts that returns numbers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from numbers import Real
from typing import Any

import numpy as np
import torch
from transformers import EvalPrediction

from .function_code import constants_in, names_in, own_code, returned_constants

COMPUTE_METRICS = (
    "compute_metrics gets the answers and references as lists of str (eval_prediction.predictions and .label_ids, "
    "without questions that have no answer), not as arrays of ids or logits"
)
COMPUTE_METRICS_LINE = "write answers, references = eval_prediction, and compare the texts without decoding them"
RESULT = "compute_metrics must return a dict of str to numbers, such as {'exact_match': 0.5}"


class MetricsError(ValueError):
    """The metrics of an evaluation cannot be used. The answers of the evaluation are kept."""


def refused_metrics(compute_metrics: Any) -> Iterator[str]:
    """Yield why a `compute_metrics` is refused, as far as this is known before it is called.

    It is no function of one argument, it is written for ids, as it is usual with `Seq2SeqTrainer`, or it returns no
    dict in any case.

    Example:
        >>> def accuracy(prediction):
        ...     labels = [[label for label in row if label != -100] for row in prediction.label_ids]
        ...     return {"rows": len(labels)}
        >>> next(refused_metrics(accuracy))[:70]
        'compute_metrics gets the answers and references as lists of str (eval_'
        >>> next(refused_metrics(lambda prediction: 0.5))
        "compute_metrics must return a dict of str to numbers, such as {'exact_match': 0.5}, and returns 0.5"
    """
    if compute_metrics is None:
        return
    if not callable(compute_metrics):
        yield f"compute_metrics must be a function of one argument, got {type(compute_metrics).__name__}"
        return
    if not _takes_one(compute_metrics):
        yield (
            f"compute_metrics must take one argument, the EvalPrediction with predictions and label_ids, and is "
            f"{_name(compute_metrics)}{inspect.signature(compute_metrics, follow_wrapped=False)}"
        )
        return
    if inspect.isgeneratorfunction(compute_metrics) or inspect.iscoroutinefunction(compute_metrics):
        yield f"{RESULT}, and {_name(compute_metrics)} is a generator or coroutine: write it with def and return"
        return
    returned = returned_constants(compute_metrics)
    if returned:
        yield f"{RESULT}, and returns {' or '.join(map(repr, returned))}"
        return
    code = own_code(compute_metrics)
    if names_in(code) & {"batch_decode", "argmax"} or -100 in constants_in(code):
        yield f"{COMPUTE_METRICS}: {COMPUTE_METRICS_LINE}"


def checked_metrics(compute_metrics: Callable | None) -> Callable | None:
    """Return a `compute_metrics` that returns Python's numbers, or raises a `MetricsError` that says what is wrong.

    Example:
        >>> checked_metrics(lambda prediction: {"length": np.mean([1, 2])})(None)
        {'length': 1.5}
    """
    if compute_metrics is None:
        return None

    def call(prediction: EvalPrediction) -> dict[str, float]:
        try:
            metrics = compute_metrics(prediction)
        except Exception as error:
            raise MetricsError(
                f"compute_metrics failed ({type(error).__name__}: {error}). {COMPUTE_METRICS}: {COMPUTE_METRICS_LINE}"
            ) from error
        if not isinstance(metrics, Mapping):
            raise MetricsError(f"{RESULT}, got {type(metrics).__name__}")
        return {_checked_name(name): _number(name, value) for name, value in metrics.items()}

    return call


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise MetricsError(f"{RESULT}, got the name {name!r}")
    return name


def _number(name: Any, value: Any) -> float:
    """Return a number of any library as Python's, also from an array or a tensor that holds one."""
    single = isinstance(value, np.generic)
    single |= isinstance(value, np.ndarray) and value.size == 1
    single |= isinstance(value, torch.Tensor) and value.numel() == 1
    number = value.item() if single else value
    if not isinstance(number, Real):
        raise MetricsError(f"{RESULT}, got {repr(value)[:80]} ({type(value).__name__}) as {name!r}")
    return number if isinstance(number, (int, float)) else float(number)


def _takes_one(function: Callable) -> bool:
    try:
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):  # of a function without a signature
        return True
    try:
        signature.bind(None)
    except TypeError:
        return False
    return True


def _name(function: Callable) -> str:
    return getattr(function, "__name__", type(function).__name__)
