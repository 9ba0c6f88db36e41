"""Check image files without decoding their pixels."""

from __future__ import annotations

import io
import mmap
import re
import struct
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ..files import open_regular
from .bombs import (
    MAX_BLOCKS,
    MAX_FILE_BYTES,
    declared_size,
    exif_bomb,
    find_bomb,
    png_chunks,
)
from .png import plain_png_size
from .rgb import ORIENTATION_TAG

if TYPE_CHECKING:
    from PIL import Image

    Buffer = bytes | mmap.mmap


DEFAULT_MAX_PIXELS = 89_478_485
"""Pillow's own limit for its warning (a quarter of a GiB of RGB), over fifty times the largest ChartQA chart."""
# The widest ChartQA chart has 2.6. If the ratio exceeds the model's image size (96 pixels for a tiny one), image
# processors shrink the short side to 0 pixels and fail. Qwen-VL refuses ratios above 200, and Donut's processor
# enlarges the short side first: 1 x 3000 to 960 x 2,880,000.
MAX_ASPECT_RATIO = 50
"""Largest ratio of the longest side to the shortest."""
# Pillow reads more formats, but runs other programs for some of them (Ghostscript for EPS).
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
# Inside the compressed data of a JPEG, 0xFF is followed by 0 (an escaped 0xFF), a restart number or another 0xFF.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)


class BrokenImageError(ValueError):
    """The file is not an image, or cannot be decoded."""


class TruncatedImageError(BrokenImageError):
    """The image file ends too early, as after an interrupted download."""


class ImageTooLargeError(ValueError):
    """The image has more pixels than the limit, by mistake or as a decompression bomb."""


class ImageShapeError(ValueError):
    """The image has no pixels, or is so narrow that image processors cannot resize it."""


def check_pixels(image: Image.Image, max_pixels: int | None) -> None:
    """Check the size of an image before its pixels are decoded.

    Args:
        image: only its `size` and `format` are read.
        max_pixels: limit of width times height; `None` for no limit. JPEG 2000 takes four times the memory and ten
            times the time of other formats to decode, and has a quarter of the limit.

    Raises:
        ImageShapeError: width or height is 0, or the longest side exceeds `MAX_ASPECT_RATIO` times the shortest.
        ImageTooLargeError: the image has more than `max_pixels` pixels.

    Example:
        >>> from PIL import Image
        >>> check_pixels(Image.new("L", (40, 30)), max_pixels=1000)
        Traceback (most recent call last):
        ...
        chartqa_ft.images.check.ImageTooLargeError: the image has 40 x 30 = 1,200 pixels, above the limit of 1,000: ...
    """
    _check_size(image.size, max_pixels)
    check_number(image.size, max_pixels, getattr(image, "format", None))


def refuse_bomb(data: Buffer, max_pixels: int | None) -> None:
    """Refuse an image file that would take much memory or time as soon as it is opened; see `find_bomb`.

    Args:
        data: the content of the file.
        max_pixels: limit of width times height; `None` for no limit.

    Raises:
        ImageTooLargeError: a WebP or GIF has more than `max_pixels` pixels, or the file more than `MAX_FILE_BYTES`.
        BrokenImageError: the file has parts that unpack to far more than its size.

    Example:
        >>> refuse_bomb(b"GIF89a" + bytes([64, 1, 240, 0]), max_pixels=1000)
        Traceback (most recent call last):
        ...
        chartqa_ft.images.check.ImageTooLargeError: the image has 320 x 240 = 76,800 pixels, above the limit of ...
    """
    if len(data) > MAX_FILE_BYTES:
        raise ImageTooLargeError(f"the image file has {len(data):,} bytes, above the limit of {MAX_FILE_BYTES:,}")
    size = declared_size(data)
    if size is not None:
        check_number(size, max_pixels)
    cause = find_bomb(data, max_pixels)
    if cause is not None:
        raise BrokenImageError(f"the image file is built to exhaust memory or time: {cause}")


def _check_size(size: tuple[int, int], max_pixels: int | None) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageShapeError(f"the image has no pixels ({width} x {height})")
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise ImageShapeError(
            f"the image has {width} x {height} pixels, a shape beyond {MAX_ASPECT_RATIO}:1 that image processors "
            "cannot resize"
        )
    check_number(size, max_pixels)


def check_number(size: tuple[int, int], max_pixels: int | None, format: str | None = None) -> None:
    """Check the number of pixels alone; see `check_pixels`.

    Raises:
        ImageTooLargeError: there are more than `max_pixels`.

    Example:
        >>> check_number((40, 30), max_pixels=1200)
        >>> check_number((40, 30), max_pixels=1200, format="JPEG2000")
        Traceback (most recent call last):
        ...
        chartqa_ft.images.check.ImageTooLargeError: the image has 40 x 30 = 1,200 pixels, above the limit of 300 for \
JPEG 2000: ...
    """
    width, height = size
    if max_pixels is None:
        return
    is_slow = format == "JPEG2000"
    limit = max_pixels // 4 if is_slow else max_pixels
    if width * height > limit:
        raise ImageTooLargeError(
            f"the image has {width} x {height} = {width * height:,} pixels, above the limit of {limit:,}"
            f"{' for JPEG 2000' if is_slow else ''}: shrink it, or raise max_pixels if you trust it"
        )


def check_image(image: bytes | str | Path, max_pixels: int | None = DEFAULT_MAX_PIXELS) -> tuple[int, int]:
    """Check an image file without decoding its pixels, and return its width and height.

    The header is parsed, the number of pixels is compared with `max_pixels`, and the file is followed from block to
    block to its end: PNG chunks, JPEG segments and scans, GIF blocks, the lengths that WebP, BMP and TIFF declare.
    This finds every truncated file. It does not find damage inside the compressed pixels, for which decoding would be
    necessary. Of JPEG 2000, AVIF and PPM only the header is checked.

    Args:
        image: the content of the file, or its path.
        max_pixels: limit of width times height; `None` for no limit.

    Raises:
        ImageShapeError: width or height is 0, or the longest side exceeds `MAX_ASPECT_RATIO` times the shortest.
        ImageTooLargeError: the image has more than `max_pixels` pixels.
        TruncatedImageError: the file ends before the image does.
        BrokenImageError: the file is not an image, its format is not in `FORMATS`, or its header cannot be parsed.
        OSError: the path cannot be read.

    Example:
        >>> from PIL import Image
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (40, 30)).save(file, "JPEG")
        >>> check_image(file.getvalue())
        (40, 30)
        >>> check_image(file.getvalue()[:-2])
        Traceback (most recent call last):
        ...
        chartqa_ft.images.check.TruncatedImageError: the image is cut off: ...
    """
    if isinstance(image, bytes | bytearray):
        buffer = io.BytesIO(image)
        return _check_plain(buffer, len(image), max_pixels) or _check_buffer(buffer, bytes(image), max_pixels)
    with open_regular(image) as file:
        length = file.seek(0, io.SEEK_END)
        if length == 0:
            raise BrokenImageError("the file is empty")
        size = _check_plain(file, length, max_pixels)
        if size is not None:
            return size
        # Mapped rather than read: following a PNG needs a few bytes per chunk.
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _check_buffer(io.BufferedReader(file), data, max_pixels)


def _check_plain(file: BinaryIO, length: int, max_pixels: int | None) -> tuple[int, int] | None:
    """Return the size of a plain PNG, checked without Pillow, else `None`. Leaves `file` at its start."""
    from PIL import Image

    if length > MAX_FILE_BYTES:
        return None
    size = plain_png_size(file, length)
    limit = Image.MAX_IMAGE_PIXELS
    if size is None or (limit is not None and size[0] * size[1] > limit):  # beyond it Pillow raises its own errors
        file.seek(0)
        return None
    _check_size(size, max_pixels)
    return size


def _check_buffer(file: BinaryIO, data: Buffer, max_pixels: int | None) -> tuple[int, int]:
    from PIL import Image

    if len(data) == 0:
        raise BrokenImageError("there are no image bytes")
    refuse_bomb(data, max_pixels)
    formats = known_formats()
    try:
        with warnings.catch_warnings():
            # The caller's `max_pixels` decides rather than Pillow's limit, and warnings about EXIF do not matter.
            warnings.simplefilter("ignore")
            opened = Image.open(file, formats=formats)
            check_pixels(opened, max_pixels)
            check_exif(opened)
            if "exif" in opened.info:
                # `datasets` reads the orientation when it loads an image, and fails on a damaged block.
                opened.getexif().get(ORIENTATION_TAG)
        if opened.format == "TIFF":
            _follow_tiff(opened, data)
    except (ImageShapeError, ImageTooLargeError, BrokenImageError):
        raise
    except Image.DecompressionBombError as error:
        raise ImageTooLargeError(f"{error} (this limit is Pillow's own: PIL.Image.MAX_IMAGE_PIXELS)") from error
    except Exception as error:  # Pillow's parsers raise errors of every type for hostile bytes
        start = bytes(data[:8])
        for magic, follow in _FOLLOW.items():
            if start.startswith(magic):
                _follow(follow, data)  # a file that ends in its header is truncated rather than unreadable
        cause = f"none of {', '.join(formats)}" if isinstance(error, Image.UnidentifiedImageError) else str(error)
        raise BrokenImageError(f"not a readable image ({cause}; it starts with {start!r})") from error
    for magic, follow in _FOLLOW.items():
        if data[: len(magic)] == magic:
            _follow(follow, data)
    return opened.size


def check_exif(opened: Image.Image) -> None:
    """Check an EXIF block that is text in a PNG, which Pillow unpacks when it opens the file."""
    profile = opened.info.get("Raw profile type exif")
    if isinstance(profile, str):
        try:
            cause = exif_bomb(bytes.fromhex("".join(profile.split("\n")[3:])))
        except ValueError:
            return  # as Pillow reads it, it is no block
        if cause is not None:
            raise BrokenImageError(f"the image file is built to exhaust memory or time: {cause}")


@lru_cache(maxsize=1)
def known_formats() -> tuple[str, ...]:
    """Return `FORMATS` without those that this build of Pillow lacks: it raises for unknown names."""
    from PIL import Image

    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _follow(follow: Callable[[Buffer], None], data: Buffer) -> None:
    try:
        follow(data)
    except (IndexError, struct.error) as error:
        raise TruncatedImageError(f"the image is cut off: its {len(data):,} bytes end before it does") from error


def _follow_png(data: Buffer) -> None:
    end = max(start + length + 4 for _, start, length in png_chunks(data))  # with the checksum
    if end > len(data):
        raise IndexError(end)


def _follow_jpeg(data: Buffer) -> None:
    """Follow segments, which give their length, and the compressed scans between them, to the end marker."""
    position = 2
    for _ in range(MAX_BLOCKS):
        marker = _JPEG_MARKER.search(data, position)
        if marker is None:
            raise IndexError(position)
        code = data[marker.start() + 1]
        if code == 0xD9:  # end of image
            return
        position = marker.end()
        if code != 0x01:
            position += struct.unpack(">H", data[position : position + 2])[0]


def _follow_gif(data: Buffer) -> None:
    # A longer animation is not followed to its end: only its first frame is used.
    left = 4 * MAX_BLOCKS

    def color_bytes(flags: int) -> int:
        return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0

    def skip_blocks(position: int) -> int:
        nonlocal left
        while data[position]:
            position += data[position] + 1
            left -= 1
        return position + 1

    position = 13 + color_bytes(data[10])
    while left > 0 and data[position] != 0x3B:  # the trailer
        left -= 1
        if data[position] == 0x21:  # an extension: label, then blocks
            position = skip_blocks(position + 2)
        elif data[position] == 0x2C:  # a frame: 9 bytes, a palette, the size of a code, then blocks
            position = skip_blocks(position + 11 + color_bytes(data[position + 9]))
        else:
            position += 1  # browsers step over stray bytes between blocks


def _follow_webp(data: Buffer) -> None:
    if struct.unpack("<I", data[4:8])[0] + 8 > len(data):
        raise IndexError(len(data))


def _follow_bmp(data: Buffer) -> None:
    start, header, width, height = struct.unpack("<10xIIii", data[:26])
    if header < 40:  # OS/2: 16-bit sizes, never compressed
        width, height, _, bits = struct.unpack("<HHHH", data[18:26])
        compression = 0
    else:
        bits, compression = struct.unpack("<HI", data[28:34])
    if compression in (0, 3) and start + (width * bits + 31) // 32 * 4 * abs(height) > len(data):
        raise IndexError(start)


def _follow_tiff(image: Image.Image, data: Buffer) -> None:
    for offset, length in _tiff_pieces(image):
        if offset + length > len(data):
            raise TruncatedImageError(f"the image is cut off: its {len(data):,} bytes end before it does")


def _tiff_pieces(image: Image.Image) -> Iterator[tuple[int, int]]:
    tags = image.tag_v2
    for offsets, lengths in ((273, 279), (324, 325)):  # strips, tiles
        yield from zip(tags.get(offsets, ()), tags.get(lengths, ()), strict=False)


_FOLLOW = {
    b"\x89PNG\r\n\x1a\n": _follow_png,
    b"\xff\xd8\xff": _follow_jpeg,
    b"GIF8": _follow_gif,
    b"RIFF": _follow_webp,
    b"BM": _follow_bmp,
}
