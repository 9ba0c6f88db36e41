"""Resized charts on disk: what makes a chart ready is done once, and not in every epoch of every run.

An entry is named by a digest of the image's stored bytes and of everything that the resized pixels depend on, so that
nothing has to be refreshed: with other settings, or another image in the same file, another entry is looked for.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
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

from ..files import write_whole

logger = logging.getLogger(__name__)

GIGABYTE = 10**9
_MAGIC = b"chartqa1"
_HEADER = struct.Struct("<8s32sII")
_NAMES = tuple(re.compile(rf"[0-9a-f]{{{digits}}}") for digits in (32, 2, 38))
"""Of an entry's folders and its file. Nothing else in a folder is ever deleted, whatever a user keeps there."""
_UNFINISHED = re.compile(r"[0-9a-f]{38}\.[0-9a-f]{8}\.part|unfinished-.*\.tmp")
"""Files of processes that were killed while writing: of `files.write_whole`, and of older versions."""
_LARGEST = 2**28
"""Bytes of the largest picture that is believed, whatever an entry says."""

_WORTHWHILE = 200 * 200
"""Pixels. Measured: a drawn chart of 96 x 96 is resized in 0.3 ms and its entry written in 3 ms."""

_SETTLED = 600.0
"""Seconds after which the time of an entry's last use is written down again."""
_IDLE_OTHERS = 3600.0
"""Seconds without use after which an entry of other settings may go: another run may be at work on them."""
_IDLE_OWN = 7 * 86400.0
"""The same of the settings in use: charts of this epoch never make room for each other."""
_ABANDONED = 3600.0
"""Seconds after which an unfinished file is nobody's: its process was killed."""


class _Entry(NamedTuple):
    path: str
    settings: str
    used: float
    size: int


@dataclass
class ChartCache:
    """A folder of resized charts, for any number of processes at once.

    Entries are written whole or not at all, and checked when they are read: a damaged one is as good as none. What
    cannot be written (a full disk, a folder that is read-only) costs one warning and no chart. When the folder is
    full, entries go that were not used for longest, first those of other settings; entries in use stay, and what does
    not fit beside them is not kept. The bound counts the bytes of files, and processes that do not come of one another
    may each exceed it by a 64th.

    An entry is the picture, zstd level 1. Measured on 24 charts of ChartQA's test split at 960 pixels: 125 KB in place
    of 1,971 KB, packed in 1.6 ms and unpacked in 0.7 ms where resizing takes 35 ms (zlib level 1: 134 KB, 6.3 ms and
    2.6 ms).

    Args:
        folder: made when the first chart is kept. Entries of settings lie in a folder of their own.
        max_bytes: the bound, never more than what is kept and half of what is free on the disk.
    """

    folder: Path
    max_bytes: int
    # Shared with the worker processes of a DataLoader: bytes known to be kept (-1: not known), bytes written since
    # they were counted, whether no more is written.
    _state: torch.Tensor = field(default_factory=lambda: _shared(-1, 0, 0), repr=False, compare=False)

    def picture(self, settings: str, content: Iterable[bytes], make: Callable[[], np.ndarray]) -> np.ndarray:
        """A resized chart, uint8 of shape (height, width, 3): the one that is kept, or `make()`, which is then kept.

        Args:
            settings: 32 hexadecimal digits, `settings_digest` of the image processor.
            content: what the picture is made of, the image file's bytes.
        """
        digest = blake2b(digest_size=20)
        for part in content:
            digest.update(part)
        path = self.folder / settings / digest.hexdigest()[:2] / digest.hexdigest()[2:]
        found = _read(path)
        if found is not None:
            return found
        picture = make()
        if not self._state[2]:
            self._write(path, settings, picture)
        return picture

    def stop_writing(self, reason: object) -> None:
        """Keep no further charts, in this process and its workers, and say why once."""
        said, self._state[2] = bool(self._state[2]), 1
        if not said:
            logger.warning("resized charts are no longer kept in %s, training goes on: %s", self.folder, reason)

    def _write(self, path: Path, settings: str, picture: np.ndarray) -> None:
        height, width = picture.shape[:2]
        packed = _zstd().compress(np.ascontiguousarray(picture), asbytes=True)
        data = _HEADER.pack(_MAGIC, _checksum(path, height, width, packed), height, width) + packed
        try:
            if not self._has_room(len(data), settings):
                return
            write_whole(path, data)
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
        """All entries of the folder, of any settings; unfinished files that nobody writes any more are deleted."""
        now = time.time()
        for settings in _listed(self.folder, _NAMES[0]):
            for part in _listed(settings.path, _NAMES[1]):
                for file in _listed(part.path, _NAMES[2], _UNFINISHED):
                    try:
                        stat = file.stat(follow_symlinks=False)
                        if _NAMES[2].fullmatch(file.name):
                            yield _Entry(file.path, settings.name, stat.st_mtime, stat.st_size)
                        elif now - stat.st_mtime > _ABANDONED:
                            os.unlink(file.path)
                    except OSError:
                        continue  # another process was faster

    def _clear(self, entries: list[_Entry], settings: str, wanted: int) -> int:
        """Delete entries that are not in use until `wanted` bytes are free, if there are so many; how many are."""
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
    """The cache that a user chose.

    Args:
        choice: `"auto"`: `charts` in the folder `chartqa_ft` of the Hugging Face home (`HF_HOME`), but none for charts
            that are resized in less time than an entry is written; `"off"`: none; else a folder.
        gigabytes: its bound, in units of 10^9 bytes.
        pixels: how many a resized chart has at most.
    """
    if choice == "off" or (choice == "auto" and pixels < _WORTHWHILE):
        return None
    if choice == "auto":
        from huggingface_hub.constants import HF_HOME

        choice = str(Path(HF_HOME) / "chartqa_ft" / "charts")
    cache = ChartCache(Path(choice).expanduser().absolute(), int(gigabytes * GIGABYTE))
    try:
        cache.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache.folder):
            pass
    except OSError as error:
        cache.stop_writing(error)  # here, once, and not in every worker
    return cache


def _read(path: Path) -> np.ndarray | None:
    """The picture of an entry; `None` where there is none, or it is not what was written under this name."""
    try:
        with open(path, "rb") as file:
            data = file.read()
            used = os.fstat(file.fileno()).st_mtime
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
    except OSError:  # written with a right checksum by somebody else
        return None
    if pixels.size != size:
        return None
    if time.time() - used > _SETTLED:
        with contextlib.suppress(OSError):  # somebody else's entry, or deleted just now
            os.utime(path)
    return np.frombuffer(pixels, dtype=np.uint8).reshape(height, width, 3)


@cache
def _zstd() -> Any:
    import pyarrow  # what `datasets` keeps its tables with

    return pyarrow.Codec("zstd", compression_level=1)


def _checksum(path: Path, height: int, width: int, packed: bytes | memoryview) -> bytes:
    name = f"{path.parent.parent.name}/{path.parent.name}/{path.name} {height} {width} ".encode()
    whole = blake2b(name, digest_size=32)
    whole.update(packed)
    return whole.digest()


def _listed(folder: str | Path, *names: re.Pattern[str]) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if any(name.fullmatch(entry.name) for name in names)]
    except OSError:
        return []


def _shared(*values: int) -> torch.Tensor:
    tensor = torch.tensor(values)
    try:
        return tensor.share_memory_()
    except RuntimeError:  # no shared memory on this machine: then there are no workers either
        return tensor
