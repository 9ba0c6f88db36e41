"""Trackers of `report_to`: find them among the callbacks of a trainer, and close them after a final evaluation."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from transformers import TrainerCallback
from transformers.integrations import integration_utils

from ..hub.public import public_arguments

__all__ = ["KeptOpen", "kept_open", "public_command_line", "trackers_of", "without_trackers"]

_EVENTS = tuple(name for name in dir(TrainerCallback) if name.startswith("on_") and name != "on_train_end")


class KeptOpen(TrainerCallback):
    """Hands all events on to some trackers, but the end of the training only when it is closed.

    Trackers close their run at the end of the training: what is logged later is lost, or begins another run.

    Args:
        trackers: callbacks of upstream's trackers.
        stopped: returns whether the process is about to end, so that they are closed at once.
    """

    def __init__(self, trackers: Sequence[TrainerCallback], stopped: Callable[[], bool] = bool) -> None:
        self.trackers = list(trackers)
        self.stopped = stopped
        self._end: tuple[tuple[Any, ...], dict[str, Any]] | None = None

    def on_train_end(self, args, state, control, **kwargs):
        self._end = (args, state, control), kwargs
        if self.stopped():
            self.close()

    def close(self) -> None:
        """Tell the trackers that the training has ended, if it has."""
        end, self._end = self._end, None
        if end is not None:
            for tracker in self.trackers:
                tracker.on_train_end(*end[0], **end[1])


def _handing_on(event: str) -> Callable[..., None]:
    def hand_on(self: KeptOpen, *args: Any, **kwargs: Any) -> None:
        for tracker in self.trackers:
            getattr(tracker, event)(*args, **kwargs)

    return hand_on


for _event in _EVENTS:
    setattr(KeptOpen, _event, _handing_on(_event))


def trackers_of(callbacks: Sequence[TrainerCallback]) -> list[TrainerCallback]:
    """Return the callbacks that are trackers of upstream, in their order.

    Example:
        >>> from transformers import PrinterCallback
        >>> trackers_of([PrinterCallback()])
        []
    """
    kinds = tuple(integration_utils.INTEGRATION_TO_CALLBACK.values())
    found: list[TrainerCallback] = []
    for callback in callbacks:
        if isinstance(callback, KeptOpen):
            found += callback.trackers
        elif isinstance(callback, kinds):
            found.append(callback)
    return found


@contextmanager
def public_command_line() -> Iterator[None]:
    """Leave secrets out of `sys.argv` within the block: trackers such as W&B publish it when they begin a run.

    Example:
        >>> with public_command_line():
        ...     "--hub_token" in sys.argv
        False
    """
    before = sys.argv
    sys.argv = [*before[:1], *public_arguments(before[1:])]
    try:
        yield
    finally:
        sys.argv = before


@contextmanager
def kept_open(trainer: Any) -> Iterator[None]:
    """Keep the trackers of a `ChartQATrainer` open until the end of the block, in which it trains and evaluates."""
    trackers = trackers_of(trainer.callback_handler.callbacks)
    if not trackers:
        yield
        return
    signals = trainer.stop_on_signal
    keeper = KeptOpen(trackers, lambda: bool(signals.received or signals.agreed))
    for tracker in trackers:
        trainer.remove_callback(tracker)
    trainer.add_callback(keeper)
    try:
        yield
    finally:
        keeper.close()
        trainer.remove_callback(keeper)
        for tracker in trackers:
            trainer.add_callback(tracker)


@contextmanager
def without_trackers(trainer: Any) -> Iterator[None]:
    """Leave the trackers of a trainer out within the block, such as for an evaluation before the training.

    A tracker that is told of it begins a run of its own before it is told of the training: TensorBoard then writes to
    `runs` in the working folder, and stays there.
    """
    trackers = trackers_of(trainer.callback_handler.callbacks)
    for tracker in trackers:
        trainer.remove_callback(tracker)
    try:
        yield
    finally:
        for tracker in trackers:
            trainer.add_callback(tracker)
