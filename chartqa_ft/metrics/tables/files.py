"""Predicted tables as CSV files, one per chart."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ...files import write_whole
from ..predictions import read_predictions
from .parsing import parse_table
from .writing import write_table

_UNSAFE = re.compile(r"[^\w.\- ]+")
_LONGEST_NAME = 120


def export_tables(
    predictions: str | os.PathLike[str] | Iterable[Mapping[str, Any]], folder: str | os.PathLike[str]
) -> list[Path]:
    """Write the predicted tables of a `predictions.jsonl` as CSV files, named by chart as those of ChartQA.

    Args:
        predictions: the path of a `predictions.jsonl`, or its rows. Only those of the task `table` are written.
        folder: the folder to write `<chart>.csv` into. It is created if it is missing. If a chart has several tables,
            or several charts the same name, the index of the row follows the name.

    Returns:
        The paths of the files, in the order of the rows. A prediction that is no table gives an empty file.

    Raises:
        ValueError: There is no predicted table.
        OSError: A file cannot be written.

    Example:
        >>> import tempfile
        >>> row = {"index": 0, "chart_id": "17.png", "task": "table", "prediction": "Year | EU & 2019 | 1,204"}
        >>> (path,) = export_tables([row], tempfile.mkdtemp())
        >>> path.name, path.read_text()
        ('17.csv', 'Year,EU\\n2019,"1,204"\\n')
    """
    if isinstance(predictions, (str, os.PathLike)):
        predictions = read_predictions(predictions)
    rows = [row for row in predictions if row.get("task") == "table"]
    if not rows:
        raise ValueError("the predictions hold no tables: evaluate records of the task 'table'")
    written: dict[str, Path] = {}
    for number, row in enumerate(rows):
        index = row.get("index", number)
        name = _name(row.get("chart_id"), index)
        if name.casefold() in written:
            name = f"{name}-{index}"
        written[name.casefold()] = write_whole(Path(folder) / f"{name}.csv", _csv(row.get("prediction")))
    return list(written.values())


def _name(chart: Any, index: Any) -> str:
    """Return the name of a file for a chart, without anything that could lead out of a folder."""
    text = _UNSAFE.sub("_", str(chart or "").strip())
    stem = text.rpartition(".")[0] if re.search(r"\.\w{1,5}$", text) else text
    return stem.strip(". ")[:_LONGEST_NAME] or f"chart-{index}"


def _csv(prediction: Any) -> str:
    try:
        text = write_table(parse_table(str(prediction or "")), "csv")
    except ValueError:  # too large, or a column without a name
        return ""
    return f"{text}\n" if text else ""
