"""The `Table` that parsers return, writers take and metrics compare."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

MOST_CELLS = 1 << 20
"""Cells up to which a table is built at all."""


class TooLargeError(ValueError):
    """A table is too large to be built, parsed or scored."""


_MISSING = frozenset({"", "nan", "n/a", "n.a.", "na", "none", "null", "-", "\u2212", "\u2013", "\u2014", "<na>"})


@dataclass(frozen=True)
class Table:
    """The data table of a chart: a header, rows of the same length, and a title if there is one.

    Cells are texts without outer white space; runs of white space inside, line breaks included, become one space,
    because no linearisation keeps them. Numbers may be given as such, and None for a missing value. Short rows are
    filled with empty cells, rows and right-hand columns without any text are dropped.

    Attributes:
        header: the names of the columns. The first one names the row labels.
        rows: the rows below the header. The first cell of each is its label.
        title: the title of the chart, or `""`.

    Raises:
        ValueError: The table would have more than 1,048,576 cells.
        TypeError: A row is a text, or a cell is neither text nor number nor None.

    Example:
        >>> Table(("Year", "Sales"), [(2019, 4.5), (2020,)]).rows
        (('2019', '4.5'), ('2020', ''))
    """

    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    title: str = ""

    def __init__(self, header: Iterable[Any] = (), rows: Iterable[Iterable[Any]] = (), title: str | None = "") -> None:
        first = _trimmed(header)
        others = [row for row in map(_trimmed, rows) if row]
        width = max(map(len, [first, *others]))
        if width * (len(others) + 1) > MOST_CELLS:
            raise TooLargeError(
                f"a table of {len(others) + 1:,} rows and {width:,} columns has more than {MOST_CELLS:,} cells"
            )
        object.__setattr__(self, "header", _filled(first, width))
        object.__setattr__(self, "rows", tuple(_filled(row, width) for row in others))
        object.__setattr__(self, "title", _cell(title))

    def transposed(self) -> Table:
        """Return the table with its rows as columns.

        Example:
            >>> Table(("Year", "Sales"), [(2019, 4.5), (2020, 5)]).transposed()
            Table(header=('Year', '2019', '2020'), rows=(('Sales', '4.5', '5'),), title='')
        """
        columns = list(zip_longest(self.header, *self.rows, fillvalue=""))
        return Table(columns[0], columns[1:], self.title) if columns else self


def is_missing(cell: str) -> bool:
    """Tell whether a cell says that there is no value: it is empty, `nan`, `n/a`, `null`, `none` or a dash.

    Example:
        >>> is_missing("NaN"), is_missing("-"), is_missing("0")
        (True, True, False)
    """
    return cell.casefold() in _MISSING


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, (int, float)) or hasattr(value, "dtype"):
        return str(value).strip()
    raise TypeError(f"a cell of a table must be a text, a number or None, and is {value!r}")


def _trimmed(row: Iterable[Any]) -> list[str]:
    """Return the cells of a row without the empty ones at its end."""
    if isinstance(row, str):
        raise TypeError(f"a row of a table must be a list of cells, and is the text {row!r}")
    cells = [_cell(value) for value in row]
    while cells and not cells[-1]:
        cells.pop()
    return cells


def _filled(row: list[str], width: int) -> tuple[str, ...]:
    return (*row, *[""] * (width - len(row)))
