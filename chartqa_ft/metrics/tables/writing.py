"""Tables as texts."""

from __future__ import annotations

import csv
import io
from typing import Literal

from .linearization import ROW_SEPARATORS, escape, format_name
from .table import Table


def write_table(table: Table, format: str = "lines") -> str:
    r"""Return a table as text, from which `parse_table` with the same format makes the same table.

    A title becomes a first row `TITLE | ...`, as DePlot writes it. `|`, `&`, `<0x0A>` and backslashes inside cells get
    a backslash, except in CSV, which has quotes. Scripts of other authors do not know these escapes: for a data set
    with labels such as "Asia & Pacific", choose a format other than `unichart`, whose rows such a label would break.

    Args:
        table: a table.
        format: one of `chartqa_ft.metrics.TABLE_FORMATS`.

    Raises:
        ValueError: There is no such format, or the table has one column without a name, which no format can tell from
            an empty line.

    Example:
        >>> table = Table(("Region", "Sales"), [("Asia & Pacific", 5), ("Europe", 7)])
        >>> print(write_table(table, "unichart"))
        Region | Sales & Asia \& Pacific | 5 & Europe | 7
        >>> print(write_table(table, "markdown"))
        | Region | Sales |
        | --- | --- |
        | Asia \& Pacific | 5 |
        | Europe | 7 |
    """
    format_name(format)
    if table.header == ("",):
        raise ValueError("a table of one column without a name cannot be written: give the column a name")
    rows = [table.header, *table.rows] if table.header else []
    if table.title or (table.header and table.header[0].casefold() == "title"):
        # A bare title keeps a header that begins with "Title" from being taken for one.
        rows.insert(0, ("TITLE", table.title))
    if format == "csv":
        text = io.StringIO(newline="")
        # Unquoted semicolons could be taken for the delimiter.
        is_unclear = any(";" in cell for cell in next(iter(rows), ()))
        quoting: Literal[0, 1] = csv.QUOTE_ALL if is_unclear else csv.QUOTE_MINIMAL
        csv.writer(text, lineterminator="\n", quoting=quoting).writerows(rows)
        return text.getvalue().removesuffix("\n")
    lines = [" | ".join(map(escape, row)) for row in rows]
    if format == "markdown" and lines:
        lines = [f"| {line} |" for line in lines]
        if table.header:
            lines.insert(len(lines) - len(table.rows), "|" + " --- |" * len(table.header))
        return "\n".join(lines)
    separator = ROW_SEPARATORS[format]
    return ("\n" if separator == "\n" else f" {separator} ").join(lines)
