"""Read and write whole files: no reader sees half a file, and a damaged file is named."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

PARTIAL_SUFFIX = ".part"


@contextmanager
def written_whole(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file that takes the place of `path` when the block ends without an error.

    The temporary file has a new name beside `path`, so that it can neither be a link nor the file of another process.
    It is removed if the block raises.

    Args:
        path: the file to write. Its folder is created if it is missing.
        mode: `"w"` for text in UTF-8 with `\\n` line ends, `"wb"` for bytes.

    Raises:
        OSError: the file cannot be written. What was at `path` before is still there.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "numbers.txt"
        >>> with written_whole(path) as file:
        ...     _ = file.write("1 2 3")
        >>> path.read_text()
        '1 2 3'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL_SUFFIX}")
    encoding, newline = (None, None) if "b" in mode else ("utf-8", "\n")
    try:
        # O_EXCL: never through a link that somebody put there.
        with open(
            os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), mode, encoding=encoding, newline=newline
        ) as file:
            yield file
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_whole(path: str | Path, content: str | bytes) -> Path:
    """Write `content` to `path` so that the file appears whole or not at all. Returns the path.

    Raises:
        OSError: the file cannot be written. What was at `path` before is still there.

    Example:
        >>> import tempfile
        >>> write_whole(Path(tempfile.mkdtemp()) / "answer.txt", "42").read_text()
        '42'
    """
    with written_whole(path, "w" if isinstance(content, str) else "wb") as file:
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


def read_json(path: str | Path, *, kind: type = dict, advice: str = "write or fetch it again") -> Any:
    """Read a JSON file whose content must be a `kind`.

    Args:
        path: the file to read.
        kind: the type that the content must have, `dict` or `list`; `object` for any.
        advice: what to do about a damaged file, as the end of the error message.

    Returns:
        The content. A byte order mark at the start of the file is skipped.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged; the message names it and ends with `advice`.

    Example:
        >>> import tempfile
        >>> read_json(write_whole(Path(tempfile.mkdtemp()) / "state.json", "[1, 2"), kind=list)
        Traceback (most recent call last):
        ...
        ValueError: ...state.json is damaged (Expecting ',' delimiter: ...): write or fetch it again
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise ValueError(f"{path} is damaged ({error or type(error).__name__}): {advice}") from error
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
