"""Texts of models and data sets as tables."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter

from .linearization import DASHES, format_name, unescape
from .numbers import read_number
from .table import Table, TooLargeError, is_missing

LONGEST_TEXT = 1 << 20
"""Characters up to which a text is parsed."""

_NEWLINE = re.compile(r"\r\n|\r|\n")
_QUOTED = re.compile(r'"[^"]*"')
_FENCE = re.compile(r"```[\w-]*[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL)
_TOKEN = re.compile(r"\\[\\|&<]|&&&|<0x0A>|\||&|\r\n|\r|\n", re.IGNORECASE)


def parse_table(text: str, format: str | None = None) -> Table:
    r"""Return the table in a text.

    Without a format, the separators are found in the text: rows are divided by `<0x0A>`, `&&&` or line breaks,
    whichever occur, and by ` & ` only if none of them does. A text without `|` is read as CSV with commas, semicolons
    or tabs. Outer bars and the line of dashes of a Markdown table are dropped, and so are a code fence around a table
    and lines of prose above and below it. A backslash before `|`, `&`, `<` or a backslash makes it part of the cell.

    A first row of two cells of which the first is `TITLE` or `title` is the title. `Title` is taken for one only if
    the next row does not have two cells: otherwise it names a column.

    A label such as "Asia & Pacific" breaks a row of the `unichart` format. The parts are joined again if no row ends
    there: the row would be too short, and the part before the ` & ` is not a number. That is a guess; `write_table`
    avoids it by escapes.

    Args:
        text: a table as text, for example the output of a model. Any text is a table, if only of one cell.
        format: one of `chartqa_ft.metrics.TABLE_FORMATS`, or None to find it.

    Raises:
        ValueError: There is no such format, or the text has more than 1,048,576 characters or cells.
        TypeError: `text` is not a text.

    Example:
        >>> parse_table("TITLE | Sales <0x0A> Year | EU <0x0A> 2019 | 5")
        Table(header=('Year', 'EU'), rows=(('2019', '5'),), title='Sales')
        >>> parse_table("Region | Sales & Asia & Pacific | 5 & Europe | 7").rows
        (('Asia & Pacific', '5'), ('Europe', '7'))
        >>> parse_table('Year,"Sales, net"\n2019,"1,204"').rows
        (('2019', '1,204'),)
    """
    if not isinstance(text, str):
        raise TypeError(f"a table must be a text, and is {text!r:.100}")
    if len(text) > LONGEST_TEXT:
        raise TooLargeError(f"a table of {len(text):,} characters is longer than {LONGEST_TEXT:,}")
    if format is not None:
        format_name(format)
    fenced = _FENCE.search(text) if format is None else None
    text = fenced[1] if fenced else text
    chosen = format or find_format(text)
    if chosen == "csv":
        rows = _csv_rows(text)
        rows = _without_prose(rows) if format is None else rows
    else:
        rows = _split_rows(text.strip(" \t\r\n"), chosen)
        if format is None and chosen == "lines":
            rows = _without_prose(rows)
        if chosen == "markdown" or format is None:
            rows = _without_markdown(rows, always=format == "markdown")
        rows = [[unescape(cell.strip()) for cell in row] for row in rows]
    title, rows = _title(rows)
    return Table(rows[0] if rows else (), rows[1:], title)


def find_format(text: str) -> str:
    """Return the name of the linearization of a text, as `parse_table` finds it.

    Example:
        >>> find_format("Year | Sales & 2019 | 5"), find_format("Year,Sales")
        ('unichart', 'csv')
    """
    text = text.strip()
    found = {"\n" if token in ("\r", "\r\n") else token.upper() for token in _TOKEN.findall(text)}
    if "|" not in found and not {"&&&", "<0X0A>"} & found:
        return "csv" if _delimiter(text) else "lines"
    lines = [line for line in _NEWLINE.split(text) if line.strip()]
    if len(lines) > 1 and 2 * sum("|" in line for line in lines) < len(lines) and _delimiter(text):
        return "csv"  # a few quoted cells hold a bar
    if "<0X0A>" in found:
        return "<0x0A>"
    if "&&&" in found:
        return "&&&"
    if "\n" in found or "&" not in found:
        return "lines"
    return "unichart"


def _split_rows(text: str, format: str) -> list[list[str]]:
    """Divide a text at separators that have no backslash before them. Line breaks divide rows in every format."""
    rows: list[list[str]] = [[]]
    start = 0
    for found in _TOKEN.finditer(text):
        token = found[0].upper() if found[0][0] == "<" else found[0]
        if token[0] == "\\":
            continue
        is_break = token in ("\n", "\r", "\r\n") or token == ("&" if format == "unichart" else format.upper())
        if token != "|" and not is_break:
            continue
        if token == "&" and not _stands_alone(text, found.start()):
            continue
        rows[-1].append(text[start : found.start()])
        start = found.end()
        if is_break:
            rows.append([])
    rows[-1].append(text[start:])
    rows = [row for row in rows if len(row) > 1 or row[0].strip()]
    return _joined(rows) if format == "unichart" else rows


def _without_prose(rows: list[list[str]]) -> list[list[str]]:
    """Drop rows of one cell above and below a table of several columns: what a chat model says about it."""
    wide = [i for i, row in enumerate(rows) if len(row) > 1]
    return rows[wide[0] : wide[-1] + 1] if len(wide) > 1 else rows


def _stands_alone(text: str, at: int) -> bool:
    """Tell whether there is white space on both sides of a character, or an end of the text: `R&D` is one word."""
    return (at == 0 or text[at - 1].isspace()) and (at + 1 == len(text) or text[at + 1].isspace())


def _joined(rows: list[list[str]]) -> list[list[str]]:
    """Join the parts of rows that an ampersand inside a label has broken."""
    joined: list[list[str]]
    if not rows:
        return rows
    is_titled = len(rows[0]) == 2 and rows[0][0].strip().casefold() == "title" and len(rows) > 1
    joined, rows = (rows[:1], rows[1:]) if is_titled else ([], rows)
    counts = Counter(map(len, rows))
    width = max(counts, key=lambda cells: (counts[cells], cells))
    first = len(joined)
    for row in rows:
        last = joined[-1] if len(joined) > first else None
        fits = last is not None and len(last) < width and len(last) + len(row) - 1 <= width
        if last is not None and fits and not _ends_a_row(last[-1]):
            joined[-1] = [*last[:-1], f"{last[-1].rstrip()} & {row[0].lstrip()}", *row[1:]]
        else:
            joined.append(row)
    return joined


def _ends_a_row(cell: str) -> bool:
    return read_number(cell) is not None or is_missing(cell.strip())


def _without_markdown(rows: list[list[str]], *, always: bool) -> list[list[str]]:
    """Drop the line of dashes and the outer bars of a Markdown table."""
    dashes = next((i for i, row in enumerate(rows[:3]) if i and _are_dashes(row)), None)
    framed = [len(row) > 2 and not row[0].strip() and not row[-1].strip() for row in rows]
    if dashes is None:
        return [row[1:-1] for row in rows] if (always or len(rows) > 1) and rows and all(framed) else rows
    rows = rows[:dashes] + rows[dashes + 1 :]
    del_first = framed[dashes] or (len(rows) > 0 and all(not row[0].strip() for row in rows))
    if not del_first:
        return rows
    return [row[1:-1] if len(row) > 2 and not row[-1].strip() else row[1:] if len(row) > 1 else row for row in rows]


def _are_dashes(row: list[str]) -> bool:
    inner = [cell for k, cell in enumerate(row) if cell.strip() or 0 < k < len(row) - 1]
    return bool(inner) and all(DASHES.fullmatch(cell) for cell in inner) and any("--" in cell for cell in inner)


def _delimiter(text: str) -> str | None:
    """Return the delimiter of a text in CSV: the one that its first line has most of, or else its second one."""
    lines = [line for line in _NEWLINE.split(_QUOTED.sub("", text)) if line.strip()]
    for line in lines[:2]:
        counts = {delimiter: line.count(delimiter) for delimiter in ",;\t"}
        best = max(counts, key=lambda delimiter: counts[delimiter])
        if counts[best]:
            return best
    return None


def _csv_rows(text: str) -> list[list[str]]:
    text = text.removeprefix("\ufeff")
    delimiter = _delimiter(text) or ","
    try:
        return [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
    except csv.Error:  # a field of more than 131,072 characters: not a table that csv could read
        return [line.split(delimiter) for line in _NEWLINE.split(text) if line.strip()]


def _title(rows: list[list[str]]) -> tuple[str, list[list[str]]]:
    if not rows or len(rows[0]) != 2:
        return "", rows
    name = rows[0][0].strip()
    if name in ("TITLE", "title") or (name.casefold() == "title" and len(rows) > 1 and len(rows[1]) != 2):
        return rows[0][1], rows[1:]
    return "", rows
