"""Checksums of files of any size: a quick one of both ends, and one of every byte."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

__all__ = ["SUMMED_WHOLE", "block_sums", "end_sum"]

SUMMED_WHOLE = 4 << 30
"""Size in bytes up to which every byte of a file is summed. Of larger files, only both ends are."""
_END = 1 << 18
_BLOCK = 1 << 26
_READ = 1 << 20
_THREADS = min(4, os.cpu_count() or 1)


def end_sum(path: str | Path) -> int:
    """Return the CRC-32 of the first and the last 256 KiB of a file, which takes no time for files of any size.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "answer.txt"
        >>> _ = path.write_bytes(b"42")
        >>> end_sum(path) == zlib.crc32(b"42")
        True
    """
    with open(path, "rb") as file:
        checksum = zlib.crc32(file.read(_END))
        file.seek(max(file.tell(), os.fstat(file.fileno()).st_size - _END))
        return zlib.crc32(file.read(_END), checksum)


def block_sums(paths: Iterable[Path]) -> dict[Path, list[int]]:
    """Return the CRC-32 of every 64 MiB of files, for those of which `end_sum` leaves something out.

    Blocks are summed by up to four threads: zlib releases the lock of the interpreter.

    Args:
        paths: the files. Those above `SUMMED_WHOLE` are left out.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "weights"
        >>> _ = path.write_bytes(bytes(600_000))
        >>> block_sums([path]) == {path: [zlib.crc32(bytes(600_000))]}
        True
    """
    sizes = {path: path.stat().st_size for path in paths}
    blocks = [
        (path, start)
        for path, size in sizes.items()
        if 2 * _END < size <= SUMMED_WHOLE
        for start in range(0, size, _BLOCK)
    ]
    sums: dict[Path, list[int]] = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        for (path, _), checksum in zip(blocks, pool.map(_block_sum, blocks), strict=True):
            sums.setdefault(path, []).append(checksum)
    return sums


def _block_sum(block: tuple[Path, int]) -> int:
    path, start = block
    checksum, left = 0, _BLOCK
    with open(path, "rb") as file:
        file.seek(start)
        while left and (part := file.read(min(_READ, left))):
            checksum, left = zlib.crc32(part, checksum), left - len(part)
    return checksum
