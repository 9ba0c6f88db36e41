"""The metrics of an evaluation, from its answered rows: each row once, in the order of the data set."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from transformers import EvalPrediction
from transformers.trainer_utils import denumpify_detensorize

from ..metrics.accuracy import per_example_correctness, relaxed_accuracy

logger = logging.getLogger(__name__)


def each_row_once(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sort the rows gathered from all ranks by `index`, without repeated rows and fillers (index -1).

    Example:
        >>> each_row_once([{"index": 1}, {"index": 0}, {"index": 1}, {"index": -1}])
        [{'index': 0}, {'index': 1}]
    """
    return [row for _, row in sorted({row["index"]: row for row in rows if row["index"] >= 0}.items())]


def score_rows(
    rows: Sequence[dict[str, Any]],
    *,
    variant: str,
    compute_metrics: Callable[[EvalPrediction], Mapping[str, float]] | None = None,
) -> dict[str, float]:
    """Return the metrics of answered rows, and set the verdict on each row as `correct`.

    `correct` is `None` for a row without a reference.

    Args:
        rows: dicts with `answer` and `source`, and if they were computed, `prediction` (the generated answer) and
            `loss_sum` (nats, summed over the answer's tokens) with `tokens` (their number). `question_type` and
            `year_flags`, which ChartQAPro has, reach the metric.
        variant: the variant of relaxed accuracy.
        compute_metrics: called with answers and references as lists of strings; its metrics are added.

    Returns:
        `loss`, the mean over all answer tokens in nats, and the keys of `relaxed_accuracy` over the rows that have a
        reference. Each is present only if the rows have what it needs.

    Example:
        >>> rows = [{"answer": "10", "source": "human", "prediction": "10.2", "loss_sum": 3.0, "tokens": 2}]
        >>> metrics = score_rows(rows, variant="pix2struct")
        >>> metrics["loss"], metrics["relaxed_accuracy"], rows[0]["correct"]
        (1.5, 1.0, 1.0)
    """
    metrics: dict[str, float] = {}
    if rows and all("tokens" in row for row in rows):
        metrics["loss"] = sum(row["loss_sum"] for row in rows) / max(sum(row["tokens"] for row in rows), 1)
    if not rows or not all("prediction" in row for row in rows):
        return metrics
    for row in rows:
        row["correct"] = None
    scored = [row for row in rows if row["answer"] not in (None, "")]
    if not scored:
        return metrics
    if len(scored) < len(rows):
        logger.warning(
            "%d of %d questions have no answer to compare with: they are not scored",
            len(rows) - len(scored),
            len(rows),
        )
    answers, references = [row["prediction"] for row in scored], [str(row["answer"]) for row in scored]
    extras = {
        name: [row[key] for row in scored]
        for name, key in (("question_types", "question_type"), ("year_flags", "year_flags"))
        if all(row.get(key) is not None for row in scored)
    }
    texts: dict[str, Any] = {"predictions": answers, "references": references, "variant": variant, **extras}
    metrics.update(relaxed_accuracy(sources=[row["source"] or "unknown" for row in scored], **texts))
    for row, verdict in zip(scored, per_example_correctness(**texts), strict=True):
        row["correct"] = verdict
    if compute_metrics is not None:
        metrics.update(compute_metrics(EvalPrediction(predictions=answers, label_ids=references)))
    return denumpify_detensorize(metrics)
