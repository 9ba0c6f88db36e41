"""Images and image files that the tests of this folder share."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image


def pixels(image: Image.Image) -> list[tuple[int, ...]]:
    assert image.mode == "RGB"
    return [tuple(pixel) for row in np.asarray(image).tolist() for pixel in row]


def reopened(image: Image.Image, format: str, **options) -> Image.Image:
    return Image.open(io.BytesIO(encoded(image, format, **options)))


def encoded(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def noise(mode: str = "RGB", size: tuple[int, int] = (23, 17)) -> Image.Image:
    shape = (size[1], size[0], 3)
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)).convert(mode)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, compressed: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [png_chunk(b"IHDR", header), png_chunk(b"IDAT", compressed), png_chunk(b"IEND", b"")]
    )


FILES = {
    "png": lambda: encoded(noise(), "PNG"),
    "apng": lambda: encoded(noise(), "PNG", save_all=True, append_images=[noise().rotate(90)]),
    "jpeg": lambda: encoded(noise(), "JPEG"),
    "progressive jpeg": lambda: encoded(noise(), "JPEG", progressive=True),
    "jpeg with restarts": lambda: encoded(noise(), "JPEG", restart_marker_blocks=1),
    "cmyk jpeg": lambda: encoded(noise("CMYK"), "JPEG"),
    "gif": lambda: encoded(noise("P"), "GIF", comment=b"a chart"),
    "animated gif": lambda: encoded(noise("P"), "GIF", save_all=True, append_images=[noise("P").rotate(90)]),
    "webp": lambda: encoded(noise(), "WEBP"),
    "lossless webp": lambda: encoded(noise(), "WEBP", lossless=True),
    "bmp": lambda: encoded(noise(), "BMP"),
    "bilevel bmp": lambda: encoded(noise("1"), "BMP"),
    "tiff": lambda: encoded(noise(), "TIFF"),
    "lzw tiff": lambda: encoded(noise(), "TIFF", compression="tiff_lzw"),
}
