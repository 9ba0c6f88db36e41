"""Full disks and exhausted memory: recognized whichever library meets them, and explained in plain words."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = [
    "FullDiskError",
    "explaining_memory",
    "is_full_disk",
    "is_out_of_memory",
    "message_of",
    "naming_a_full_disk",
    "same_kind",
]

_FULL = "the disk is full"
_TORCH_WRITERS = ("inline_container", "PytorchStreamWriter")
"""Names in torch's RuntimeErrors when it cannot write a file; they do not include the system's reason."""
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_MEMORY_START = "out of memory while "
_NO_MEMORY = re.compile(
    r"out of (shared )?memory|(can't|cannot) allocate memory|not enough memory: you tried|_STATUS_ALLOC_FAILED"
    r"|bad_alloc|Invalid buffer size|is killed by signal: Killed",
    re.IGNORECASE,
)
"""Texts of torch's allocators, CUDA's libraries, the system, and a DataLoader whose worker was killed."""
_REQUESTED = re.compile(r"(?:tried|unable) to allocate ([\d.]+) ?(bytes|[KMGTPE]?i?B)", re.IGNORECASE)
_LONGEST = 500


class FullDiskError(OSError):
    """A disk or a quota that is full. The message says what could not be written and what is kept."""

    file: str | None = None
    """The file that could not be written, if the message is about no more than that."""


# ------------------------------------------------------------------ disk
def is_full_disk(error: BaseException) -> bool:
    """Return whether an error of Python, torch or safetensors says that a file cannot grow.

    The disk or the quota is full, or files may not be as large (`ulimit -f`).

    Example:
        >>> is_full_disk(OSError(errno.ENOSPC, "No space left on device")), is_full_disk(OSError("denied"))
        (True, False)
    """
    if isinstance(error, OSError) and error.errno in _NO_SPACE:
        return True
    text = str(error)
    if isinstance(error, RuntimeError) and any(name in text for name in _TORCH_WRITERS):
        return True
    return _is_system_error(error) and any(
        f"os error {number})" in text.lower() or os.strerror(number) in text for number in _NO_SPACE
    )


@contextmanager
def naming_a_full_disk(message: str, *, file: str | Path | None = None) -> Iterator[None]:
    """Say that the disk is full when a library only gives an error number or the error of its own writer.

    An error that says more than which file could not be written is left as it is.

    Args:
        message: A message that says what could not be saved, what is still intact and what to do.
        file: The file, if the message is about this file alone, so that a caller may say more.

    Raises:
        FullDiskError: In place of an error inside that was caused by a full disk, with its error number.

    Example:
        >>> with naming_a_full_disk("scores.json could not be written"):
        ...     raise OSError(errno.ENOSPC, "No space left on device")
        Traceback (most recent call last):
        chartqa_ft.resources.FullDiskError: [Errno 28] the disk is full: scores.json could not be written
    """
    try:
        yield
    except Exception as error:
        if not is_full_disk(error) or (isinstance(error, FullDiskError) and error.file is None):
            raise
        number = getattr(error, "errno", None)
        inner = getattr(error, "file", None) or getattr(error, "filename", None)
        where = f" (while {inner} was written)" if inner and str(inner) not in message else ""
        number = number if number in _NO_SPACE else errno.ENOSPC
        # The system's words tell a full disk from a quota that is used up and from a limit of the size of files.
        reason = "" if file is None else f" ({os.strerror(number)})"
        told = FullDiskError(number, f"{_FULL}: {message}{where}{reason}")
        told.file = None if file is None else str(file)
        raise told from error


# ------------------------------------------------------------------ memory
def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory could not be allocated, on the CPU or an accelerator.

    Example:
        >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("CUDA error: out of memory"))
        (True, True)
        >>> is_out_of_memory(RuntimeError("shapes differ"))
        False
    """
    if isinstance(error, MemoryError) or any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return _is_system_error(error) and _NO_MEMORY.search(str(error)) is not None


@contextmanager
def explaining_memory(doing: str, explain: Callable[[], str], **kept: Any) -> Iterator[None]:
    """Say what was being done when memory ran out, how much was requested, and what to lower.

    Args:
        doing: What was being done, as in "out of memory while ...".
        explain: Returns what was needed, what is kept and what to lower. It is called after the error.
        kept: Attributes of the new error, such as results so far.

    Raises:
        Exception: In place of an error inside about memory, an error of the same class (or of its first base class
            that takes a message), which contains the text of the original one.

    Example:
        >>> with explaining_memory("loading out/model", lambda: "Use dtype=torch.bfloat16"):
        ...     raise MemoryError
        Traceback (most recent call last):
        MemoryError: out of memory while loading out/model. Use dtype=torch.bfloat16 (MemoryError)
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error) or message_of(error).startswith(_NO_MEMORY_START):
            raise
        told = same_kind(error, f"{_NO_MEMORY_START}{doing}{_requested(error)}. {explain()} ({_original(error)})")
        for name, value in kept.items():
            setattr(told, name, value)
        raise told from error


def same_kind(error: BaseException, message: str) -> Exception:
    """Return a new error with another message, of the class of `error` or its first base class that takes one.

    Example:
        >>> same_kind(KeyError("x"), "no x")
        KeyError('no x')
        >>> same_kind(OSError(28, "full"), "no room").errno
        28
    """
    for kind in type(error).__mro__:
        try:
            made = kind(error.errno, message) if isinstance(error, OSError) else kind(message)
        except Exception:  # the class takes other arguments, as numpy's _ArrayMemoryError
            continue
        if isinstance(made, Exception) and message in str(made):
            return made
    return RuntimeError(message)


def message_of(error: BaseException) -> str:
    """Return the text of an error, without the error number that an `OSError` shows.

    Example:
        >>> message_of(OSError(28, "the disk is full"))
        'the disk is full'
    """
    return str(getattr(error, "strerror", None) or error)


def _is_system_error(error: BaseException) -> bool:
    """Return whether the text of the error may be the system's: those of our own checks may quote anything."""
    return isinstance(error, (RuntimeError, OSError)) or type(error).__name__ == "SafetensorError"


def _requested(error: BaseException) -> str:
    found = _REQUESTED.search(str(error))
    if found is None:
        return ""
    amount, unit = found.groups()
    size = f"{float(amount) / 2**30:,.2f} GiB" if unit == "bytes" else f"{amount} {unit}"
    return f" ({size} more {'was' if size.startswith('1 ') else 'were'} requested)"


def _original(error: BaseException) -> str:
    """Return the original text; of an error from a worker process, which holds a traceback, the last line."""
    lines = str(error).strip().splitlines()
    text = "" if not lines else lines[-1] if lines[0].startswith("Caught ") else " ".join(lines)
    name = type(error).__name__
    return name if not text else text[:_LONGEST] if text.startswith(name) else f"{name}: {text[:_LONGEST]}"
