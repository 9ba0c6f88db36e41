"""Lines of a file of records, one at a time: bounded, and without an error for bytes that are not UTF-8."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import cast

from ..files import open_regular
from .columns import LayoutError

LONGEST_LINE = 2**28
"""Characters. A chart in base64 takes less."""
NOT_UTF8 = "not UTF-8 text; save it as UTF-8 (Excel calls it CSV UTF-8)"


class RecordLines:
    """Iterate over the lines of a text file.

    Args:
        path: The file.
        keep_ends: Whether the ends of lines stay as they are in the file, as the `csv` module needs, and the lines of
            a record are kept until `start_record`.

    Attributes:
        number (int): How many lines have been read.
        is_broken (bool): Whether the last line holds bytes that are not UTF-8. They are half a surrogate pair each.

    Raises:
        OSError: The file cannot be opened, or is not a regular file.
    """

    def __init__(self, path: Path, *, keep_ends: bool = False) -> None:
        self.path, self.number, self.is_broken, self._keep = path, 0, False, keep_ends
        self._file = io.TextIOWrapper(
            io.BufferedReader(cast(io.RawIOBase, open_regular(path))),
            encoding="utf-8-sig",
            errors="surrogateescape",
            newline="" if keep_ends else None,
        )
        self._again: list[str] = []
        self._taken: list[str] = []

    def __enter__(self) -> RecordLines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.pop() if self._again else self._file.readline(LONGEST_LINE)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) >= LONGEST_LINE:
            raise LayoutError(f"{self.path}, line {self.number}: more than {LONGEST_LINE:,} characters")
        self.is_broken = not is_utf8(line)
        if self._keep and (self._taken or line.strip("\r\n")):  # the csv module passes over empty lines
            self._taken.append(line)
        return line

    def start_record(self) -> None:
        """Begin a record with the next line."""
        self._taken.clear()

    def back_to_second(self) -> int:
        """Go back to the second line of the record. Returns the number of its first line."""
        self._again += self._taken[:0:-1]
        self.number -= max(len(self._taken) - 1, 0)
        self._taken.clear()
        return self.number

    @property
    def has_broken(self) -> bool:
        """Whether a line of the record holds bytes that are not UTF-8."""
        return not all(map(is_utf8, self._taken))


def is_utf8(text: str) -> bool:
    """Return whether UTF-8 can hold a text: not if it has half a surrogate pair.

    Example:
        >>> is_utf8("caf\\u00e9"), is_utf8("\\ud800")
        (True, False)
    """
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
