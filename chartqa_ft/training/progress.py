"""What a person watches while a model learns: the few numbers of the log that are read on the way."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from transformers.trainer_callback import PrinterCallback, ProgressCallback

_DETAILS = re.compile(
    r"_ci_(low|high)$|_confidence$|_share_|_accuracy_(lenient|strict_year)$|_per_second$|_n(_|$)|_flos$"
)


def headline(logs: Mapping[str, Any]) -> dict[str, Any]:
    """`logs` without intervals, diagnostics, counts and speeds: those are in the history and the files of the run."""
    return {key: value for key, value in logs.items() if not _DETAILS.search(key)}


class ShortProgress(ProgressCallback):
    """The progress bar of the Trainer, with lines that fit a screen."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        super().on_log(args, state, control, logs=headline(logs or {}), **kwargs)


class ShortPrinter(PrinterCallback):
    """The same lines where progress bars are off."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        super().on_log(args, state, control, logs=headline(logs or {}), **kwargs)


SHORT = {ProgressCallback: ShortProgress, PrinterCallback: ShortPrinter}
"""Which callback of the Trainer gives way to which of these."""
