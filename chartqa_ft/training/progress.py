"""What is shown during training: loss, accuracy and time in a bar, evaluations as lines, and the cost of a chart."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from transformers import TrainerState
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from ..adapters import Adapter
from ..batching.records import first_records
from ..metrics.accuracy import METRIC
from .durations import duration, end_of_run
from .evaluation_lines import evaluation_lines, evaluation_prefix, last_evaluation, name_of

COST_SAMPLE = 4
"""Number of records whose charts are measured."""
_MEASURED_STEPS = 5
"""Steps after the first one whose time the estimate of the end is made of."""
_LONG_RUN = 20
"""Steps that have to be left for an estimate of the end."""
_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}, {remaining} left{postfix}]"


class _Told:
    """What the bar and the plain lines have in common; `write` prints a line above the bar, or as it is."""

    def __init__(self) -> None:
        self._accuracy: dict[str, float] = {}
        self._loss: float | None = None
        self._training = False
        self._mark: float | None = None
        self._seconds: list[float] = []
        self._estimated = False

    def write(self, line: str) -> None:
        print(line, flush=True)

    def latest(self) -> str:
        """Return the latest loss and accuracies, as text."""
        shown = [] if self._loss is None else [f"loss {self._loss:.4g}"]
        for name, value in self._accuracy.items():
            shown.append(f"{name or 'accuracy'} {100 * value:.1f} %")
        return ", ".join(shown)

    # ------------------------------------------------------------------ logs
    def tell(self, args: Any, state: TrainerState, logs: Mapping[str, Any]) -> None:
        """Take a log of the trainer, and write what is new in it."""
        prefix = evaluation_prefix(logs)
        if prefix is not None and self._training:
            before = last_evaluation(state.log_history[:-1], prefix)
            self.write("\n".join(evaluation_lines(logs, before, step=state.global_step)))
            if f"{prefix}_{METRIC}" in logs:
                self._accuracy[name_of(prefix)] = logs[f"{prefix}_{METRIC}"]
        elif "train_loss" in logs and "train_runtime" in logs:  # every log has the latter if tokens are counted
            took, loss = duration(logs["train_runtime"]), logs["train_loss"]
            self.write(f"step {state.global_step:,}: the training took {took}, with a mean loss of {loss:.4g}")
        elif "loss" in logs and isinstance(logs["loss"], (int, float)):
            self._loss = logs["loss"]

    # ------------------------------------------------------------------ time
    def begin(self, args: Any, state: TrainerState) -> None:
        self._training, self._loss, self._accuracy = True, None, {}
        self._mark, self._seconds, self._estimated = None, [], False

    def count_step(self, args: Any, state: TrainerState) -> None:
        """Measure the time of the first steps, without what stands between them, and estimate the end once."""
        now, left = time.monotonic(), state.max_steps - state.global_step
        if self._mark is not None:  # the first step includes what happens once
            self._seconds.append(now - self._mark)
        self._mark = now
        if self._estimated or len(self._seconds) < _MEASURED_STEPS:
            return
        self._estimated = True
        if left >= _LONG_RUN:
            mean = sum(self._seconds) / len(self._seconds)
            self.write(f"a step takes {mean:.3g} s: {end_of_run(left, mean, datetime.now(), more=True)}")

    def pause(self) -> None:
        """Leave out the time until now, of an evaluation or a save."""
        self._mark = None if self._mark is None else time.monotonic()


class ShortProgress(_Told, ProgressCallback):
    """A progress bar with loss, latest accuracy and the time that is left; lines for evaluations above it."""

    def __init__(self, max_str_len: int = 100) -> None:
        ProgressCallback.__init__(self, max_str_len)
        _Told.__init__(self)

    def write(self, line: str) -> None:
        bar: Any = self.prediction_bar  # type: ignore[has-type]
        if bar is not None:  # that of an evaluation that has ended
            bar.close()
            self.prediction_bar = None
        if self.training_bar is None:
            print(line, flush=True)
        else:
            self.training_bar.write(line)

    def on_train_begin(self, args, state, control, **kwargs):
        super().on_train_begin(args, state, control, **kwargs)
        self.begin(args, state)
        if self.training_bar is not None:
            self.training_bar.bar_format = _BAR
            # A resumed run has not done its first steps now: they would make the time that is left too short.
            self.training_bar.initial = self.training_bar.n = self.current_step = state.global_step
            self.training_bar.refresh()

    def on_step_end(self, args, state, control, **kwargs):
        super().on_step_end(args, state, control, **kwargs)
        if state.is_world_process_zero:
            self.count_step(args, state)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if state.is_world_process_zero and logs:
            self.tell(args, state, logs)
            if self.training_bar is not None and self.latest():
                self.training_bar.set_postfix_str(self.latest())

    def on_evaluate(self, args, state, control, **kwargs):
        super().on_evaluate(args, state, control, **kwargs)
        self.pause()

    def on_save(self, args, state, control, **kwargs):
        self.pause()

    def on_train_end(self, args, state, control, **kwargs):
        super().on_train_end(args, state, control, **kwargs)
        self._training = False


class ShortPrinter(_Told, PrinterCallback):
    """The same lines without a progress bar, and one for each log of the loss."""

    def __init__(self) -> None:
        PrinterCallback.__init__(self)
        _Told.__init__(self)

    def on_train_begin(self, args, state, control, **kwargs):
        self.begin(args, state)

    def on_step_end(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            self.count_step(args, state)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not state.is_world_process_zero or not logs:
            return
        self.tell(args, state, logs)
        if "loss" in logs and evaluation_prefix(logs) is None:
            rest = [f"{words} {logs[key]:.4g}" for key, words in _TOLD.items() if isinstance(logs.get(key), float)]
            self.write(f"step {state.global_step:,} of {state.max_steps:,}: {', '.join(rest)}")

    def on_evaluate(self, args, state, control, **kwargs):
        self.pause()

    def on_save(self, args, state, control, **kwargs):
        self.pause()

    def on_train_end(self, args, state, control, **kwargs):
        self._training = False


_TOLD = {"loss": "loss", "learning_rate": "learning rate", "grad_norm": "gradient norm", "epoch": "epoch"}

SHORT = {ProgressCallback: ShortProgress, PrinterCallback: ShortPrinter}
"""Callback of the Trainer -> the callback that takes its place."""


def chart_cost(adapter: Adapter, records: Any, limits: Sequence[str] = ()) -> str:
    """Return a line that says how many image tokens (or encoder positions) the first charts of `records` take.

    Args:
        adapter: the adapter of the model's family.
        records: a data set of any kind that `as_records` takes. A stream is read anew.
        limits: the arguments that change the number, as `cost_arguments` returns them.
    """
    rows = first_records(records, COST_SAMPLE)
    counts = adapter.image_tokens(adapter.encode(rows, with_answers=False)) if rows else None
    if not counts:
        return "the number of image tokens per chart is not known for this family"
    low, high = min(counts), max(counts)
    number = low if low == high else f"{low} to {high}"
    change = f"; {' or '.join(limits)} can change that" if limits else ""
    return f"a chart takes {number} image tokens (the first {len(counts)} records){change}"
