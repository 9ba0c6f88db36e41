"""Errors that the user of a script can fix: one line in the words of the command line, and no traceback."""

from __future__ import annotations

import dataclasses
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from ..printable import printable
from .arguments import DataArguments, ModelArguments
from .hints import for_command_line, named_as_on_hub
from .static_arguments import UnreadableError, training_arguments

logger = logging.getLogger(__name__)

__all__ = ["CommandLineFormatter", "argument_names", "log_to_terminal", "one_line", "one_line_errors", "with_notes"]


def one_line(error: BaseException) -> str:
    r"""Return the message of an error and its notes in one line, or the name of its type where it has no message.

    Example:
        >>> one_line(ConnectionError("no network\n\n  try later"))
        'no network try later'
        >>> one_line(FileNotFoundError())
        'FileNotFoundError'
    """
    text = " ".join(line.strip() for line in with_notes(error).splitlines() if line.strip())
    return printable(text) or type(error).__name__


def with_notes(error: BaseException) -> str:
    """Return the message of an error, followed by its notes.

    Example:
        >>> error = ValueError("row 5: the image cannot be decoded")
        >>> error.add_note("The 4 answers so far are in scores.jsonl.")
        >>> with_notes(error)
        'row 5: the image cannot be decoded. The 4 answers so far are in scores.jsonl.'
    """
    notes = getattr(error, "__notes__", [])
    return ". ".join([str(error).rstrip(". "), *notes]) if notes else str(error)


@contextmanager
def one_line_errors(*more: type[Exception], only: bool = False) -> Iterator[None]:
    """End the script with `error: ...` in one line, without a traceback, for errors that its user can fix.

    These are missing or damaged files, an unreachable Hub, arguments that do not fit each other or the model, and
    packages that are not installed. Arguments are named as on the command line.

    Args:
        *more: Further types of such errors.
        only: Whether these are the only ones.

    Raises:
        SystemExit: One of these errors was raised.

    Example:
        >>> with one_line_errors():
        ...     raise FileNotFoundError("there is no folder charts")
        Traceback (most recent call last):
        SystemExit: error: there is no folder charts
    """
    errors: tuple[type[Exception], ...] = more if only else (OSError, ValueError, ImportError, *more)
    try:
        yield
    except errors as error:
        logger.debug("Traceback of the error:", exc_info=True)
        raise SystemExit(f"error: {for_command_line(one_line(error), argument_names())}") from error


class CommandLineFormatter(logging.Formatter):
    """Formatter of a script's log: this package names repositories as on the Hub, and in warnings arguments as on the
    command line.

    Example:
        >>> record = logging.LogRecord("chartqa_ft.a", logging.WARNING, "", 1, "set eval_strategy='steps'", (), None)
        >>> CommandLineFormatter("%(levelname)s %(message)s").format(record)
        'WARNING set --eval_strategy steps'
    """

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if not record.name.startswith("chartqa_ft."):
            return text
        text = named_as_on_hub(text)
        return for_command_line(text, argument_names()) if record.levelno >= logging.WARNING else text


class _Once(logging.Filter):
    """Filter that lets each warning of this package through once: what warns may run twice in a command."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[str, str]] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno != logging.WARNING or not record.name.startswith("chartqa_ft."):
            return True
        line = record.name, record.getMessage()
        is_new = line not in self.seen
        self.seen.add(line)
        return is_new


def log_to_terminal(format: str) -> None:
    """Write warnings and errors of the process to stderr, each warning once, unless its log has a handler already."""
    handler = logging.StreamHandler()
    handler.setFormatter(CommandLineFormatter(format))
    handler.addFilter(_Once())
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    # peft 0.21 calls transformers 5.23 by the old name, which users cannot change.
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)


@cache
def argument_names() -> frozenset[str]:
    """Return the names of the arguments that scripts share: data, model and training.

    Example:
        >>> {"on_error", "max_length", "learning_rate"} <= argument_names()
        True
    """
    try:
        training = training_arguments()
    except UnreadableError:
        from ..training.arguments import ChartQATrainingArguments

        training = ChartQATrainingArguments
    return frozenset(
        field.name for one in (DataArguments, ModelArguments, training) for field in dataclasses.fields(one)
    )
