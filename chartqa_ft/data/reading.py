"""Read a file of records: JSON, JSON lines, CSV or TSV."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .chart_to_text import chart_to_text_records, is_split_list
from .columns import LayoutError
from .json_records import read_json_lines, read_json_records
from .table_records import read_table


def read_records(path: Path) -> Iterator[dict[str, Any] | str]:
    """Yield the records of a file; a str in place of a record says what is wrong with it.

    CSV and TSV values stay text: "0012", "NA" and "12.50" are answers, not numbers or missing values. Files of OpenCQA
    and Chart-to-Text give records with the columns of other files.

    Raises:
        LayoutError: The file as a whole cannot be read.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "charts.csv"
        >>> _ = path.write_text("imgname;query;label\\na.png;How many?;0012")
        >>> list(read_records(path))
        [{'imgname': 'a.png', 'query': 'How many?', 'label': '0012'}]
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".json":
            yield from read_json_records(path)
        elif suffix in (".csv", ".tsv"):
            records = read_table(path, "\t,;" if suffix == ".tsv" else ",;\t")
            yield from chart_to_text_records(path, records) if is_split_list(path) else records
        else:
            yield from read_json_lines(path)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EFBIG):
            raise
        raise LayoutError(f"{path}: {error.strerror}") from error
