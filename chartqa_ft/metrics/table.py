"""The table of scores: its rows, for the command line and the model card, and the table as text."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .accuracy import METRIC, SPLITS


@dataclass(frozen=True)
class ScoreRow:
    """One row of a table of scores.

    Example:
        >>> row = ScoreRow("mean_of_splits", 0.66239, 2500, 0.6437, 0.6805)
        >>> row.title, row.percent, row.interval
        ('mean of splits', '66.24', '64.37 - 68.05')
    """

    part: str
    """`human`, `augmented`, `source_...`, `mean_of_splits`, `pooled` or `type_...`."""
    fraction: float
    """Accuracy between 0 and 1."""
    n: int
    """Number of questions."""
    low: float | None
    """Lower limit of the interval, between 0 and 1; `None` if there is none."""
    high: float | None
    """Upper limit of the interval, likewise."""

    @property
    def title(self) -> str:
        """Name of the row for people."""
        return re.sub("^(source|type)_", "", self.part).replace("_", " ")

    @property
    def percent(self) -> str:
        """Accuracy in percent, with two digits."""
        return f"{100 * self.fraction:.2f}"

    @property
    def interval(self) -> str:
        """Interval in percent, or an empty string."""
        return "" if self.low is None or self.high is None else f"{100 * self.low:.2f} - {100 * self.high:.2f}"


def table_rows(metrics: Mapping[str, Any], *, prefix: str = "") -> list[ScoreRow]:
    """Return the accuracies of `relaxed_accuracy` as rows, in the order of a table.

    The order is human, augmented, other sources, mean of splits, pooled, question types. An accuracy that is missing,
    not finite or without its n has no row.

    Args:
        metrics: the dict of `relaxed_accuracy`, or one that contains it under prefixed keys. Values may be numbers of
            any library.
        prefix: the prefix of every key, such as a Trainer's `"eval_"`.

    Example:
        >>> from chartqa_ft.metrics import relaxed_accuracy
        >>> metrics = relaxed_accuracy(predictions=["1", "2"], references=["1", "3"], sources=["human", "augmented"])
        >>> [(row.title, row.fraction, row.n) for row in table_rows(metrics)]
        [('human', 1.0, 1), ('augmented', 0.0, 1), ('mean of splits', 0.5, 2), ('pooled', 0.5, 2)]
    """
    numbers = {
        str(key)[len(prefix) :]: number
        for key, value in metrics.items()
        if str(key).startswith(prefix) and math.isfinite(number := as_number(value))
    }
    sources = [key[2:] for key in numbers if key.startswith("n_source_")]
    types = [key[2:] for key in numbers if key.startswith("n_type_")]
    rows = []
    for part in (*SPLITS, *sources, "mean_of_splits", "pooled", *types):
        key = METRIC if part == "pooled" else f"{METRIC}_{part}"
        counts = {"pooled": ["n"], "mean_of_splits": [f"n_{split}" for split in SPLITS]}.get(part, [f"n_{part}"])
        if key in numbers and all(name in numbers for name in counts):
            n = sum(int(numbers[name]) for name in counts)
            rows.append(ScoreRow(part, numbers[key], n, numbers.get(f"{key}_ci_low"), numbers.get(f"{key}_ci_high")))
    return rows


def format_table(metrics: Mapping[str, Any], *, prefix: str = "", markdown: bool = False) -> str:
    """Format the accuracies of `relaxed_accuracy` as a table in percent; see `table_rows` for its rows.

    Args:
        metrics: the dict of `relaxed_accuracy`, or one that contains it under prefixed keys.
        prefix: the prefix of every key, such as a Trainer's `"eval_"`.
        markdown: return a Markdown table instead of aligned plain text.

    Raises:
        TypeError: `metrics` is not a dict, or `prefix` is not a text.
        ValueError: there is no relaxed accuracy under that prefix, or it is not a number.

    Example:
        >>> from chartqa_ft import format_table, relaxed_accuracy
        >>> print(format_table(relaxed_accuracy(predictions=["Yes", "12"], references=["yes", "15"])))
        questions  relaxed accuracy [%]  95 % interval  n
        ---------  --------------------  -------------  -
        pooled                    50.00   9.45 - 90.55  2
    """
    if not isinstance(metrics, Mapping):
        raise TypeError(f"metrics must be the dict of relaxed_accuracy, and is {metrics!r:.60}")
    if not isinstance(prefix, str):
        raise TypeError(f"prefix must be a text such as 'eval_', and is {prefix!r}")
    base = f"{prefix}{METRIC}"
    if base not in metrics:
        raise ValueError(
            f"there is no {base!r} among the metrics; a Trainer's metrics need prefix='eval_' or the like"
        )
    level = as_number(metrics.get(f"{base}_confidence", 0.95))
    for name, value in ((base, as_number(metrics[base])), (f"{base}_confidence", level)):
        if not math.isfinite(value):
            raise ValueError(f"{name} among the metrics is {metrics[name]!r}, and must be a number")
    confidence = f"{100 * level:g} % interval"
    rows = [["questions", "relaxed accuracy [%]", confidence, "n"]]
    rows += [[row.title, row.percent, row.interval, f"{row.n:,}"] for row in table_rows(metrics, prefix=prefix)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    cells = [
        [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))] for row in rows
    ]
    if not markdown:
        return "\n".join("  ".join(row) for row in [cells[0], ["-" * width for width in widths], *cells[1:]])
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in [cells[0], rule, *cells[1:]])


def as_number(value: Any) -> float:
    """Return a number of any library as Python's, NaN for anything else. Integers stay integers.

    Example:
        >>> as_number(3), as_number("3")
        (3, nan)
    """
    if hasattr(value, "item"):
        try:
            value = value.item()
        except (TypeError, ValueError, RuntimeError):
            return math.nan  # of several elements
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return math.nan
    try:
        float(value)
    except OverflowError:  # an integer that is larger than any float
        return math.nan
    return value
