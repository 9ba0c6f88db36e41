"""Read and write `predictions.jsonl`: one answered question a line, in the order of the data set."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any, cast

from ..files import open_regular, parse_json, written_whole
from ..printable import printable_errors

FIELDS = ("index", "chart_id", "question", "answer", "prediction", "correct", "source")
OPTIONAL_FIELDS = ("extracted", "task", "question_type", "year_flags")
"""Fields of rows that have them: the answer that was scored, if it was extracted from the prediction; the task, if the
evaluation had others than `qa`; and what ChartQAPro's metric reads."""
LONGEST_LINE = 2**26
"""Bytes of one row. A degenerate generation is megabytes long at most."""
UNFINISHED = ".unfinished"
"""What stands before the ending, and the number of a process, in the name of a file with the answers so far."""
_FAST = json.JSONDecoder()
_SCALARS = frozenset({str, int, float, type(None)})


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
        file.writelines(map(as_line, rows))
    return Path(path)


def as_line(row: Mapping[str, Any]) -> str:
    """Return the line of a `predictions.jsonl` for a row, in ASCII and with its line end.

    Raises:
        ValueError: the row lacks one of `FIELDS`.

    Example:
        >>> as_line(dict(zip(FIELDS, (0, "c1.png", "How many bars?", "3", "3", 1.0, None))))[-16:]
        '"source": null}\\n'
    """
    missing = [key for key in FIELDS if key not in row]
    if missing:
        raise ValueError(f"the row of index {row.get('index')!r:.20} lacks {', '.join(missing)}")
    # Lone surrogates are legal in Python strings but not in UTF-8; ASCII escapes hold any answer.
    more = {key: row[key] for key in OPTIONAL_FIELDS if row.get(key) is not None}
    return json.dumps({key: row[key] for key in FIELDS} | more, default=_in_json) + "\n"


def _in_json(value: Any) -> Any:
    """Return a number of numpy as one of Python, and another answer, such as a date, as the text that is scored."""
    return value.item() if hasattr(value, "item") else str(value)


@printable_errors()
def read_predictions(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the rows of a `predictions.jsonl`.

    Raises:
        TypeError: `path` is not a path.
        OSError: the file cannot be opened.
        ValueError: the file is empty or not a regular file, a line is not a JSON object, lacks a field, has one twice
            or holds a value that the field cannot have, or two lines have one index; the message names file and line.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "predictions.jsonl"
        >>> _ = path.write_text('{"index": 0')
        >>> read_predictions(path)
        Traceback (most recent call last):
        ...
        ValueError: ...predictions.jsonl, line 1 is not JSON: ...
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be the path of a predictions.jsonl, and is a {type(path).__name__}: {path!r:.60}")
    rows = []
    lines: dict[int, int] = {}
    with _opened(path) as file:
        for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), start=1):
            if len(line) >= LONGEST_LINE:
                raise ValueError(f"{path}, line {number} has more than {LONGEST_LINE:,} bytes: it is not a prediction")
            try:
                text = line.decode("utf-8")
                row = parse_json(text, decoder=_FAST)
                if isinstance(row, dict) and text.count(":") != len(row):
                    parse_json(text)  # a text with a colon, or a key that occurs twice
            except ValueError as error:
                raise ValueError(f"{path}, line {number} is not JSON: {error}") from error
            if not isinstance(row, dict):
                raise ValueError(f"{path}, line {number} is not a JSON object")
            missing = [key for key in FIELDS if key not in row]
            if missing:
                raise ValueError(f"{path}, line {number} lacks {', '.join(missing)}")
            wrong = _wrong_value(row)
            if wrong is not None:
                raise ValueError(f"{path}, line {number}: {wrong}")
            first = lines.setdefault(row["index"], number)
            if first != number:
                raise ValueError(
                    f"{path}, lines {first} and {number} are both of index {row['index']}: a question counts once, so "
                    "keep the answers of one run in each file"
                )
            rows.append(row)
    if not rows:
        raise ValueError(f"{path} is empty: it has no line with an answered question")
    return rows


def _opened(path: str | os.PathLike[str]) -> IO[bytes]:
    try:
        return io.BufferedReader(cast(io.RawIOBase, open_regular(Path(path))))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise ValueError(f"{path} is {error.strerror}: pass the path of a predictions.jsonl") from error


def _wrong_value(row: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the values of a row, or None."""
    texts = type(row["answer"]) is type(row["prediction"]) is type(row["question"]) is type(row["chart_id"]) is str
    index = type(row["index"]) is int and row["index"] >= 0
    if index and texts and type(row["correct"]) is float and 0 <= row["correct"] <= 1 and type(row["source"]) is str:
        return None  # as almost always
    if not index:
        return f"index must be an integer of at least 0, and is {row['index']!r}"
    for key in ("chart_id", "question", "prediction", "source"):
        if type(row[key]) not in _SCALARS:
            return f"{key} must be a text, a number or null, and is {row[key]!r}"
    answer, correct = row["answer"], row["correct"]
    for item in answer if type(answer) is list and answer else (answer,):
        if type(item) not in _SCALARS:
            return f"answer must be a text, a number or a list of accepted answers, and is {answer!r}"
    if correct is None:
        if not is_blank(answer):
            return f"correct is null although there is an answer, {answer!r}: the answers of this file were not scored"
    elif not isinstance(correct, (int, float)) or not 0 <= correct <= 1:
        return f"correct must be a number between 0 and 1, and is {correct!r}"
    elif answer is None:
        return f"answer is null, but correct is {correct!r}"
    return None


def is_unfinished(path: Path) -> bool:
    """Return whether a file holds the answers so far of an evaluation, which are not scored, by its name.

    Example:
        >>> is_unfinished(Path("eval-step-1.unfinished-2.jsonl")), is_unfinished(Path("eval-step-1.jsonl"))
        (True, False)
    """
    return re.search(rf"{re.escape(UNFINISHED)}(-\d+)?\.jsonl$", path.name) is not None


def is_short_answer(row: Mapping[str, Any]) -> bool:
    """Return whether a row is of the task `qa`, which files of earlier releases do not name.

    Example:
        >>> is_short_answer({}), is_short_answer({"task": "table"})
        (True, False)
    """
    return row.get("task") in (None, "", "qa")


def is_blank(answer: Any) -> bool:
    """Return whether a row has no answer to compare with: None, NaN or white space."""
    if isinstance(answer, float):
        return math.isnan(answer)
    return answer is None or (isinstance(answer, str) and not answer.strip())
