"""Text of strangers for a terminal, a log or an error message: what could move the cursor or hide a word is escaped.

Names of files, answers of the Hub, settings of a checkpoint and records of a data set may contain anything. The
warnings of this package are escaped where they are made (`escape_log_records`), its messages about records and the Hub
in their classes, and other errors where they leave `load_chartqa`, `load_checkpoint` and others (`printable_errors`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PACKAGE = __name__.partition(".")[0]


def printable(text: Any, *, lines: bool = False) -> str:
    """Return `str(text)` with escapes in place of characters that are not printed as themselves.

    These are control characters, such as those that begin a terminal's commands, characters that reverse the direction
    of writing or have no width, separators of lines, and lone surrogates. Letters of all scripts are kept.

    Args:
        text: anything.
        lines: keep line ends and tabs, for texts of several lines.

    Example:
        >>> printable("chart\\x1b[2J.png"), printable("Umsätze 売上.png")
        ('chart\\\\x1b[2J.png', 'Umsätze 売上.png')
    """
    text = str(text)
    if text.isprintable():
        return text
    kept = "\n\t" if lines else ""
    return "".join(char if char.isprintable() or char in kept or char in _SPACES else _escape(char) for char in text)


# `str.isprintable` is false for all spaces but one. These have a width and begin no line.
_SPACES = "\u00a0\u202f\u2009\u3000"


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


@contextmanager
def printable_errors() -> Iterator[None]:
    """Escape the messages of errors that are raised in the block, and of their causes, which a traceback prints too.

    The errors themselves and their classes stay the same.

    Example:
        >>> with printable_errors():
        ...     raise ValueError("no column \\x1b[31mlabel")
        Traceback (most recent call last):
        ...
        ValueError: no column \\x1b[31mlabel
    """
    try:
        yield
    except Exception as error:
        _escape_chain(error)
        raise


def _escape_chain(error: BaseException) -> None:
    seen: set[int] = set()
    todo = [error]
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        _escape_message(one)
        for name in ("__cause__", "__context__"):
            earlier = getattr(one, name)
            if earlier is not None:
                _escape_message(earlier)
                if not _is_printable(earlier):  # its class makes the message of something else
                    setattr(one, name, None)
                else:
                    todo.append(earlier)


def _escape_message(error: BaseException) -> None:
    if not _is_printable(error):
        error.args = tuple(printable(part, lines=True) if isinstance(part, str) else part for part in error.args)


def _is_printable(error: BaseException) -> bool:
    text = str(error)
    return printable(text, lines=True) == text


def escape_log_records() -> None:
    """Escape the arguments of every log record of this package from now on; those of other packages are left alone.

    Example:
        >>> escape_log_records()
        >>> record = logging.getLogRecordFactory()("chartqa_ft.x", 30, "x.py", 1, "%s is cut", ("a\\x07.png",), None)
        >>> record.getMessage()
        'a\\\\x07.png is cut'
    """
    make = logging.getLogRecordFactory()
    if getattr(make, "escapes", None) == PACKAGE:
        return

    def escaping(name: str, *arguments: Any, **named: Any) -> logging.LogRecord:
        record = make(name, *arguments, **named)
        if name.partition(".")[0] == PACKAGE:
            if isinstance(record.args, tuple):
                record.args = tuple(map(_printable_argument, record.args))
            elif record.args:
                record.args = {key: _printable_argument(value) for key, value in record.args.items()}
            record.msg = printable(record.msg, lines=True)
        return record

    escaping.escapes = PACKAGE  # type: ignore[attr-defined]
    logging.setLogRecordFactory(escaping)


def _printable_argument(value: Any) -> Any:
    """Return an argument of a log record; only those whose text needs it are replaced by their text."""
    if isinstance(value, (int, float)):
        return value
    text = str(value)
    return value if printable(text) == text else printable(text)
