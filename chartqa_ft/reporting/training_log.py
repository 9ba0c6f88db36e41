"""The log of a training run: its losses, and accuracies with their intervals, over optimizer steps."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..files import read_json
from ..metrics.table import as_number
from ..printable import printable

Points = list[tuple[float, float]]
"""Pairs of optimizer step and value, sorted by step."""
Interval = list[tuple[float, float, float]]
"""Optimizer step, lower and upper limit, sorted by step."""


STATE_NAME = "trainer_state.json"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_ACCURACY = re.compile(r"eval_(?:(.+)_)?relaxed_accuracy(?:_(human|augmented|mean_of_splits))?")
_LIMIT = re.compile(_ACCURACY.pattern + "_ci_(low|high)")
_LOSS = re.compile(r"eval_(?:(.+)_)?loss")


def training_series(log_history: Iterable[Mapping[str, Any]]) -> tuple[dict[str, Points], dict[str, Points]]:
    """Return the curves in `trainer.state.log_history`.

    Values that are not finite numbers are left out; numbers may be of any library. Of two values at the same step, as
    after resuming, the later one counts.

    Returns:
        The losses in nats per token and the accuracies in percent, each by the title of the curve. A curve without
        values has no entry.

    Raises:
        TypeError: the history, or an entry of it, is of a wrong type.

    Example:
        >>> training_series([{"step": 10, "loss": 2.0}, {"step": 20, "eval_relaxed_accuracy": 0.25}])
        ({'training': [(10, 2.0)]}, {'pooled': [(20, 25.0)]})
    """
    losses: dict[str, dict[float, float]] = {}
    accuracies: dict[str, dict[float, float]] = {}
    for step, key, value in _values(log_history):
        if key == "loss":
            losses.setdefault("training", {})[step] = value
        elif found := _LOSS.fullmatch(key):
            losses.setdefault(found[1] or "evaluation", {})[step] = value
        elif found := _ACCURACY.fullmatch(key):
            accuracies.setdefault(_title(found), {})[step] = 100 * value
    return _sorted(losses), _sorted(accuracies)


def accuracy_intervals(log_history: Iterable[Mapping[str, Any]]) -> dict[str, Interval]:
    """Return the intervals of the accuracies in `trainer.state.log_history`.

    Returns:
        The limits in percent by the title of the accuracy's curve. Steps without both limits are left out.

    Raises:
        TypeError: the history, or an entry of it, is of a wrong type.

    Example:
        >>> limits = {"eval_relaxed_accuracy_human_ci_low": 0.25, "eval_relaxed_accuracy_human_ci_high": 0.5}
        >>> accuracy_intervals([{"step": 20, **limits}])
        {'human': [(20, 25.0, 50.0)]}
    """
    limits: dict[str, dict[float, dict[str, float]]] = {}
    for step, key, value in _values(log_history):
        if found := _LIMIT.fullmatch(key):
            limits.setdefault(_title(found), {}).setdefault(step, {})[found[3]] = 100 * value
    both = {
        printable(title): [(step, *sorted(ends.values())) for step, ends in sorted(steps.items()) if len(ends) == 2]
        for title, steps in limits.items()
    }
    return {title: interval for title, interval in both.items() if interval}  # type: ignore[misc]


def checked_log(log_history: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the entries of a log.

    Raises:
        TypeError: the history, or an entry of it, is of a wrong type.

    Example:
        >>> checked_log(entry for entry in [{"step": 1, "loss": 2.0}])
        [{'step': 1, 'loss': 2.0}]
    """
    if isinstance(log_history, (str, bytes, Mapping)) or not isinstance(log_history, Iterable):
        raise TypeError(f"log_history must be a list of dicts, as trainer.state.log_history, got {log_history!r:.60}")
    entries = list(log_history)
    for number, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            raise TypeError(f"log_history[{number}] must be a dict, got {entry!r:.60}")
    return entries


def _values(log_history: Iterable[Mapping[str, Any]]) -> Iterator[tuple[float, str, float]]:
    """Return the step, name and value of each finite number of a log."""
    for entry in checked_log(log_history):
        step = as_number(entry.get("step"))
        if not math.isfinite(step):
            continue
        for key, value in ((key, as_number(value)) for key, value in entry.items()):
            if isinstance(key, str) and math.isfinite(value):
                yield step, key, value


def _title(found: re.Match[str]) -> str:
    return " ".join(part.replace("_", " ") for part in (found[1], found[2] or "pooled") if part)


def read_log(path: str | os.PathLike[str]) -> list[Mapping[str, Any]]:
    """Return the log of a run: `log_history` of a `trainer_state.json`.

    Args:
        path: the file, a folder that contains it, or an output folder with checkpoints, of which the newest is read.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged.
    """
    given = Path(path)
    found = [given] if given.is_file() else [given / STATE_NAME]
    if given.is_dir():
        checkpoints = [
            (int(name[1]), folder) for folder in given.iterdir() if (name := _CHECKPOINT.fullmatch(folder.name))
        ]
        found += [folder / STATE_NAME for _, folder in sorted(checkpoints, reverse=True)]
    state = next((file for file in found if file.is_file()), None)
    if state is None:
        raise FileNotFoundError(f"there is no {STATE_NAME} in {given}, nor in a checkpoint there")
    log = read_json(state).get("log_history")
    if not isinstance(log, list):
        raise ValueError(f"{state} has no log_history: it is not the state of a trainer")
    return log


def _sorted(series: dict[str, dict[float, float]]) -> dict[str, Points]:
    return {printable(title): sorted(points.items()) for title, points in series.items()}
