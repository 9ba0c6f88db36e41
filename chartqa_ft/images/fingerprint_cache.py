"""Keep the fingerprints of charts on disk, so that each chart is decoded once for all comparisons of data sets.

A fingerprint is named by a digest of the image's stored content. It never becomes outdated: with another version of
Pillow, which decodes images, another file is used.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from ..files import write_whole
from .fingerprints import FINGERPRINT

logger = logging.getLogger(__name__)

__all__ = ["KEY_BYTES", "read_fingerprints", "write_fingerprints"]

KEY_BYTES = 16
"""Length of a key, a digest of the image's stored content."""
LIMIT = 40_000
"""Number of fingerprints that are kept, those used last: 330 MB in memory, a tenth of it on disk."""
_VERSION = 2
_CHECKSUM = 32


def fingerprint_file(folder: Path) -> Path:
    """Return the file of the fingerprints in a cache folder."""
    return folder / f"fingerprints-{_VERSION}-pillow-{PIL.__version__}.zst"


def read_fingerprints(folder: Path | None) -> dict[bytes, Any]:
    """Return the fingerprints in a folder by their keys; none if there is no folder or its file is damaged.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_fingerprints(folder, {b"0123456789abcdef": np.zeros((), FINGERPRINT)})
        >>> list(read_fingerprints(folder)), read_fingerprints(None)
        ([b'0123456789abcdef'], {})
    """
    if folder is None:
        return {}
    try:
        data = fingerprint_file(folder).read_bytes()
    except OSError:
        return {}
    checksum, size, packed = data[:_CHECKSUM], data[_CHECKSUM : _CHECKSUM + 8], data[_CHECKSUM + 8 :]
    if checksum != _checksum(size + packed):
        return {}
    plain = memoryview(_zstd().decompress(packed, decompressed_size=int.from_bytes(size, "little")))
    count = len(plain) // (KEY_BYTES + FINGERPRINT.itemsize)
    keys = bytes(plain[: count * KEY_BYTES])
    prints = np.frombuffer(plain[count * KEY_BYTES :], FINGERPRINT)
    return {keys[n * KEY_BYTES : (n + 1) * KEY_BYTES]: prints[n] for n in range(count)}


def write_fingerprints(folder: Path, prints: Mapping[bytes, Any]) -> None:
    """Write the fingerprints of a folder anew, at most `LIMIT` of them, those that come last.

    If that is not possible (a full disk, a read-only folder), a warning says so.
    """
    kept = dict(islice(prints.items(), max(0, len(prints) - LIMIT), None))
    plain = b"".join(kept) + b"".join(one.tobytes() for one in kept.values())
    body = len(plain).to_bytes(8, "little") + _zstd().compress(plain, asbytes=True)
    try:
        write_whole(fingerprint_file(folder), _checksum(body) + body)
    except OSError as error:
        logger.warning(
            "fingerprints of charts cannot be kept in %s, and are computed again next time: %s", folder, error
        )


def _checksum(data: bytes) -> bytes:
    return blake2b(data, digest_size=_CHECKSUM).digest()


def _zstd() -> Any:
    import pyarrow  # a dependency of `datasets`

    return pyarrow.Codec("zstd", compression_level=1)
