"""The table of the scores of tasks beside short answers: its rows, and the table as text."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .accuracy import METRIC
from .table import as_number, format_table

_COUNT = re.compile(r"(.+)_n")
_HIDDEN = ("n", "confidence")


@dataclass(frozen=True)
class TaskRow:
    """One metric of a task."""

    task: str
    metric: str
    value: float
    """The number as the task's `score` returns it; scores are fractions."""
    n: int
    """Number of records of the task."""
    low: float | None = None
    """Lower limit of the interval; `None` if there is none."""
    high: float | None = None
    """Upper limit of the interval, likewise."""

    @property
    def interval(self) -> str:
        """Interval as text, or an empty string."""
        return "" if self.low is None or self.high is None else f"{self.low:.4f} - {self.high:.4f}"


def task_rows(metrics: Mapping[str, Any], *, prefix: str = "") -> list[TaskRow]:
    """Return the metrics of tasks other than `qa`, in the order of the dict.

    A task is known by its number of records, `{task}_n`.

    Args:
        metrics: the dict that an evaluation returns. Values may be numbers of any library.
        prefix: the prefix of every key, such as a Trainer's `"eval_"`.

    Example:
        >>> metrics = {"eval_table_rms_f1": 0.5, "eval_table_n": 4, "eval_n": 9, "eval_n_human": 3}
        >>> task_rows(metrics, prefix="eval_")
        [TaskRow(task='table', metric='rms_f1', value=0.5, n=4, low=None, high=None)]
    """
    numbers = {
        str(key)[len(prefix) :]: number
        for key, value in metrics.items()
        if str(key).startswith(prefix) and math.isfinite(number := as_number(value))
    }
    counts = {found[1]: int(value) for key, value in numbers.items() if (found := _COUNT.fullmatch(key))}
    rows = []
    for task, n in counts.items():
        longer = tuple(f"{other}_" for other in counts if other.startswith(f"{task}_"))
        own = {
            key[len(task) + 1 :]: value
            for key, value in numbers.items()
            if key.startswith(f"{task}_") and not key.startswith(longer)
        }
        for name, value in own.items():
            if name not in _HIDDEN and not name.endswith(("_ci_low", "_ci_high")):
                rows.append(TaskRow(task, name, value, n, own.get(f"{name}_ci_low"), own.get(f"{name}_ci_high")))
    return rows


def format_tasks(metrics: Mapping[str, Any], *, prefix: str = "") -> str:
    """Return the metrics of tasks other than `qa` as a table in plain text; "" if there are none.

    Example:
        >>> print(format_tasks({"table_rms_f1": 0.5, "table_rnss": 0.75, "table_n": 4}))
        task   metric   value  interval  n
        -----  ------  ------  --------  -
        table  rms_f1  0.5000            4
        table  rnss    0.7500            4
    """
    rows = [
        [row.task, row.metric, f"{row.value:.4f}", row.interval, f"{row.n:,}"]
        for row in task_rows(metrics, prefix=prefix)
    ]
    if not rows:
        return ""
    rows.insert(0, ["task", "metric", "value", "interval", "n"])
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    rows.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def format_scores(metrics: Mapping[str, Any], *, prefix: str = "") -> str:
    """Return all scores of an evaluation as text: relaxed accuracy, and the metrics of other tasks.

    Example:
        >>> print(format_scores({"table_rms_f1": 0.5, "table_n": 4}).splitlines()[-1])
        table  rms_f1  0.5000            4
    """
    answers = f"{prefix}{METRIC}" in metrics
    tables = [format_table(metrics, prefix=prefix)] if answers else []
    others = format_tasks(metrics, prefix=prefix)
    return "\n\n".join([*tables, *([others] if others else [])])
