"""Scores as a table for people."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .accuracy import _SPLITS, _join


def format_table(metrics: Mapping[str, float], *, prefix: str = "", markdown: bool = False) -> str:
    """The accuracies of `relaxed_accuracy` as a table in percent: human, augmented, mean of splits, pooled, others.

    Args:
        metrics: the dict of `relaxed_accuracy`, or one that contains it under prefixed keys.
        prefix: put before every key, as a Trainer does: `"eval_"`.
        markdown: a Markdown table; otherwise aligned plain text.

    Raises:
        ValueError: there is no relaxed accuracy under that prefix.
    """
    base = f"{prefix}relaxed_accuracy"
    if base not in metrics:
        raise ValueError(
            f"there is no {base!r} among the metrics; a Trainer's metrics need prefix='eval_' or the like"
        )
    counted = f"{prefix}n_"
    others = [key[len(counted) :] for key in metrics if key.startswith((f"{counted}source_", f"{counted}type_"))]
    sources = [name for name in others if name.startswith("source_")]
    kinds = [name for name in others if name.startswith("type_")]
    confidence = f"{100 * metrics.get(f'{base}_confidence', 0.95):g} % interval"
    rows = [["questions", "relaxed accuracy [%]", confidence, "n"]]
    for name in [*_SPLITS, *sources, "mean_of_splits", "", *kinds]:
        key = _join(base, name)
        if key in metrics:
            title = re.sub(r"^(source|type)_", "", name).replace("_", " ") or "pooled"
            names = _SPLITS if name == "mean_of_splits" else (name,)
            n = sum(metrics[_join(f"{prefix}n", part)] for part in names)
            low, high = (metrics.get(f"{key}_ci_{end}") for end in ("low", "high"))
            limits = "" if low is None or high is None else f"{100 * low:.2f} - {100 * high:.2f}"
            rows.append([title, f"{100 * metrics[key]:.2f}", limits, f"{int(n):,}"])
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    cells = [
        [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))] for row in rows
    ]
    if not markdown:
        return "\n".join("  ".join(row) for row in [cells[0], ["-" * width for width in widths], *cells[1:]])
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in [cells[0], rule, *cells[1:]])
