"""`compute_metrics`: a function of texts that returns numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from transformers import EvalPrediction

from .function_code import constants_in, names_in, own_code

COMPUTE_METRICS = (
    "compute_metrics gets the answers and references as lists of str (eval_prediction.predictions and .label_ids, "
    "without questions that have no answer), not as arrays of ids or logits"
)

COMPUTE_METRICS_LINE = "write answers, references = eval_prediction, and compare the texts without decoding them"


def refused_metrics(compute_metrics: Any) -> Iterator[str]:
    """Yield why a `compute_metrics` is refused: it is written for ids, as it is usual with `Seq2SeqTrainer`.

    Example:
        >>> def accuracy(prediction):
        ...     labels = [[label for label in row if label != -100] for row in prediction.label_ids]
        ...     return {"rows": len(labels)}
        >>> next(refused_metrics(accuracy))[:70]
        'compute_metrics gets the answers and references as lists of str (eval_'
    """
    if compute_metrics is None:
        return
    if not callable(compute_metrics):
        yield f"compute_metrics must be a function, got {type(compute_metrics).__name__}"
        return
    code = own_code(compute_metrics)
    if names_in(code) & {"batch_decode", "argmax"} or -100 in constants_in(code):
        yield f"{COMPUTE_METRICS}: {COMPUTE_METRICS_LINE}"


def explained(compute_metrics: Callable | None) -> Callable | None:
    """Return a `compute_metrics` whose errors say what it gets."""
    if compute_metrics is None:
        return None

    def call(prediction: EvalPrediction) -> dict[str, Any]:
        try:
            metrics = compute_metrics(prediction)
        except Exception as error:
            raise ValueError(
                f"compute_metrics failed ({type(error).__name__}: {error}). {COMPUTE_METRICS}: {COMPUTE_METRICS_LINE}"
            ) from error
        if not isinstance(metrics, dict):
            raise ValueError(f"compute_metrics must return a dict of numbers, got {type(metrics).__name__}")
        return metrics

    return call
