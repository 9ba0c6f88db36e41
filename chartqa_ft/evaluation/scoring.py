"""From the answered rows of an evaluation to its metrics: every row once, in the order of the data set."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from transformers import EvalPrediction
from transformers.trainer_utils import denumpify_detensorize

from ..metrics.accuracy import per_example_correctness, relaxed_accuracy

logger = logging.getLogger(__name__)


def each_row_once(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows gathered from all ranks, sorted by `index`; fillers (index -1) and repetitions are left out."""
    return [row for _, row in sorted({row["index"]: row for row in rows if row["index"] >= 0}.items())]


def score_rows(
    rows: Sequence[dict[str, Any]],
    *,
    variant: str,
    compute_metrics: Callable[[EvalPrediction], Mapping[str, float]] | None = None,
) -> dict[str, float]:
    """The metrics of answered rows; adds the verdict of each as `correct` (`None` where there is no reference).

    Args:
        rows: with `answer` and `source`, and as far as they were computed `prediction` (the generated answer) and
            `loss_sum` (nats, summed over the answer's tokens) with `tokens` (their number). `question_type` and
            `year_flags`, which ChartQAPro has, reach the metric.
        variant: of relaxed accuracy.
        compute_metrics: called with answers and references as lists of strings; its metrics join ours.

    Returns:
        `loss`, the mean over all answer tokens in nats, and the keys of `relaxed_accuracy` over the rows that have a
        reference; each only where its rows have what it needs.
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
            "%d of %d questions have no answer to compare with: they are left out", len(rows) - len(scored), len(rows)
        )
    answers, references = [row["prediction"] for row in scored], [str(row["answer"]) for row in scored]
    extras = {
        name: [row[key] for row in scored]
        for name, key in (("question_types", "question_type"), ("year_flags", "year_flags"))
        if all(row.get(key) is not None for row in scored)
    }
    texts = {"predictions": answers, "references": references, "variant": variant, **extras}
    metrics.update(relaxed_accuracy(sources=[row["source"] or "unknown" for row in scored], **texts))
    for row, verdict in zip(scored, per_example_correctness(**texts), strict=True):
        row["correct"] = verdict
    if compute_metrics is not None:
        metrics.update(compute_metrics(EvalPrediction(predictions=answers, label_ids=references)))
    return denumpify_detensorize(metrics)
