"""Read and write `predictions.jsonl`: one answered question a line, in the order of the data set."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..files import written_whole

FIELDS = ("index", "chart_id", "question", "answer", "prediction", "correct", "source")
OPTIONAL_FIELDS = ("extracted", "question_type", "year_flags")
"""Fields of rows that have them: the answer that was scored, if it was extracted from the prediction, and what
ChartQAPro's metric reads."""


def write_predictions(rows: Iterable[Mapping[str, Any]], path: str | os.PathLike[str]) -> Path:
    """Write rows as JSON lines; the file appears whole or not at all.

    Args:
        rows: dicts with the keys of `FIELDS` and perhaps those of `OPTIONAL_FIELDS`; other keys are ignored. `correct`
            is the metric's verdict, 0.0 or 1.0, or between them for ANLS.
        path: the file to write. Its folder is created if it is missing.

    Returns:
        The path.

    Example:
        >>> import tempfile
        >>> row = dict(zip(FIELDS, (0, "c1.png", "How many bars?", "3", "3", 1.0, "human")))
        >>> path = write_predictions([row], Path(tempfile.mkdtemp()) / "predictions.jsonl")
        >>> read_predictions(path) == [row]
        True
    """
    with written_whole(Path(path)) as file:
        for row in rows:
            # Lone surrogates are legal in Python strings but not in UTF-8; ASCII escapes hold any answer.
            more = {key: row[key] for key in OPTIONAL_FIELDS if row.get(key) is not None}
            file.write(json.dumps({key: row[key] for key in FIELDS} | more) + "\n")
    return Path(path)


def read_predictions(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the rows of a `predictions.jsonl`.

    Raises:
        ValueError: a line is not a JSON object or lacks a field; the message names file and line.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "predictions.jsonl"
        >>> _ = path.write_text('{"index": 0')
        >>> read_predictions(path)
        Traceback (most recent call last):
        ...
        ValueError: ...predictions.jsonl, line 1 is not JSON: ...
    """
    rows = []
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line.decode("utf-8"))
            except ValueError as error:
                raise ValueError(f"{path}, line {number} is not JSON: {error}") from error
            if not isinstance(row, dict):
                raise ValueError(f"{path}, line {number} is not a JSON object")
            missing = [key for key in FIELDS if key not in row]
            if missing:
                raise ValueError(f"{path}, line {number} lacks {', '.join(missing)}")
            rows.append(row)
    return rows
