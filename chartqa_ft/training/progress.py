"""What is shown during training: the important numbers of the log, and how many tokens a chart takes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from transformers.trainer_callback import PrinterCallback, ProgressCallback

from ..adapters import Adapter
from ..batching.records import first_records

COST_SAMPLE = 4
"""Number of records whose charts are measured."""

_DETAILS = re.compile(
    r"_ci_(low|high)$|_confidence$|_share_|_accuracy_(lenient|strict_year)$|_per_second$|_n(_|$)|_flos$"
)


def headline(logs: Mapping[str, Any]) -> dict[str, Any]:
    """Return `logs` without intervals, diagnostics, counts and speeds, which the history and files of a run hold.

    Example:
        >>> headline({"eval_relaxed_accuracy": 0.5, "eval_relaxed_accuracy_ci_low": 0.3, "eval_runtime": 2.0})
        {'eval_relaxed_accuracy': 0.5, 'eval_runtime': 2.0}
    """
    return {key: value for key, value in logs.items() if not _DETAILS.search(key)}


class ShortProgress(ProgressCallback):
    """The progress bar of the Trainer with shorter log lines."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        super().on_log(args, state, control, logs=headline(logs or {}), **kwargs)


class ShortPrinter(PrinterCallback):
    """The same log lines without a progress bar."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        super().on_log(args, state, control, logs=headline(logs or {}), **kwargs)


SHORT = {ProgressCallback: ShortProgress, PrinterCallback: ShortPrinter}
"""Callback of the Trainer -> the callback that takes its place."""


def chart_cost(adapter: Adapter, records: Any) -> str:
    """Return a line that says how many image tokens (or encoder positions) the first charts of `records` take.

    Args:
        adapter: the adapter of the model's family.
        records: a data set of any kind that `as_records` takes. A stream is read anew.
    """
    rows = first_records(records, COST_SAMPLE)
    counts = adapter.image_tokens(adapter.encode(rows, with_answers=False)) if rows else None
    if not counts:
        return "the number of image tokens per chart is not known for this family"
    low, high = min(counts), max(counts)
    number = low if low == high else f"{low} to {high}"
    return f"a chart takes {number} image tokens (the first {len(counts)} records); set_image_cost can change that"
