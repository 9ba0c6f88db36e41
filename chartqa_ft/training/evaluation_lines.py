"""What an evaluation during training found, as one line for each split, with the change since the last one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..metrics.accuracy import METRIC
from ..metrics.table import table_rows
from ..metrics.task_table import TaskRow, task_rows

__all__ = ["evaluation_lines", "evaluation_prefix", "last_evaluation", "name_of"]

_LEFT_OUT = re.compile(
    f"{METRIC}|n$|n_|share_|accuracy_(lenient|strict_year)$|runtime$|samples_per_second$|steps_per_second$|jit_|mem_|model_preparation_time$"
)
"""Metrics that have a line of their own, or stand in the log only."""


def evaluation_prefix(logs: Mapping[str, Any]) -> str | None:
    """Return the prefix of the metrics of an evaluation, such as `"eval"`; `None` for other logs.

    Example:
        >>> evaluation_prefix({"eval_easy_loss": 1.5, "eval_easy_runtime": 2.0, "epoch": 1.0})
        'eval_easy'
        >>> evaluation_prefix({"train_runtime": 9.0}), evaluation_prefix({"loss": 1.5})
        (None, None)
    """
    names = [key.removesuffix("_runtime") for key in logs if key.endswith("_runtime")]
    return next((name for name in names if name != "train"), None)


def name_of(prefix: str) -> str:
    """Return the name of the data set that a prefix stands for; "" for the only one of a training.

    Example:
        >>> name_of("eval"), name_of("eval_easy"), name_of("final")
        ('', 'easy', 'final')
    """
    return prefix.removeprefix("eval").removeprefix("_")


def last_evaluation(log_history: Sequence[Mapping[str, Any]], prefix: str) -> Mapping[str, Any]:
    """Return the last log with the metrics of an evaluation under this prefix; an empty dict if there is none."""
    return next((logs for logs in reversed(log_history) if f"{prefix}_runtime" in logs), {})


def evaluation_lines(
    logs: Mapping[str, Any], before: Mapping[str, Any] | None = None, *, step: int | None = None
) -> list[str]:
    """Return the accuracy of each split, and the loss, as lines; in parentheses the changes since `before`.

    Accuracies are in percent, their changes in points.

    Args:
        logs: the metrics of an evaluation as the `Trainer` logs them.
        before: those of the evaluation before, if there was one.
        step: the optimizer step of the weights.

    Raises:
        ValueError: `logs` are not those of an evaluation.

    Example:
        >>> logs = {"eval_relaxed_accuracy": 0.5, "eval_n": 20, "eval_loss": 1.25, "eval_runtime": 3.0}
        >>> evaluation_lines(logs, {**logs, "eval_relaxed_accuracy": 0.4, "eval_loss": 1.5}, step=8)
        ['step 8, all: 50.00 % (+10.00) of 20 questions; loss 1.25 (-0.25)']
    """
    prefix = evaluation_prefix(logs)
    if prefix is None:
        raise ValueError(f"these are not the metrics of an evaluation: {', '.join(logs)}")
    start = f"{prefix}_"
    old = {row.part: row.fraction for row in table_rows(before or {}, prefix=start)}
    others = ("mean_of_splits", "type_")  # in the log, and in the table of the final evaluation
    label = ", ".join(part for part in ("" if step is None else f"step {step:,}", name_of(prefix)) if part)
    rows = [row for row in table_rows(logs, prefix=start) if not row.part.startswith(others)]
    if len(rows) == 2:
        rows = rows[1:]  # all questions are of one source
    lines = []
    for row in sorted(rows, key=lambda row: row.part == "pooled"):
        change = f" ({100 * (row.fraction - old[row.part]):+.2f})" if row.part in old else ""
        title = "all" if row.part == "pooled" else row.title
        lines.append(f"{title}: {row.percent} %{change} of {row.n:,} question{'s' * (row.n != 1)}")
    tasks = task_rows(logs, prefix=start)
    known = {(row.task, row.metric): row.value for row in task_rows(before or {}, prefix=start)}
    for name in dict.fromkeys(row.task for row in tasks):
        own = [row for row in tasks if row.task == name]
        changes = {row.metric: row.value - known[name, row.metric] for row in own if (name, row.metric) in known}
        shown = [f"{row.metric} {row.value:.4g}" + _change(changes.get(row.metric)) for row in own]
        lines.append(f"{name}: {', '.join(shown)} of {own[0].n:,}")
    rest = _others({key: logs[key] for key in logs if not _is_of(key, start, tasks)}, before or {}, start)
    if rest:
        place = next((n for n, line in enumerate(lines) if line.startswith("all: ")), len(lines) - 1)
        place = max(place, 0)
        lines[place : place + 1] = ["; ".join([*lines[place : place + 1], *rest])]
    return [f"{label}, {line}" if label else line for line in lines]


def _change(difference: float | None) -> str:
    return "" if difference is None else f" ({difference:+.4g})"


def _is_of(key: str, start: str, tasks: Sequence[TaskRow]) -> bool:
    """Return whether a metric is one of those of the tasks."""
    return any(key.startswith(f"{start}{task}_") for task in {row.task for row in tasks})


def _others(logs: Mapping[str, Any], before: Mapping[str, Any], start: str) -> list[str]:
    """Return the loss and the metrics of `compute_metrics`, each with its change."""
    own = {key[len(start) :]: value for key, value in logs.items() if key.startswith(start)}
    shown = []
    for name, value in own.items():
        if _LEFT_OUT.match(name) or isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        old = before.get(start + name)
        change = f" ({value - old:+.4g})" if isinstance(old, (int, float)) else ""
        shown.append(f"{name} {value:.4g}{change}")
    return shown
