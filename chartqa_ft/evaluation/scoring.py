"""The metrics of an evaluation, from its answered rows."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ..adapters.tasks.registry import task_named
from ..adapters.tasks.task import QA_NAME, Task
from ..adapters.text import has_answer
from ..metrics.accuracy import per_example_correctness, relaxed_accuracy
from ..metrics.correctness import FLAGGED, variant_name
from ..metrics.extraction import Extractor, extracted
from .row_table import RowTable

if TYPE_CHECKING:
    from transformers import EvalPrediction

logger = logging.getLogger(__name__)

Rows = Sequence[MutableMapping[str, Any]]
"""Answered rows: a list of dicts or a `RowTable`."""


def score_rows(
    rows: Rows,
    *,
    variant: str,
    extract: str | Extractor | None = None,
    interval: str = "wilson",
    compute_metrics: Callable[[EvalPrediction], Mapping[str, float]] | None = None,
    task_of: Callable[[str], Task] = task_named,
    weights: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Return the metrics of answered rows, and set the verdict on each row as `correct`.

    `correct` is `None` for a row without a reference. If any row has a `task` other than `qa`, all get theirs.

    Args:
        rows: dicts with `answer` and `source`, and if they were computed, `prediction` (the generated answer) and
            `loss_sum` (nats, summed over the answer's tokens) with `tokens` (their number). `question_type` and
            `year_flags`, which ChartQAPro has, reach the metric. Rows without `task` are of the task `qa`.
        variant: the variant of relaxed accuracy.
        extract, interval: as in `relaxed_accuracy`. With `extract`, rows get the answer that was scored as
            `extracted`; `prediction` stays as it was generated.
        compute_metrics: called with answers and references of all tasks as lists of strings; its metrics are added.
        task_of: returns the task of a name.
        weights: task -> weight of its tokens in `loss`, as in the training.

    Returns:
        `loss`, the mean over all answer tokens in nats (rows without an answer have none), and the keys of
        `relaxed_accuracy` over the rows of `qa` that have a reference. Each is present only if the rows have what it
        needs. Other tasks have `{task}_loss` and the metrics of their `score` with the same prefix.

    Raises:
        ValueError: the metric of a task failed; the message names the task.

    Example:
        >>> rows = [{"answer": "10", "source": "human", "prediction": "10.2", "loss_sum": 3.0, "tokens": 2}]
        >>> metrics = score_rows(rows, variant="pix2struct")
        >>> metrics["loss"], metrics["relaxed_accuracy"], rows[0]["correct"]
        (1.5, 1.0, 1.0)
    """
    metrics: dict[str, float] = {}
    groups = _by_task(rows)
    if rows and all("tokens" in row for row in rows) and any(row["tokens"] for row in rows):
        metrics["loss"] = _loss(rows, weights or {})
        metrics |= {f"{name}_loss": _loss(group, {}) for name, group in groups.items() if name != QA_NAME}
        metrics = {name: loss for name, loss in metrics.items() if not math.isnan(loss)}
    if not rows or not all("prediction" in row for row in rows):
        return metrics
    for row in rows:
        row["correct"] = None
    scored = _answered(rows)
    if not scored:
        return metrics
    if len(scored) < len(rows):
        logger.warning(
            "%d of %d questions have no answer to compare with: they are not scored",
            len(rows) - len(scored),
            len(rows),
        )
    if QA_NAME in groups:
        metrics |= _score_answers(groups[QA_NAME], variant=variant, extract=extract, interval=interval)
    for name, group in groups.items():
        if name != QA_NAME:
            metrics |= _score_task(task_of(name), group)
    if compute_metrics is None:
        return metrics
    # Here, since they import all of transformers' trainer, and with it peft.
    from transformers import EvalPrediction
    from transformers.trainer_utils import denumpify_detensorize

    answers, references = [row["prediction"] for row in scored], [str(row["answer"]) for row in scored]
    metrics.update(compute_metrics(EvalPrediction(predictions=answers, label_ids=references)))
    return denumpify_detensorize(metrics)


def main_metrics(rows: Sequence[Mapping[str, Any]], task_of: Callable[[str], Task] = task_named) -> list[str]:
    """Return the names of the main metrics of the tasks of some rows, without the prefix of an evaluation.

    Example:
        >>> main_metrics([{"task": "table"}, {"task": "table"}, {}])
        ['table_rms_f1', 'relaxed_accuracy']
    """
    names = dict.fromkeys(map(_task_name, rows))
    return ["relaxed_accuracy" if name == QA_NAME else f"{name}_{task_of(name).metric}" for name in names]


def _by_task(rows: Rows) -> dict[str, Rows]:
    """Return the rows of each task, and name the task of every row if there are others than `qa`."""
    names = dict.fromkeys(map(_task_name, rows))
    if len(names) == 1:
        groups = dict.fromkeys(names, rows)
    else:
        groups = {name: _where(rows, partial(_is_of, name)) for name in names}
    if groups.keys() - {QA_NAME}:
        for row in groups.get(QA_NAME, ()):
            row["task"] = QA_NAME
    return groups


def _task_name(row: Mapping[str, Any]) -> str:
    return row.get("task") or QA_NAME


def _is_of(task: str, row: Mapping[str, Any]) -> bool:
    return _task_name(row) == task


def _where(rows: Rows, condition: Callable[[MutableMapping[str, Any]], bool]) -> Rows:
    return rows.where(condition) if isinstance(rows, RowTable) else [row for row in rows if condition(row)]


def _answered(rows: Rows) -> Rows:
    """Return the rows that have an answer to compare with."""
    return rows if all(map(has_answer, rows)) else _where(rows, has_answer)


def _loss(rows: Sequence[Mapping[str, Any]], weights: Mapping[str, float]) -> float:
    """Return the mean loss per answer token, NaN if there are none."""
    tokens = sum(row["tokens"] for row in rows)
    if not weights:
        return sum(row["loss_sum"] for row in rows) / tokens if tokens else math.nan
    return sum(weights.get(_task_name(row), 1.0) * row["loss_sum"] for row in rows) / tokens


def _score_task(task: Task, rows: Rows) -> dict[str, float]:
    """Return the metrics of the rows of a task other than `qa`, and set their verdicts."""
    scored = _answered(rows)
    if not scored:
        return {}
    answers, references = [row["prediction"] for row in scored], [str(row["answer"]) for row in scored]
    try:
        verdicts, scores = task.verdicts(answers, references), task.score(answers, references)
    except Exception as error:
        raise ValueError(f"task {task.name!r}: {type(error).__name__}: {error}") from error
    for row, verdict in zip(scored, verdicts, strict=True):
        row["correct"] = float(verdict)
    return {f"{task.name}_{name}": value.item() if hasattr(value, "item") else value for name, value in scores.items()}


def _score_answers(rows: Rows, *, variant: str, extract: str | Extractor | None, interval: str) -> dict[str, float]:
    """Return the metrics of short answers, and set their verdicts."""
    metrics: dict[str, float] = {}
    scored = _answered(rows)
    if not scored:
        return metrics
    answers, references = [row["prediction"] for row in scored], [str(row["answer"]) for row in scored]
    extras = {
        name: [row.get(key) for row in scored]
        for name, key in (("question_types", "question_type"), ("year_flags", "year_flags"))
        if any(row.get(key) is not None for row in scored)
    }
    flagged = sum(row.get("year_flags") is not None for row in scored)
    if variant_name(variant) in FLAGGED and 0 < flagged < len(scored):
        logger.warning(
            "%d of %d questions have no year_flags: a number within 5 %% of a year counts as right there",
            len(scored) - flagged,
            len(scored),
        )
    texts, found = extracted(answers, extract)
    scoring: dict[str, Any] = {"predictions": texts, "references": references, "variant": variant, **extras}
    metrics.update(
        relaxed_accuracy(
            sources=[row["source"] or "unknown" for row in scored],
            interval=interval,
            chart_ids=[row.get("chart_id") for row in scored] if interval == "clustered" else None,
            **scoring,
        )
    )
    for row, verdict in zip(scored, per_example_correctness(**scoring), strict=True):
        row["correct"] = verdict
    if extract is not None:
        metrics["share_extracted"] = found / len(scored)
        # Of every row, so that a comparison of files finds no mix.
        for row, text in zip(rows, extracted((row["prediction"] for row in rows), extract)[0], strict=True):
            row["extracted"] = text
    return metrics
