"""Fingerprints of charts: the digest of the pixels, perceptual hashes, and small gray pictures.

Charts of one publisher share their template, are mostly white, and differ in a few bars and numbers. A perceptual hash
alone would take many of them for one chart, so that it only proposes pairs (`near`), and two small gray pictures are
then compared cell by cell. A copy of a chart in another format, size or quality differs little everywhere; another
chart differs by much of the contrast somewhere.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from PIL import Image
from xxhash import xxh3_128  # a dependency of `datasets`

from .rgb import with_rgb_values

__all__ = ["FINGERPRINT", "fingerprint"]

CELLS = 64
"""Cells of a gray picture in each direction."""
_FREQUENCIES = 12
_WORDS = 3
"""64-bit words that hold the 12 x 12 - 1 bits of a hash."""
_MARGIN = 40
"""Gray levels by which content differs from the background."""

FINGERPRINT = np.dtype(
    [
        ("pixels", "<u8", (2,)),
        ("hashes", "<u8", (2, _WORDS)),
        ("sides", "<u2", (2,)),
        ("cells", "u1", (2, CELLS, CELLS)),
    ]
)
"""dtype of a fingerprint: 128 bits of a digest of size and RGB values; then for the whole chart, and for the chart
without its margins, a perceptual hash, the shorter side in pixels, and the gray picture."""


def fingerprint(image: Image.Image) -> np.ndarray:
    """Return the fingerprint of a chart, of dtype `FINGERPRINT` and shape ().

    The perceptual hash is the one of the discrete cosine transform in Zauner (2010, "Implementation and benchmarking
    of perceptual image hash functions"), with 143 frequencies in place of 63: a bit says whether the amplitude of a
    frequency is above their median.

    Args:
        image: any PIL image. It is taken as a browser shows it (see `to_rgb`), so that a chart that is stored in
            another lossless format or mode has the same fingerprint.

    Raises:
        OSError: the pixels cannot be decoded.

    Example:
        >>> chart = Image.new("RGB", (80, 60), "white")
        >>> chart.paste("blue", (10, 20, 30, 50))
        >>> print_, quantized = fingerprint(chart), fingerprint(chart.quantize())
        >>> bool(print_ == quantized), int(print_["sides"][0]), int(print_["sides"][1])
        (True, 60, 20)
    """
    rgb = with_rgb_values(image)
    found: np.ndarray = np.zeros((), FINGERPRINT)
    # Not a cryptographic digest, which would take as long as a fifth of the decoding.
    digest = xxh3_128(f"{rgb.width} {rgb.height} ".encode())
    digest.update(rgb.tobytes("raw", "RGB"))
    found["pixels"] = np.frombuffer(digest.digest(), "<u8")
    gray = rgb.convert("L")
    box = None
    for part in (0, 1):
        small = gray.resize((CELLS, CELLS), Image.Resampling.BILINEAR, box=box)
        width, height = gray.size if box is None else (box[2] - box[0], box[3] - box[1])
        found["sides"][part] = min(width, height, 65535)
        found["cells"][part] = np.asarray(small)
        found["hashes"][part] = perceptual_hash(found["cells"][part])
        if not part:
            box = content_box(gray, background=int(np.argmax(small.histogram())))
    return found


def content_box(gray: Any, *, background: int) -> tuple[int, int, int, int] | None:
    """Return the box (left, upper, right, lower) of what is not background, `None` if there is nothing else.

    Example:
        >>> chart = Image.new("L", (80, 60), 255)
        >>> chart.paste(0, (10, 20, 30, 50))
        >>> content_box(chart, background=255)
        (10, 20, 30, 50)
    """
    return gray.point([255 if abs(level - background) > _MARGIN else 0 for level in range(256)]).getbbox()


def perceptual_hash(cells: np.ndarray) -> np.ndarray:
    """Return the hash of a gray picture, uint8 of shape (64, 64), as uint64 of shape (3,). Its last bits are 0.

    Example:
        >>> ramp = np.tile(np.arange(252, -1, -4, dtype=np.uint8), (64, 1))
        >>> int(np.bitwise_count(perceptual_hash(ramp)).sum())
        6
    """
    half = cells.reshape(32, 2, 32, 2).astype(np.float64).mean(axis=(1, 3))
    amplitudes = np.round(_cosines() @ half @ _cosines().T, 6).ravel()[1:]
    bits: np.ndarray = np.zeros(64 * _WORDS, np.uint8)
    bits[: len(amplitudes)] = amplitudes > np.median(amplitudes)
    return np.packbits(bits, bitorder="little").view("<u8")


@cache
def _cosines() -> np.ndarray:
    frequency, place = np.arange(_FREQUENCIES)[:, None], np.arange(32)[None]
    return np.cos(np.pi * frequency * (2 * place + 1) / 64)
