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

from ..metrics.predictions import as_line

logger = logging.getLogger(__name__)

_MARK = ".unfinished"


class UnfinishedAnswers:
    """Writes the answers of one process beside the predictions file of an evaluation, as they are generated.

    The file is made with the first answer. Its lines are those of `write_predictions` in the order of generation, with
    `correct` null: verdicts may depend on all answers. If it cannot be written, a warning says so, once, and the
    evaluation goes on: its answers are still in memory.

    Args:
        predictions: the file of the whole evaluation; see `unfinished_path`. A file that an earlier evaluation left is
            replaced.
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
        line = as_line({**row, "correct": None}).encode("ascii")
        try:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.unlink(missing_ok=True)
                self._file = open(self.path, "xb", buffering=0)  # noqa: SIM115  (it is closed with this object)
            rest = line
            while rest:
                rest = rest[self._file.write(rest) :]
            self._size += len(line)
        except OSError as error:
            self._fail(error)

    def close(self) -> None:
        """Close the file, which stays."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _fail(self, error: OSError) -> None:
        self._failed = True
        logger.warning(
            "answers are no longer written to %s while they are generated (%s). They are written at the end of the "
            "evaluation: free some space, or make the folder writable, until then",
            self.path,
            error.strerror or error,
        )
        if self._file is None:
            return
        os.ftruncate(self._file.fileno(), self._size)  # a line may be there in part
        self.close()
        if not self._size:
            self.path.unlink(missing_ok=True)


def unfinished_path(predictions: Path, rank: int = 0) -> Path:
    """Return the file of the answers so far of a process, beside the predictions file of the evaluation.

    Example:
        >>> unfinished_path(Path("eval-step-1.jsonl")).name, unfinished_path(Path("eval-step-1.jsonl"), rank=2).name
        ('eval-step-1.unfinished.jsonl', 'eval-step-1.unfinished-2.jsonl')
    """
    return predictions.with_suffix(f"{_MARK}{f'-{rank}' if rank else ''}.jsonl")


def remove_unfinished(predictions: Path) -> None:
    """Delete the answers so far of all processes, once the predictions file of the evaluation is written.

    Also those of an earlier evaluation that was killed on more processes.
    """
    name = re.compile(rf"{re.escape(predictions.stem + _MARK)}(-\d+)?\.jsonl")
    for path in predictions.parent.iterdir():
        if name.fullmatch(path.name):
            with suppress(OSError):  # the answers are safe, and a file too many is no reason to fail
                path.unlink()
