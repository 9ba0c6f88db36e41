"""Cache resized charts on disk, so that each chart is resized once rather than in every epoch of every run.

An entry is named by a digest of the image's stored bytes and of everything else that the resized pixels depend on.
Entries never become outdated: with other settings, or another image in the same file, another entry is used.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import shutil
import stat
import struct
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..files import is_mine, open_regular, write_whole
from ..resources import naming_a_full_disk

logger = logging.getLogger(__name__)

GIGABYTE = 10**9
_MAGIC = b"chartqa1"
_HEADER = struct.Struct("<8s32sII")
_NAMES = tuple(re.compile(rf"[0-9a-f]{{{digits}}}") for digits in (32, 2, 38))
"""Names of an entry's folders and of its file. Files with other names are never deleted."""
_UNFINISHED = re.compile(r"[0-9a-f]{38}\.[0-9a-f]{8}\.part|unfinished-.*\.tmp")
"""Names of files that a killed process leaves: of `files.write_whole`, and of older versions."""
_LARGEST = 2**28
"""Bytes. An entry that claims a larger picture is taken for damaged."""
_LARGEST_FILE = _LARGEST + _LARGEST // 128
"""Bytes. zstd makes no picture larger by more than that."""

_WORTHWHILE = 200 * 200
"""Pixels, below which resizing is faster than the cache: a drawn chart of 96 x 96 is resized in 0.3 ms and its entry
written in 3 ms."""

_SETTLED = 600.0
"""Seconds after which the time of an entry's last use is updated."""
_IDLE_OTHERS = 3600.0
"""Seconds without use after which an entry of other settings may be deleted: another run may be using them."""
_IDLE_OWN = 7 * 86400.0
"""The same for the settings in use: charts of the same epoch never displace each other."""
_ABANDONED = 3600.0
"""Seconds after which an unfinished file may be deleted, because its process must have been killed."""


class _Entry(NamedTuple):
    path: str
    settings: str
    used: float
    size: int


@dataclass
class ChartCache:
    """A folder of resized charts that any number of processes may use at the same time.

    Entries are written whole or not at all, and checked when they are read: a damaged entry is made again. So is one
    that another user made or may write to, and no link is followed: on a shared machine, nobody can put another chart
    in the place of yours. If entries cannot be written (a full disk, a read-only folder, another user's folder), there
    is one warning and charts are resized every time. When the folder is full, the entries that have not been used for
    the longest time are deleted, first those of other settings. Entries in use stay, and charts that do not fit beside
    them are not cached. The limit counts the bytes of files; unrelated processes may each exceed it by 1/64.

    An entry holds the picture, compressed with zstd level 1. For 24 charts of ChartQA's test split at 960 pixels this
    takes 125 KB instead of 1,971 KB, 1.6 ms to compress and 0.7 ms to decompress, while resizing takes 35 ms (zlib
    level 1: 134 KB, 6.3 ms and 2.6 ms).

    Args:
        folder: the folder, created when the first chart is cached. It has one folder for each processor's settings.
        max_bytes: limit of its size. The size never exceeds what is there plus half of the free disk space either.

    Example:
        >>> cache = ChartCache(Path(tempfile.mkdtemp()), max_bytes=10**6)
        >>> picture = cache.picture("0" * 32, [b"file content"], lambda: np.zeros((20, 30, 3), np.uint8))
        >>> picture.shape, len(list(cache.folder.rglob("*"))) > 0
        ((20, 30, 3), True)
    """

    folder: Path
    max_bytes: int
    # Shared with the worker processes of a DataLoader: the folder's size in bytes (-1 if unknown), the bytes written
    # since it was measured, and whether writing has stopped.
    _state: torch.Tensor = field(default_factory=lambda: _shared(-1, 0, 0), repr=False, compare=False)

    def picture(
        self,
        settings: str,
        content: Iterable[bytes],
        make: Callable[[], np.ndarray],
        canvas: tuple[int, int] | None = None,
    ) -> np.ndarray:
        """Return a resized chart from the cache, or call `make` and cache its result.

        Args:
            settings: the image processor's `settings_digest`.
            content: parts of the image file's content.
            make: resizes the chart.
            canvas: height and width in pixels that no resized chart exceeds, if there are any.

        Returns:
            uint8 of shape (height, width, 3).
        """
        digest = blake2b(digest_size=20)
        for part in content:
            digest.update(part)
        path = self.folder / settings / digest.hexdigest()[:2] / digest.hexdigest()[2:]
        found = _read(path)
        if found is not None and (canvas is None or (found.shape[0] <= canvas[0] and found.shape[1] <= canvas[1])):
            return found
        picture = make()
        if not self._state[2]:
            self._write(path, settings, picture)
        return picture

    def stop_writing(self, reason: object) -> None:
        """Cache no further charts, in this process and its workers, and log the reason once."""
        stopped, self._state[2] = bool(self._state[2]), 1
        if not stopped:
            logger.warning("resized charts are no longer cached in %s, training continues: %s", self.folder, reason)

    def _write(self, path: Path, settings: str, picture: np.ndarray) -> None:
        height, width = picture.shape[:2]
        packed = _zstd().compress(np.ascontiguousarray(picture), asbytes=True)
        data = _HEADER.pack(_MAGIC, _checksum(path, height, width, packed), height, width) + packed
        try:
            if not self._has_room(len(data), settings):
                return
            with naming_a_full_disk(f"{path.parent} could not be made", file=path.parent):
                for folder in (self.folder / settings, path.parent):
                    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
                    _check_folder(folder, follow=False)
            write_whole(path, data, permissions=0o644)
        except OSError as error:
            self.stop_writing(error)
            return
        self._state[0] += len(data)
        self._state[1] += len(data)

    def _has_room(self, size: int, settings: str) -> bool:
        kept, fresh = self._state[:2].tolist()
        step = self.max_bytes // 64
        if 0 <= kept <= self.max_bytes - size and fresh <= step:
            return True
        entries = list(self._entries())
        kept = sum(entry.size for entry in entries)
        bound = self.max_bytes
        if entries or self.folder.is_dir():
            bound = min(bound, kept + shutil.disk_usage(self.folder).free // 2)
        if kept + size > bound:
            kept -= self._clear(entries, settings, kept + max(size, step) - bound)
        self._state[0], self._state[1] = kept, 0
        if kept + size <= bound:
            return True
        self._state[2] = 1
        logger.info("%s is full (%.1f GB): further charts are resized in every epoch", self.folder, kept / GIGABYTE)
        return False

    def _entries(self) -> Iterator[_Entry]:
        """Yield the entries of all settings, and delete unfinished files of killed processes."""
        now = time.time()
        for settings in _listed(self.folder, _NAMES[0]):
            for part in _listed(settings.path, _NAMES[1]):
                for file in _listed(part.path, _NAMES[2], _UNFINISHED):
                    try:
                        found = file.stat(follow_symlinks=False)
                        if _NAMES[2].fullmatch(file.name):
                            yield _Entry(file.path, settings.name, found.st_mtime, found.st_size)
                        elif now - found.st_mtime > _ABANDONED:
                            os.unlink(file.path)
                    except OSError:
                        continue  # another process deleted it

    def _clear(self, entries: list[_Entry], settings: str, wanted: int) -> int:
        """Delete entries that are not in use until `wanted` bytes are freed, and return the bytes that were freed."""
        now, freed = time.time(), 0
        for entry in sorted(entries, key=lambda entry: (entry.settings == settings, entry.used)):
            if freed >= wanted:
                break
            if now - entry.used > (_IDLE_OWN if entry.settings == settings else _IDLE_OTHERS):
                try:
                    os.unlink(entry.path)
                except FileNotFoundError:
                    pass
                except OSError:
                    continue
                freed += entry.size
        return freed


def open_chart_cache(choice: str, gigabytes: float, pixels: int) -> ChartCache | None:
    """Open the cache that a user has chosen.

    Args:
        choice: a folder; `"off"` for no cache; or `"auto"` for `chartqa_ft/charts` in the Hugging Face home
            (`HF_HOME`), but no cache for charts so small that resizing them is faster.
        gigabytes: limit of the cache's size, in units of 10^9 bytes.
        pixels: the largest number of pixels of a resized chart.

    Returns:
        The cache, or `None` for no cache.

    Example:
        >>> open_chart_cache("auto", gigabytes=10, pixels=96 * 96) is None
        True
        >>> open_chart_cache(tempfile.mkdtemp(), gigabytes=0.5, pixels=960 * 960).max_bytes
        500000000
    """
    if choice == "off" or (choice == "auto" and pixels < _WORTHWHILE):
        return None
    if choice == "auto":
        from huggingface_hub.constants import HF_HOME

        choice = str(Path(HF_HOME) / "chartqa_ft" / "charts")
    cache = ChartCache(Path(choice).expanduser().absolute(), int(gigabytes * GIGABYTE))
    try:
        with naming_a_full_disk("no file can be made there", file=cache.folder):
            cache.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            _check_folder(cache.folder)
            with tempfile.TemporaryFile(dir=cache.folder):
                pass
    except OSError as error:
        cache.stop_writing(error)  # once here rather than in every worker
    return cache


def _read(path: Path) -> np.ndarray | None:
    """Return the picture of an entry, or `None` if there is no entry, it is damaged, or it is not this user's own."""
    try:
        with open_regular(path, follow=False, mine=True) as file:
            found = os.fstat(file.fileno())
            data = file.read(found.st_size) if found.st_size <= _LARGEST_FILE else b""
    except OSError:
        return None
    if len(data) < _HEADER.size:
        return None
    magic, checksum, height, width = _HEADER.unpack_from(data)
    packed, size = memoryview(data)[_HEADER.size :], height * width * 3
    if magic != _MAGIC or not 0 < size <= _LARGEST or checksum != _checksum(path, height, width, packed):
        return None
    try:
        pixels = _zstd().decompress(packed, decompressed_size=size)
    except OSError:  # another program wrote it with a valid checksum
        return None
    if pixels.size != size:
        return None
    if time.time() - found.st_mtime > _SETTLED:
        with contextlib.suppress(OSError):  # just deleted
            os.utime(path)
    return np.frombuffer(pixels, dtype=np.uint8).reshape(height, width, 3)


@cache
def _zstd() -> Any:
    import pyarrow  # a dependency of `datasets`

    return pyarrow.Codec("zstd", compression_level=1)


def _checksum(path: Path, height: int, width: int, packed: bytes | memoryview) -> bytes:
    name = f"{path.parent.parent.name}/{path.parent.name}/{path.name} {height} {width} ".encode()
    whole = blake2b(name, digest_size=32)
    whole.update(packed)
    return whole.digest()


def _check_folder(folder: Path, *, follow: bool = True) -> None:
    """Check that no other user decides what a folder of the cache contains.

    Raises:
        OSError: it is a link that must not be followed, another user's, or writable by everybody.
    """
    found = os.stat(folder) if follow else os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "a link or a file in the place of a folder of the cache", str(folder))
    if not is_mine(found, stat.S_IWOTH):
        raise PermissionError(
            errno.EPERM,
            "another user owns the folder, or everybody may write to it: choose a chart_cache of your own",
            str(folder),
        )


def _listed(folder: str | Path, *names: re.Pattern[str]) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            # A link may lead to files with such names that are not this cache's, as those of a git repository are.
            return [
                entry
                for entry in entries
                if any(name.fullmatch(entry.name) for name in names) and not entry.is_symlink()
            ]
    except OSError:
        return []


def _shared(*values: int) -> torch.Tensor:
    tensor = torch.tensor(values)
    try:
        return tensor.share_memory_()
    except RuntimeError:  # without shared memory there are no workers either
        return tensor
