"""Files that belong to a chart, found in a folder by the chart's id: its picture, its table."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import read_regular

logger = logging.getLogger(__name__)

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
LARGEST_TABLE = 2**20
"""Bytes. The table of a chart has some hundred cells."""


def file_of_chart(folder: Path, chart: Any, suffixes: Sequence[str]) -> Path | None:
    """Return the file of a chart in a folder: one of the chart's own name, or its name with one of the suffixes.

    The id of a chart comes from a file of predictions, so it must not lead out of the folder.

    Args:
        folder: the folder.
        chart: the id of the chart; anything but a text has no file.
        suffixes: endings, with their dot. An id with another ending is also tried without it.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "1.csv").write_text("Year,Value")
        >>> file_of_chart(folder, "1.png", [".csv"]).name, file_of_chart(folder, "../1", [".csv"])
        ('1.csv', None)
    """
    if not isinstance(chart, str) or not chart or "\0" in chart:
        return None
    top = folder.resolve()
    stem = chart.rpartition(".")[0]
    names = [chart] if chart.lower().endswith(tuple(suffixes)) else []
    names += [f"{base}{suffix}" for base in (chart, stem) if base for suffix in suffixes]
    for name in names:
        path = top / name
        try:
            if path.resolve() == path and path.is_relative_to(top) and path.is_file():
                return path
        except (OSError, ValueError):  # a name that is too long, or no name on this system
            return None
    return None


class ChartTables:
    """The tables of charts, where they are known.

    Args:
        tables: a folder of CSV files named by chart id, as `tables/` of the original data set; or a dict from chart id
            to the rows of a table, each a sequence or dict of cells; `None` for no tables.

    Raises:
        TypeError: `tables` is something else.
        ValueError: it is a path that is not a folder.

    Example:
        >>> ChartTables({"a.png": [["Peru", 3]]}).find("a.png"), ChartTables(None).find("a.png")
        ([['Peru', 3]], [])
    """

    def __init__(self, tables: Any) -> None:
        self._folder: Path | None = None
        self._by_id: Mapping[Any, Any] = {}
        if isinstance(tables, (str, Path)):
            self._folder = Path(tables)
            if not self._folder.is_dir():
                raise ValueError(f"tables={str(tables)!r} is not a folder with the tables of the charts as CSV files")
        elif isinstance(tables, Mapping):
            self._by_id = tables
        elif tables is not None:
            raise TypeError(f"tables is {tables!r:.60}: pass a folder of CSV files, or a dict from chart id to rows")
        self._read: dict[Any, list[Any]] = {}

    def find(self, chart: Any) -> list[Any]:
        """Return the rows of the table of a chart; none if it is not known."""
        if chart not in self._read:
            if self._folder is None:
                self._read[chart] = list(self._by_id.get(chart, ()))
            else:
                path = file_of_chart(self._folder, chart, [".csv"])
                self._read[chart] = [] if path is None else _read_table(path)
        return self._read[chart]


def _read_table(path: Path) -> list[list[str]]:
    """Return the rows of a CSV file; none, with a warning, if it is no table."""
    try:
        text = read_regular(path, LARGEST_TABLE).decode("utf-8-sig")
        return [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    except (OSError, ValueError, csv.Error) as error:
        logger.warning("the table %s is left out: %s", path, error)
        return []
