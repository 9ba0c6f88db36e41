"""From the answered rows of an evaluation to its metrics: every row once, in the order of the data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from transformers import EvalPrediction

from .metrics import per_example_correctness, relaxed_accuracy


def each_row_once(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows gathered from all ranks, sorted by `index`; fillers (index -1) and repetitions are left out."""
    return [row for _, row in sorted({row["index"]: row for row in rows if row["index"] >= 0}.items())]


def score_rows(
    rows: Sequence[dict[str, Any]],
    *,
    variant: str,
    compute_metrics: Callable[[EvalPrediction], Mapping[str, float]] | None = None,
) -> dict[str, float]:
    """The metrics of answered rows; adds the verdict of each as `correct`.

    Args:
        rows: with `answer` and `source`, and as far as they were computed `prediction` (the generated answer) and
            `loss_sum` (nats, summed over the answer's tokens) with `tokens` (their number).
        variant: of relaxed accuracy.
        compute_metrics: called with answers and references as lists of strings; its metrics join ours.

    Returns:
        `loss`, the mean over all answer tokens in nats, and the keys of `relaxed_accuracy`; each only where its rows
        have what it needs.
    """
    metrics: dict[str, float] = {}
    if rows and all("tokens" in row for row in rows):
        metrics["loss"] = sum(row["loss_sum"] for row in rows) / max(sum(row["tokens"] for row in rows), 1)
    if not rows or not all("prediction" in row for row in rows):
        return metrics
    answers, references = [row["prediction"] for row in rows], [row["answer"] for row in rows]
    verdicts: Sequence[float | None] = [None] * len(rows)
    if all(references):
        sources = [row["source"] or "unknown" for row in rows]
        metrics.update(relaxed_accuracy(predictions=answers, references=references, sources=sources, variant=variant))
        verdicts = per_example_correctness(predictions=answers, references=references, variant=variant)
        if compute_metrics is not None:
            metrics.update(compute_metrics(EvalPrediction(predictions=answers, label_ids=references)))
    for row, verdict in zip(rows, verdicts, strict=True):
        row["correct"] = verdict
    return metrics
