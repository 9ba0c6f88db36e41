"""Read and write whole files: no reader sees half a file, a damaged file is named, and none hangs or crashes."""

from __future__ import annotations

import errno
import io
import json
import os
import secrets
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import IO, Any

from .resources import naming_a_full_disk

PARTIAL_SUFFIX = ".part"
LARGEST_FILE = 2**27
"""Bytes of a JSON file. The largest ones of checkpoints, those of tokenizers, have about 40 MB."""
DEEPEST = 100
"""How deep lists and objects may be nested in a file."""
_TOO_DEEP = f"its brackets are nested more than {DEEPEST} deep"
# Windows has neither: opening a file there follows no link of another user, and named pipes are no files.
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def open_regular(path: str | Path, *, follow: bool = True, mine: bool = False) -> io.FileIO:
    """Open a regular file for reading bytes, without a buffer of its own.

    A pipe, a device or a socket in the place of the file is refused rather than waited for or read without end.

    Args:
        path: the file to read.
        follow: whether `path` may be a link.
        mine: whether the file must belong to this user and be writable by nobody else, as a file in a folder that
            others may write to must be before its content is believed.

    Raises:
        OSError: the file cannot be opened or is not a regular file, or is not as `follow` and `mine` demand.

    Example:
        >>> import tempfile
        >>> with open_regular(write_whole(Path(tempfile.mkdtemp()) / "answer.txt", "42")) as file:
        ...     file.read()
        b'42'
        >>> open_regular(tempfile.mkdtemp())
        Traceback (most recent call last):
        ...
        OSError: [Errno 22] not a regular file: ...
    """
    # Before it is opened, which alone has effects on some devices.
    _check_regular(os.stat(path) if follow else os.lstat(path), path)
    # O_NONBLOCK: a pipe that took the place of the file in the meantime is not waited for.
    descriptor = os.open(path, os.O_RDONLY | _NO_WAIT | (0 if follow else _NO_LINK))
    try:
        found = os.fstat(descriptor)
        _check_regular(found, path)
        if mine and not is_mine(found):
            raise PermissionError(errno.EPERM, "another user owns the file or may write to it", str(path))
        return open(descriptor, "rb", buffering=0)
    except BaseException:
        os.close(descriptor)
        raise


def is_mine(found: os.stat_result, others: int = stat.S_IWGRP | stat.S_IWOTH) -> bool:
    """Return whether a file or folder belongs to this user and gives nobody else any of the permissions `others`.

    Example:
        >>> import tempfile
        >>> is_mine(os.stat(tempfile.mkdtemp()))
        True
    """
    if not hasattr(os, "geteuid"):  # Windows has other owners and permissions
        return True
    return found.st_uid == os.geteuid() and not found.st_mode & others


def read_regular(path: str | Path, limit: int) -> bytes:
    """Return the content of a regular file of at most `limit` bytes.

    Raises:
        OSError: the file cannot be read, is not a regular file, or is larger.

    Example:
        >>> import tempfile
        >>> read_regular(write_whole(Path(tempfile.mkdtemp()) / "answer.txt", "42"), limit=1)
        Traceback (most recent call last):
        ...
        OSError: [Errno 27] 2 bytes are more than the limit of 1: ...
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(size) if size <= limit else b""
        while size <= limit and len(content) <= limit:
            more = file.read(1)
            if not more:
                return content
            content += more + file.read(1 << 20)  # more than its size says, as in /proc
        size = max(size, len(content))
    raise OSError(errno.EFBIG, f"{size:,} bytes are more than the limit of {limit:,}", str(path))


def _check_regular(found: os.stat_result, path: str | Path) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = errno.ELOOP if stat.S_ISLNK(found.st_mode) else errno.EINVAL
        raise OSError(kind, "not a regular file", str(path))


@contextmanager
def written_whole(path: str | Path, mode: str = "w", *, permissions: int = 0o666) -> Iterator[IO[Any]]:
    """Open a temporary file that takes the place of `path` when the block ends without an error.

    The temporary file has a new name beside `path`, so that it can neither be a link nor the file of another process.
    It is removed if the block raises.

    Args:
        path: the file to write. Its folder is created if it is missing.
        mode: `"w"` for text in UTF-8 with `\\n` line ends, `"wb"` for bytes.
        permissions: of the new file, less those that the process masks (`umask`).

    Raises:
        OSError: the file cannot be written; if the disk is full, the message says so. What was at `path` before is
            still there.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "numbers.txt"
        >>> with written_whole(path) as file:
        ...     _ = file.write("1 2 3")
        >>> path.read_text()
        '1 2 3'
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL_SUFFIX}")
    encoding, newline = (None, None) if "b" in mode else ("utf-8", "\n")
    kept = "what was there before is unchanged" if path.exists() else "no part of it is left"
    message = f"{path} could not be written, and {kept}. Free some space, then try again"
    with naming_a_full_disk(message, file=path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # O_EXCL and O_NOFOLLOW: never through a link that somebody put there.
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK, permissions)
            with open(descriptor, mode, encoding=encoding, newline=newline) as file:
                yield file
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def write_whole(path: str | Path, content: str | bytes, *, permissions: int = 0o666) -> Path:
    """Write `content` to `path` so that the file appears whole or not at all. Returns the path.

    Raises:
        OSError: the file cannot be written. What was at `path` before is still there.

    Example:
        >>> import tempfile
        >>> write_whole(Path(tempfile.mkdtemp()) / "answer.txt", "42").read_text()
        '42'
    """
    with written_whole(path, "w" if isinstance(content, str) else "wb", permissions=permissions) as file:
        file.write(content)
    return Path(path)


def write_json(path: str | Path, value: Any, *, indent: int | None = 2) -> Path:
    """Write `value` as JSON with a final newline; the file appears whole or not at all. Returns the path.

    Args:
        path: the file to write.
        value: anything that `json.dumps` takes.
        indent: as in `json.dumps`.

    Raises:
        OSError: the file cannot be written.
        TypeError: JSON has no form for `value`.

    Example:
        >>> import tempfile
        >>> path = write_json(Path(tempfile.mkdtemp()) / "scores.json", {"n": 3}, indent=None)
        >>> read_json(path)
        {'n': 3}
    """
    return write_whole(path, json.dumps(value, indent=indent) + "\n")


def check_not_read(path: str | os.PathLike[str], *read: Any) -> None:
    """Check that the file to write is none of those that are read.

    Args:
        path: the file to write.
        *read: what is read: paths, or anything else, which is no file.

    Raises:
        ValueError: it is one of them.

    Example:
        >>> import tempfile
        >>> path = write_whole(Path(tempfile.mkdtemp()) / "answers.jsonl", "42")
        >>> check_not_read(path, [42], None, path.parent / ".." / path.parent.name / path.name)
        Traceback (most recent call last):
        ...
        ValueError: .../answers.jsonl is the file that is read: write to another one
    """
    files = [other for other in read if isinstance(other, (str, os.PathLike)) and os.path.exists(other)]
    if os.path.exists(path) and any(os.path.samefile(path, other) for other in files):
        raise ValueError(f"{path} is the file that is read: write to another one")


def read_text(path: str | Path, *, limit: int = LARGEST_FILE) -> str:
    """Return the text of a regular file in UTF-8. A byte order mark at its start is skipped.

    Args:
        path: the file to read.
        limit: the largest size of the file, in bytes.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is larger, not in UTF-8 or not a regular file.

    Example:
        >>> import tempfile
        >>> read_text(write_whole(Path(tempfile.mkdtemp()) / "answer.txt", "42"))
        '42'
    """
    try:
        return read_regular(path, limit).decode("utf-8-sig")
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EFBIG):
            raise ValueError(error.strerror) from error
        raise


def parse_json(text: str, *, decoder: json.JSONDecoder | None = None) -> Any:
    """Parse JSON text within bounds, so that no text crashes this function or those that get its value.

    NaN and infinity are numbers, as for `json.loads`.

    Args:
        text: the JSON text.
        decoder: what parses it; `None` takes a decoder that refuses an object which has a key twice.

    Raises:
        json.JSONDecodeError: the text is not JSON.
        ValueError: its brackets are nested more than `DEEPEST` deep, an integer has more digits than Python converts
            (4,300 by default), or an object has a key twice.

    Example:
        >>> parse_json("[" * 1000)
        Traceback (most recent call last):
        ...
        ValueError: its brackets are nested more than 100 deep
    """
    try:
        value = (decoder or _DECODER).decode(text)
    except (json.JSONDecodeError, _RepeatedKeyError):
        raise
    except ValueError as error:
        raise ValueError("an integer has thousands of digits") from error
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    if text.count("[") + text.count("{") > DEEPEST:
        _check_depth(value)
    return value


class _RepeatedKeyError(ValueError):
    """A JSON object that has a key more than once."""


def repeated(names: Iterable[str]) -> str | None:
    """Return the first of `names` that occurs again, or `None`.

    Example:
        >>> repeated(["a", "b", "a"]), repeated(["a", "b"])
        ('a', None)
    """
    return next((name for name, count in Counter(names).items() if count > 1), None)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _RepeatedKeyError(f"it has {repeated(key for key, _ in pairs)!r:.100} twice")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)


def _check_depth(value: Any) -> None:
    """Check that a value is nested at most `DEEPEST` deep, because `repr` and many others recurse into it."""
    level = [value]
    for _ in range(DEEPEST):
        level = [
            child
            for parent in level
            if isinstance(parent, (dict, list))
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return
    raise ValueError(_TOO_DEEP)


def read_json(path: str | Path, *, kind: type = dict, advice: str = "write or fetch it again") -> Any:
    """Read a JSON file whose content must be a `kind`, within the bounds of `parse_json`.

    Args:
        path: the file to read.
        kind: the type that the content must have, `dict` or `list`; `object` for any.
        advice: what to do about a damaged file, as the end of the error message.

    Returns:
        The content. A byte order mark at the start of the file is skipped.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, larger than `LARGEST_FILE` bytes or not a regular file; the message names it
            and ends with `advice`.

    Example:
        >>> import tempfile
        >>> read_json(write_whole(Path(tempfile.mkdtemp()) / "state.json", "[1, 2"), kind=list)
        Traceback (most recent call last):
        ...
        ValueError: ...state.json is damaged (Expecting ',' delimiter: ...): write or fetch it again
    """
    try:
        value = parse_json(read_text(path))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): {advice}") from error
    if not isinstance(value, kind):
        names: dict[type, str] = {dict: "a JSON object", list: "a JSON array"}
        expected = names.get(kind, kind.__name__)
        raise ValueError(f"{path} is damaged (it does not hold {expected}): {advice}")
    return value


def as_json(value: Any) -> Any:
    """Return `value` as JSON would give it back, for values of any library.

    NaN and infinity become `None`, sets sorted lists of strings, tensors and arrays lists, enums their value, and
    anything else that JSON has no form for a string.

    Example:
        >>> as_json({"loss": float("nan"), "targets": {"v_proj", "q_proj"}, "folder": Path("out")})
        {'loss': None, 'targets': ['q_proj', 'v_proj'], 'folder': 'out'}
    """

    def other(thing: Any) -> Any:
        if isinstance(thing, (set, frozenset)):
            return sorted(map(str, thing))
        return thing.tolist() if hasattr(thing, "tolist") else str(getattr(thing, "value", thing))

    return json.loads(json.dumps(value, default=other), parse_constant=lambda _: None)


def check_name_inside(name: Any, *, where: str) -> str:
    """Check that a name found inside a file can only mean a file in the folder of that file. Returns the name.

    Args:
        name: the name, relative to the folder and with `/` between its parts.
        where: what holds the name, for the error message.

    Raises:
        ValueError: it is no text or empty, it is absolute, it has a drive, a backslash, a control character or a part
            `.` or `..`; the message names `where`.

    Example:
        >>> check_name_inside("predictions/eval-step-5.jsonl", where="chartqa_scores.json")
        'predictions/eval-step-5.jsonl'
        >>> check_name_inside("../id_rsa", where="chartqa_scores.json")
        Traceback (most recent call last):
        ...
        ValueError: chartqa_scores.json names the file '../id_rsa', which leads out of the folder or is no ...
    """
    is_right = (
        isinstance(name, str)
        and not any(part in ("", ".", "..") for part in name.split("/"))
        and "\\" not in name
        and name.isprintable()  # no control character, no lone surrogate
        and not PureWindowsPath(name).drive
    )
    if not is_right:
        raise ValueError(f"{where} names the file {name!r}, which leads out of the folder or is no name of a file")
    return name


def file_inside(folder: str | Path, name: Any, *, where: str) -> Path:
    """Return the path of a regular file that a file in `folder` names. No link below `folder` is followed.

    `folder` itself may be a link, because the user has named it.

    Args:
        folder: the folder.
        name: as in `check_name_inside`.
        where: what holds the name, for the error message.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the name leads out of the folder, a part of it is a link, or it is no regular file.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = write_whole(folder / "a.txt", "42")
        >>> file_inside(folder, "a.txt", where="index.json").name
        'a.txt'
        >>> (folder / "b.txt").symlink_to("/etc/hosts")
        >>> file_inside(folder, "b.txt", where="index.json")
        Traceback (most recent call last):
        ...
        ValueError: index.json names the file 'b.txt', and ...b.txt is a link, which is not followed
    """
    path = Path(folder)
    parts = check_name_inside(name, where=where).split("/")
    for number, part in enumerate(parts, start=1):
        path = path / part
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            raise ValueError(f"{where} names the file {name!r}, and {path} is a link, which is not followed")
        if not (stat.S_ISREG(mode) if number == len(parts) else stat.S_ISDIR(mode)):
            raise ValueError(f"{where} names the file {name!r}, and {path} is no regular file")
    return path
