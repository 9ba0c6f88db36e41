"""The local storage of hf_xet: a client told of the address `local://<folder>` keeps its files there by itself.

Clients name an uploaded file only by its SHA-256; the shards that they leave in the folder say which xet file it is.
The layout of shards is described at https://huggingface.co/docs/xet/shard.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_ROW = 48
"""Bytes of the header of a shard, and of each row in it."""
_BOOKEND = b"\xff" * 32
_HAS_VERIFICATION, _HAS_SHA256 = 1 << 31, 1 << 30


def address(folder: Path) -> str:
    return f"local://{folder.resolve()}"


def stored(folder: Path) -> dict[str, str]:
    """SHA-256 -> xet hash of each file in the storage."""
    return {sha256: name for file in folder.glob("xet/xorbs/shards/*.mdb") for sha256, name in _files(file)}


def fetch(folder: Path, xet_hash: str, size: int, target: Path) -> None:
    """Put a file of the storage together again, in a process of its own: hf_xet leaves logs in HF_HOME."""
    partial = target.with_suffix(".part")
    subprocess.run(
        [sys.executable, __file__, address(folder), xet_hash, str(size), partial],
        env={**os.environ, "HF_HOME": str(target.with_name("hf_xet"))},
        check=True,
        timeout=120,
    )
    partial.replace(target)


def _files(shard: Path) -> Iterator[tuple[str, str]]:
    """(SHA-256, xet hash) of each file that a shard describes."""
    content, at = shard.read_bytes(), _ROW
    while content[at : at + 32] != _BOOKEND and at + _ROW <= len(content):
        name = _hex(content[at : at + 32])
        flags, segments = struct.unpack_from("<II", content, at + 32)
        at += _ROW * (1 + segments * (2 if flags & _HAS_VERIFICATION else 1))
        if flags & _HAS_SHA256:
            yield _hex(content[at : at + 32]), name
            at += _ROW


def _hex(digest: bytes) -> str:
    """xet writes a hash as four little-endian 64-bit numbers."""
    return "".join(digest[start : start + 8][::-1].hex() for start in range(0, 32, 8))


def _fetch_here(endpoint: str, xet_hash: str, size: str, target: str) -> None:
    import hf_xet

    expiry = int(time.time()) + 3600
    session = hf_xet.XetSession()
    with session.new_file_download_group(endpoint=endpoint, token="local", token_expiry_unix_secs=expiry) as group:
        group.start_download_file(hf_xet.XetFileInfo(xet_hash, int(size)), target)


if __name__ == "__main__":
    _fetch_here(*sys.argv[1:])
