"""The tables that ChartQA has of its charts: `tables/<chart>.csv` in each of its splits."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from ...files import read_regular
from .table import Table

LARGEST_FILE = 1 << 24
"""Bytes up to which a file is read."""


def read_table_csv(path: str | Path) -> Table:
    """Return the table in a CSV file of ChartQA.

    The files have a header, commas, CRLF line ends and no title. Missing values are `nan` or `-`; they stay as they
    are, and `table_scores` knows them. Units stand in the cells (`83%`, `0.57$`). A byte order mark is dropped. A
    file with several lines of different length, or a column `Title`, is read as it is.

    Args:
        path: the file.

    Raises:
        OSError: The file cannot be read, is not a regular file, or has more than 16,777,216 bytes.
        ValueError: It is not UTF-8, holds no table or more than 1,048,576 cells, or has a field that `csv` cannot
            read. The message names the file.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "17258.csv")
        >>> _ = path.write_bytes(b"Year,Oppose,Favor\\r\\n9-Apr,nan,68.0\\r\\n")
        >>> read_table_csv(path)
        Table(header=('Year', 'Oppose', 'Favor'), rows=(('9-Apr', 'nan', '68.0'),), title='')
    """
    content = read_regular(path, LARGEST_FILE)
    try:
        text = content.decode("utf-8-sig")
        rows = [row for row in csv.reader(io.StringIO(text, newline="")) if any(cell.strip() for cell in row)]
        table = Table(rows[0] if rows else (), rows[1:])
    except (UnicodeDecodeError, csv.Error, ValueError) as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else error
        raise ValueError(f"{path} is no table in CSV: {reason}") from error
    if not table.header:
        raise ValueError(f"{path} is no table in CSV: it is empty")
    return table
