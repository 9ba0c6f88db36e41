"""`RowTable`: the rows of an evaluation in columns of bytes, a small part of the memory that dicts take."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, overload

import numpy as np

_ABSENT, _NONE, _TEXT, _FLOAT, _INTEGER, _OTHER = range(6)
_DOUBLE, _INT64, _LENGTH = struct.Struct("=d"), struct.Struct("=q"), struct.Struct("=I")
_INTEGERS = range(-(2**63), 2**63)
_LONGEST_TEXT = 2**32
"""Bytes of a text that `_LENGTH` can count. A character takes at most 4."""
_RECENT = 64
"""Number of texts of a column that are looked up before one is stored, or decoded, again."""


class _Column:
    """One value a row: its kind, and a number, or where its text is among the bytes of all texts."""

    def __init__(self) -> None:
        self.kinds = bytearray()
        self.cells = array("q")
        self.texts = bytearray()
        self.others: list[Any] = []
        self._places: dict[str, int] = {}
        self._decoded: dict[int, str] = {}

    def holds(self, row: int) -> bool:
        return row < len(self.kinds) and self.kinds[row] != _ABSENT

    def get(self, row: int) -> Any:
        kind, cell = self.kinds[row], self.cells[row]
        if kind == _TEXT:
            return self._text_at(cell)
        if kind == _FLOAT:
            return _DOUBLE.unpack(_INT64.pack(cell))[0]
        if kind == _INTEGER:
            return cell
        return None if kind == _NONE else self.others[cell]

    def set(self, row: int, value: Any) -> None:
        missing = row + 1 - len(self.kinds)
        if missing > 0:
            self.kinds.extend(bytes(missing))
            self.cells.extend([0] * missing)
        # Other types, such as a list of answers or a subclass of str, are kept as they are.
        kind = type(value)
        if kind is str and len(value) < _LONGEST_TEXT // 4:
            self.kinds[row], self.cells[row] = _TEXT, self._place_of(value)
        elif kind is float:
            self.kinds[row], self.cells[row] = _FLOAT, _INT64.unpack(_DOUBLE.pack(value))[0]
        elif kind is int and value in _INTEGERS:
            self.kinds[row], self.cells[row] = _INTEGER, value
        elif value is None:
            self.kinds[row] = _NONE
        else:
            self.kinds[row], self.cells[row] = _OTHER, len(self.others)
            self.others.append(value)

    def _place_of(self, text: str) -> int:
        """Return where a text is stored."""
        place = self._places.get(text)
        if place is None:
            encoded = text.encode("utf-8", "surrogatepass")
            place = len(self.texts)
            self.texts += _LENGTH.pack(len(encoded)) + encoded
            if len(self._places) == _RECENT:
                self._places.clear()
            self._places[text] = place
        return place

    def _text_at(self, place: int) -> str:
        text = self._decoded.get(place)
        if text is None:
            start = place + _LENGTH.size
            (length,) = _LENGTH.unpack_from(self.texts, place)
            text = self.texts[start : start + length].decode("utf-8", "surrogatepass")
            if len(self._decoded) == _RECENT:
                self._decoded.clear()
            self._decoded[place] = text
        return text


class TableRow(MutableMapping[str, Any]):
    """One row of a `RowTable`: changes are stored in the table."""

    __slots__ = ("_columns", "_row")

    def __init__(self, columns: dict[str, _Column], row: int) -> None:
        self._columns, self._row = columns, row

    def __getitem__(self, key: str) -> Any:
        column = self._columns.get(key)
        if column is None or not column.holds(self._row):
            raise KeyError(key)
        return column.get(self._row)

    def get(self, key: str, default: Any = None) -> Any:
        column = self._columns.get(key)
        return column.get(self._row) if column is not None and column.holds(self._row) else default

    def __contains__(self, key: object) -> bool:
        column = self._columns.get(key) if isinstance(key, str) else None
        return column is not None and column.holds(self._row)

    def __setitem__(self, key: str, value: Any) -> None:
        column = self._columns.get(key)
        if column is None:
            column = self._columns[key] = _Column()
        column.set(self._row, value)

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        self._columns[key].kinds[self._row] = _ABSENT

    def __iter__(self) -> Iterator[str]:
        return (key for key, column in self._columns.items() if column.holds(self._row))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(dict(self))


class RowTable(Sequence[TableRow]):
    """Rows with texts and numbers, which are read and changed as if they were dicts.

    Values come back equal and with their type. Texts, floats, integers and None take 9 bytes and the UTF-8 bytes of
    the text, of which recent equal ones are stored once; other values are kept as objects.

    Args:
        rows: The first rows.

    Example:
        >>> table = RowTable([{"index": 1, "answer": "7"}, {"index": 0, "answer": ["8", "eight"]}])
        >>> table[0]["prediction"] = "7.1"
        >>> table[0], table[-1].get("prediction")
        ({'index': 1, 'answer': '7', 'prediction': '7.1'}, None)
        >>> [row["index"] for row in table.in_order()]
        [0, 1]
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        self._columns: dict[str, _Column] = {}
        self._chosen: Sequence[int] | None = None
        """The rows of the columns that this table has, in its order; `None` for all."""
        self._number = 0
        self.extend(rows)

    def extend(self, rows: Iterable[Mapping[str, Any]]) -> list[TableRow]:
        """Add rows at the end and return them as rows of this table.

        Raises:
            TypeError: This table is a choice of the rows of another.
        """
        if self._chosen is not None:
            raise TypeError("rows can only be added to the table that has all rows")
        added = []
        for row in rows:
            new = TableRow(self._columns, self._number)
            self._number += 1
            new.update(row)
            added.append(new)
        return added

    def __len__(self) -> int:
        return self._number if self._chosen is None else len(self._chosen)

    @overload
    def __getitem__(self, place: int) -> TableRow: ...
    @overload
    def __getitem__(self, place: slice) -> list[TableRow]: ...
    def __getitem__(self, place: int | slice) -> TableRow | list[TableRow]:
        rows = range(self._number) if self._chosen is None else self._chosen
        if isinstance(place, slice):
            return [TableRow(self._columns, row) for row in rows[place]]
        return TableRow(self._columns, rows[place])

    def __iter__(self) -> Iterator[TableRow]:
        return (self[place] for place in range(len(self)))

    def where(self, condition: Callable[[TableRow], bool]) -> RowTable:
        """Return a table of the rows for which a condition holds. It shares the values of this one.

        Example:
            >>> RowTable([{"index": 0}, {"index": 1}]).where(lambda row: row["index"] > 0)[0]
            {'index': 1}
        """
        return self._of(row._row for row in self if condition(row))

    def in_order(self) -> RowTable:
        """Return a table of the rows by `index`, without repeated rows and fillers (index -1).

        Of rows with equal indices the last counts. The table shares the values of this one.
        """
        rows = np.arange(self._number) if self._chosen is None else np.asarray(self._chosen)
        indices = np.fromiter((row["index"] for row in self), np.int64, len(self))
        order = np.argsort(indices, kind="stable")
        rows, indices = rows[order], indices[order]
        is_last: np.ndarray = np.ones(len(indices), bool)
        is_last[:-1] = indices[1:] != indices[:-1]
        return self._of(rows[is_last & (indices >= 0)].tolist())

    def _of(self, rows: Iterable[int]) -> RowTable:
        table = RowTable()
        table._columns, table._chosen, table._number = self._columns, array("q", rows), self._number
        return table
