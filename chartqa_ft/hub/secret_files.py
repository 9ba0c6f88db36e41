"""Find secrets in files before they are pushed, in files of any size."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .credentials import KEY_BLOCK, TOKEN_FORMATS, TOKEN_REMOVED, URL_PASSWORD, is_distinct, is_secret, is_secret_name

__all__ = ["find_in_bytes", "find_in_file", "find_named"]

_TOKEN = re.compile("|".join(TOKEN_FORMATS).encode())
_BY_LITERAL = ((b"-----BEGIN ", re.compile(KEY_BLOCK.encode())), (b"://", re.compile(URL_PASSWORD.encode())))
_CHUNK = 1 << 20
_OVERLAP = 16 << 10
"""Bytes. No secret is longer, except for private keys, which are known by their first line."""
# A token has at least 15 of these bytes in a row, which numbers and compressed data have very rarely: the regular
# expression, which is slow, looks only there.
_WORD_BYTES = bytes(chr(byte).isascii() and (chr(byte).isalnum() or chr(byte) in "_-.") for byte in range(256))
_RUN = b"\1" * 15


def find_in_file(path: str | Path, *tokens: str) -> bool:
    """Return whether a file of any size contains one of `tokens` or something that has the format of a secret.

    The file is read in pieces that overlap.

    Raises:
        OSError: the file cannot be read.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "optimizer.pt"
        >>> _ = path.write_bytes(bytes(1 << 20) + b"ghp_" + b"a" * 36)
        >>> find_in_file(path)
        True
    """
    with open(path, "rb") as file:
        tail = b""
        while piece := file.read(_CHUNK):
            chunk = tail + piece
            if find_in_bytes(chunk, *tokens):
                return True
            tail = chunk[-_OVERLAP:]
    return False


def find_in_bytes(content: bytes, *tokens: str) -> bool:
    """Return whether bytes contain one of `tokens` or something that has the format of a secret.

    Example:
        >>> find_in_bytes(b"AKIA" + b"A" * 16), find_in_bytes(b"no secret")
        (True, False)
    """
    known = [token.encode("utf-8", "surrogateescape") for token in tokens if token]
    return any(token in content for token in known) or _has_format(content)


def _has_format(chunk: bytes) -> bool:
    marks = chunk.translate(_WORD_BYTES)
    start = marks.find(_RUN)
    while start >= 0:
        end = marks.find(b"\0", start)
        end = len(chunk) if end < 0 else end
        if _TOKEN.search(chunk, start, end) is not None:
            return True
        start = marks.find(_RUN, end)
    return any(_starts(chunk, *rule) for rule in _BY_LITERAL)


def _starts(chunk: bytes, literal: bytes, pattern: re.Pattern[bytes]) -> bool:
    """Return whether `pattern`, which begins with `literal`, is found."""
    start = chunk.find(literal)
    while start >= 0:
        if pattern.match(chunk, start) is not None:
            return True
        start = chunk.find(literal, start + 1)
    return False


def find_named(values: Any) -> str | None:
    """Return the first key in a JSON value whose value is a secret by its name, `None` if there is none.

    Short words do not count, which a schema may hold, nor `end_of_turn_token` and others of tokenizers.

    Example:
        >>> find_named({"a": [{"db_password": "hunter2x"}]}), find_named({"password": 17})
        ('db_password', None)
    """
    if isinstance(values, Mapping):
        for key, value in values.items():
            is_set = isinstance(value, str) and is_distinct(value) and value != TOKEN_REMOVED
            if is_set and is_secret_name(key, any_token=False) and is_secret(key, value):
                return str(key)
            if (found := find_named(value)) is not None:
                return found
    elif isinstance(values, (list, tuple)):
        return next((found for value in values if (found := find_named(value)) is not None), None)
    return None
