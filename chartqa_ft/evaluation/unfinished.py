"""`UnfinishedAnswers`: the answers of an evaluation on disk while it runs, so that they outlive a kill."""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..metrics.predictions import UNFINISHED, as_line

logger = logging.getLogger(__name__)


class UnfinishedAnswers:
    """Writes the answers of one process beside the predictions file of an evaluation, as they are generated.

    The file is created when the first answer comes. It has a line for each answer, in the order of generation, with
    the fields of `write_predictions`. `correct` is null, since verdicts may depend on all answers, and what scoring
    adds to a row is missing. If a line cannot be written, one warning says so and the evaluation goes on: its answers
    are still in memory. No error of the file is raised.

    Args:
        predictions: the predictions file of the whole evaluation; see `unfinished_path`.
        rank: the number of this process.

    Example:
        >>> import tempfile
        >>> row = {"index": 3, "chart_id": "c1.png", "question": "How many bars?", "answer": "3", "source": "human"}
        >>> answers = UnfinishedAnswers(Path(tempfile.mkdtemp()) / "eval-step-1.jsonl")
        >>> answers.add({**row, "prediction": "4"})
        >>> print(answers.path.read_text().strip())
        {"index": 3, ..., "answer": "3", "prediction": "4", "correct": null, "source": "human"}
        >>> answers.close()
        >>> remove_unfinished(answers.predictions)
        >>> answers.path.exists()
        False
    """

    def __init__(self, predictions: Path, rank: int = 0) -> None:
        self.predictions = predictions
        self.path = unfinished_path(predictions, rank)
        self._file: io.FileIO | None = None
        self._size = 0
        self._failed = False

    def add(self, row: Mapping[str, Any]) -> None:
        """Write an answered row. It is with the system, not with a buffer of this process, when this returns."""
        if self._failed:
            return
        try:
            line = as_line({**row, "correct": None}).encode("ascii")
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.unlink(missing_ok=True)
                self._file = open(self.path, "xb", buffering=0)  # noqa: SIM115  (it is closed with this object)
            rest = line
            while rest:
                rest = rest[self._file.write(rest) :]
            self._size += len(line)
        except (OSError, TypeError, ValueError) as error:
            self._fail(error)

    def close(self) -> None:
        """Close the file, which stays."""
        if self._file is not None:
            with suppress(OSError):  # of a disk that reports only now that it was full
                self._file.close()
            self._file = None

    def _fail(self, error: Exception) -> None:
        self._failed = True
        logger.warning(
            "answers cannot be written to %s as they are generated (%s). The evaluation goes on and writes them at "
            "the end: make sure that they can be written by then",
            self.path,
            getattr(error, "strerror", None) or error,
        )
        if self._file is None:
            return
        with suppress(OSError):
            os.ftruncate(self._file.fileno(), self._size)  # a line may be there in part
        self.close()
        if not self._size:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)


def unfinished_path(predictions: Path, rank: int = 0) -> Path:
    """Return the file that holds a process's answers so far, beside the predictions file of the evaluation.

    Example:
        >>> unfinished_path(Path("eval-step-1.jsonl")).name, unfinished_path(Path("eval-step-1.jsonl"), rank=2).name
        ('eval-step-1.unfinished.jsonl', 'eval-step-1.unfinished-2.jsonl')
    """
    return predictions.with_suffix(f"{UNFINISHED}{f'-{rank}' if rank else ''}.jsonl")


def remove_unfinished(predictions: Path, rank: int = 0, processes: int = 1) -> None:
    """Delete the answers so far of this process. The first one also deletes those of processes from `processes` on.

    An evaluation that was killed may have left them. Files that cannot be deleted stay.
    """
    with suppress(OSError):
        unfinished_path(predictions, rank).unlink(missing_ok=True)
    if rank:
        return
    name = re.compile(rf"{re.escape(predictions.stem + UNFINISHED)}-(\d+)\.jsonl")
    with suppress(OSError):  # there may be no folder yet
        for path in list(predictions.parent.iterdir()):
            found = name.fullmatch(path.name)
            if found and int(found[1]) >= processes:
                path.unlink(missing_ok=True)
