"""`predictions.jsonl`: one answered question a line, in the order of the data set."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

FIELDS = ("index", "chart_id", "question", "answer", "prediction", "correct", "source")


def write_predictions(rows: Iterable[Mapping[str, Any]], path: str | Path) -> Path:
    """Write rows with the keys of `FIELDS`; the file appears whole or not at all.

    `correct` is the verdict of the metric: 0.0 or 1.0, and between for the ANLS-style variants.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    with open(partial, "w", encoding="utf-8") as file:
        for row in rows:
            # Lone surrogates are legal in Python strings and not in UTF-8: ASCII escapes hold any answer.
            file.write(json.dumps({key: row[key] for key in FIELDS}) + "\n")
    os.replace(partial, path)
    return path


def read_predictions(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a `predictions.jsonl`.

    Raises:
        ValueError: a line is not JSON or lacks a field; the message names file and line.
    """
    rows = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number} is not JSON: {error}") from error
            missing = [key for key in FIELDS if key not in row]
            if missing:
                raise ValueError(f"{path}, line {number} lacks {', '.join(missing)}")
            rows.append(row)
    return rows
