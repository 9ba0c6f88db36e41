"""Tables of charts as answers: the CSV files of the original ChartQA folder, and tables in columns of records."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..metrics.tables import Table, parse_table, read_table_csv, write_table
from .cells import plain_text, shorten
from .real_paths import check_inside
from .record_errors import RecordProblem
from .record_files import SPLIT_ALIASES, image_folders

logger = logging.getLogger(__name__)

TABLE_TASK = "table"
_FOLDER = "tables"
_IMAGES = (".png", ".jpg", ".jpeg", ".webp")
_HEADERS, _ROWS = ("header", "headers", "columns"), ("rows", "data")


def table_splits(folder: Path) -> dict[str, list[dict[str, str]]]:
    """Return the records of a folder with tables beside its charts, by split; empty if it has none.

    These are the original ChartQA folder, or one split of it: `tables/<chart>.csv` beside `png/<chart>.png`, and own
    folders of the same form. Charts without a table are left out and counted in the log.

    Args:
        folder: The folder of the splits, or of one split.

    Returns:
        Split -> records with `imgname` and `table`, the names of files relative to the folder.

    Raises:
        LayoutError: A file is a link that leads out of the folder.
    """
    splits: dict[str, list[dict[str, str]]] = {}
    for parent in table_folders(folder):
        tables = _tables(parent)
        check_inside(tables, folder)
        images = _images(parent)
        splits[named_parent(parent, folder) or "train"] = [
            {"imgname": images.get(path.stem, f"{path.stem}.png"), "table": str(path.relative_to(folder))}
            for path in tables
        ]
        without = len(images.keys() - {path.stem for path in tables})
        if without:
            logger.info("%s: %d of %d charts have no table and are left out", parent, without, len(images))
    return splits


def table_folders(folder: Path) -> list[Path]:
    """Return the folders with tables of charts: `folder` itself and those in it, one for each split."""
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [parent for parent in (folder, *inside) if (parent / _FOLDER).is_dir() and _tables(parent)]


def named_parent(parent: Path, folder: Path) -> str | None:
    """Return the split of one of the `table_folders` by its name, `None` if that says nothing."""
    return parent.name if parent != folder or parent.name in ("train", "test", *SPLIT_ALIASES) else None


def _tables(parent: Path) -> list[Path]:
    return sorted(path for path in (parent / _FOLDER).iterdir() if path.suffix.lower() == ".csv")


def _images(parent: Path) -> dict[str, str]:
    """Return the file names of the charts beside the tables of a split, by their stem."""
    folders = [place for place in image_folders(parent, "") if place.name != _FOLDER]
    paths = [path for place in reversed(folders) for path in place.iterdir() if path.suffix.lower() in _IMAGES]
    return {path.stem: path.name for path in paths}


def table_answer(value: Any, find: Callable[[str], str]) -> str:
    """Return a cell that holds a table as text, a row per line and its cells divided by `|`.

    Args:
        value: A text in any linearization that `parse_table` reads, the name of a CSV file, a list of rows, a list of
            dicts with the same keys, or a dict with a header and rows.
        find: Returns the path of a file that a record names, inside of the folders of the source.

    Raises:
        RecordProblem: It is no table, or its file is missing or damaged.

    Example:
        >>> table_answer([["Year", "EU"], [2019, 1204]], find=str)
        'Year | EU\\n2019 | 1204'
        >>> table_answer({"header": ["Year"], "rows": [[2019]]}, find=str)
        'Year\\n2019'
    """
    try:
        if isinstance(value, str) and value.strip().lower().endswith(".csv") and "\n" not in value.strip():
            table = read_table_csv(find(value.strip()))
        else:
            table = _table(value)
    except RecordProblem as problem:  # of the file that the record names
        reason = "no table" if problem.reason == "no image file" else problem.reason
        raise RecordProblem(reason, problem.cause) from problem
    except (ValueError, TypeError, OSError) as error:
        raise RecordProblem("no table", str(error)) from error
    if not table.rows:
        raise RecordProblem("no table", f"{shorten(value)} needs a header and at least one row")
    return write_table(table)


def _table(value: Any) -> Table:
    if isinstance(value, str):
        return parse_table(value)
    if isinstance(value, Mapping):
        header = next((value[key] for key in _HEADERS if key in value), None)
        rows = next((value[key] for key in _ROWS if key in value), None)
        if header is None or rows is None:
            raise ValueError(f"{shorten(value)} is no table: it needs header and rows")
        return Table(_cells(header), map(_cells, rows), str(value.get("title") or ""))
    if isinstance(value, Sequence) and value and all(isinstance(row, Mapping) for row in value):
        keys = list(dict.fromkeys(key for row in value for key in row))
        return Table(keys, (_cells([row.get(key) for key in keys]) for row in value))
    if isinstance(value, Sequence) and value and all(isinstance(row, (list, tuple)) for row in value):
        first, *rest = value
        return Table(_cells(first), map(_cells, rest))
    if isinstance(value, Sequence) and len(value) == 1 and isinstance(value[0], str):
        return parse_table(value[0])
    raise ValueError(f"{shorten(value)} is no table")


def _cells(row: Any) -> list[str]:
    if not isinstance(row, (list, tuple)):
        raise ValueError(f"the row {shorten(row)} is no list of cells")
    return [plain_text(cell) or "" for cell in row]
