"""Records in CSV and TSV. What is wrong with one record does not affect the others."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..files import repeated
from .cells import shorten
from .columns import LayoutError
from .record_lines import LONGEST_LINE, NOT_UTF8, RecordLines


def read_table(path: Path, candidates: str) -> Iterator[dict[str, Any] | str]:
    """Yield the records of a table whose columns are divided by one of `candidates`.

    Raises:
        LayoutError: The header cannot be read, or a field is too long.
    """
    # Python's default of 131,072 characters is less than an image in base64 takes.
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_LINE))
    delimiter = _delimiter(path, candidates)
    with RecordLines(path, keep_ends=True) as lines:
        header = next(lines, "")
    with RecordLines(path, keep_ends=True) as lines:
        # In a table written with ", " a quote behind the blank opens a field too.
        has_blanks = f"{delimiter} " in header
        reader = csv.DictReader(lines, delimiter=delimiter, restkey="", strict=True, skipinitialspace=has_blanks)
        try:
            _check_names(path, [name for name in reader.fieldnames or () if name], lines)
        except csv.Error as error:
            raise LayoutError(f"{path}, line {lines.number}: {error}") from error
        while True:
            lines.start_record()
            try:
                record = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if "field limit" in str(error):
                    raise LayoutError(f"{path}, line {lines.number}: {error}") from error
                # A quote that is not closed takes the next lines with it: they may be records of their own.
                yield f"line {lines.back_to_second()} has a wrong quote, or one that is not closed ({error})"
                continue
            if lines.has_broken:
                yield f"line {lines.number} is {NOT_UTF8}"
            elif isinstance(record.get(""), list):
                yield f"line {lines.number} has more fields than the header (an unquoted {delimiter!r}?)"
            else:
                yield record


def _check_names(path: Path, names: list[str], lines: RecordLines) -> None:
    if lines.has_broken:
        raise LayoutError(f"{path}: line {lines.number} is {NOT_UTF8}")
    name = repeated(names)
    if name is not None:
        raise LayoutError(
            f"{path}: {names.count(name)} columns are called {shorten(name)}; rename or remove all but one"
        )


def _delimiter(path: Path, candidates: str) -> str:
    """Return the first of `candidates` that splits the header, or the first one if none does.

    Spreadsheets in some locales write ';'. `csv.Sniffer` would look at the records, where a question may contain more
    commas than the table has columns.
    """
    for delimiter in candidates:
        with RecordLines(path, keep_ends=True) as lines:
            try:
                header = next(csv.reader(lines, delimiter=delimiter), [])
            except csv.Error:  # a field is too long, as in a file that is not a table
                continue
        if len(header) > 1:
            return delimiter
    return candidates[0]
