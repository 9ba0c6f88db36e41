"""Find the answers and scores of a run by what a user names: a file, a folder, or a model on the Hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..hub.public import hub_name
from ..hub.single_files import fetch_files
from ..metrics.predictions import is_unfinished

__all__ = ["Run", "find_predictions_file", "find_run"]

PREDICTIONS_NAME = "predictions.jsonl"
METRICS_NAME = "metrics.json"
_SHOWN = 5


@dataclass(frozen=True)
class Run:
    """The answers of a run, and what is known about it.

    Example:
        >>> Run("before", Path("before/predictions.jsonl")).on_hub
        False
    """

    name: str
    """What the user named it by."""
    predictions: Path
    """Its `predictions.jsonl`."""
    metrics: Path | None = None
    """Its `metrics.json`, if there is one."""
    on_hub: bool = False
    """Whether the files lie in the cache of the Hub, where nothing may be written."""


def find_run(name: str) -> Run:
    """Return the run that a text names.

    Args:
        name: a `predictions.jsonl`, a folder that contains one, or a model on the Hub that was pushed with its
            predictions: `owner/name`, or `owner/name@revision` with a branch, tag or commit. What exists on this
            machine comes first.

    Raises:
        FileNotFoundError: there is no such file, and the name is not one of the Hub.
        HubError: the model has no predictions, or it cannot be downloaded.

    Example:
        >>> find_run("nowhere")
        Traceback (most recent call last):
        ...
        FileNotFoundError: there is no nowhere: pass a predictions.jsonl, or a folder that contains one
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return _run(name, _in_folder(path, name))
    if path.is_file():
        return _run(name, path)
    repo, at, revision = name.partition("@")
    # A path such as out/final is a mistyped one if there is a folder out.
    if repo.count("/") == 1 and hub_name(repo) is not None and not Path(repo.partition("/")[0]).is_dir():
        found = fetch_files(repo, [PREDICTIONS_NAME, METRICS_NAME], revision=revision if at else None)
        return Run(name, found[PREDICTIONS_NAME], found.get(METRICS_NAME), on_hub=True)
    raise FileNotFoundError(f"there is no {name}: pass a {PREDICTIONS_NAME}, or a folder that contains one")


def find_predictions_file(name: str) -> Path:
    """Return the `predictions.jsonl` that a text names; see `find_run`.

    Raises:
        FileNotFoundError: there is no such file.

    Example:
        >>> find_predictions_file("nowhere")
        Traceback (most recent call last):
        ...
        FileNotFoundError: there is no nowhere: pass a predictions.jsonl, or a folder that contains one
    """
    return find_run(name).predictions


def _run(name: str, predictions: Path) -> Run:
    metrics = predictions.with_name(METRICS_NAME)
    beside = predictions.name == PREDICTIONS_NAME and metrics.is_file()
    return Run(name, predictions, metrics if beside else None)


def _in_folder(folder: Path, name: str) -> Path:
    found = folder / PREDICTIONS_NAME
    if found.is_file():
        return found
    written = (folder / "predictions").glob("*.jsonl")
    others = sorted(path for path in written if path.is_file() and not is_unfinished(path))
    if others:
        shown = ", ".join(path.name for path in others[:_SHOWN]) + (", ..." if len(others) > _SHOWN else "")
        raise FileNotFoundError(
            f"there is no {PREDICTIONS_NAME} in {name}: name one of the files in {folder / 'predictions'} ({shown})"
        )
    raise FileNotFoundError(
        f"there is no {PREDICTIONS_NAME} in {name}: evaluate with write_predictions=True, or by chartqa-ft evaluate"
    )
