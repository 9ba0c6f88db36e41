"""Chart images: any PIL image to the RGB a browser would show, and a check of image files that decodes no pixels."""

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

from .png import plain_png_size
from .rgb import _ORIENTATION_TAG

if TYPE_CHECKING:
    from PIL import Image

if TYPE_CHECKING:
    from PIL import Image

    Buffer = bytes | mmap.mmap


# Pillow's own warning limit (a quarter of a GiB of RGB). The largest ChartQA chart has less than a fiftieth of it.
DEFAULT_MAX_PIXELS = 89_478_485
# Longest side to shortest. The widest ChartQA chart has 2.6. Beyond the size of a model's picture (a tiny one has 96
# pixels) image processors shrink the short side to 0 pixels and fail, Qwen-VL refuses above 200, and Donut's enlarges
# the short side first: a picture of 1 x 3000 to 960 x 2,880,000.
MAX_ASPECT_RATIO = 50
# Formats that a chart may come in. Pillow reads more, but some of those run other programs (EPS runs Ghostscript).
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
# Inside JPEG's compressed data 0xFF is followed by 0 (an escaped 0xFF), a restart number or another 0xFF.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)


class BrokenImageError(ValueError):
    """A file is no image, or not one that can be decoded."""


class TruncatedImageError(BrokenImageError):
    """An image file ends too early: a download or a copy was cut off."""


class ImageTooLargeError(ValueError):
    """A chart has more pixels than the limit: either a mistake or a decompression bomb."""


class ImageShapeError(ValueError):
    """An image has no pixels, or is so narrow that image processors cannot resize it."""


def check_pixels(image: Image.Image, max_pixels: int | None) -> None:
    """Refuse an image that no model can be shown, before its pixels are decoded.

    Args:
        image: Its `size` is read and nothing else.
        max_pixels: The limit of width x height; None allows any size.

    Raises:
        ImageShapeError: No width or no height, or a longest side above `MAX_ASPECT_RATIO` times the shortest.
        ImageTooLargeError: More than `max_pixels` pixels.
    """
    _check_size(image.size, max_pixels)


def _check_size(size: tuple[int, int], max_pixels: int | None) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageShapeError(f"the image has no pixels ({width} x {height})")
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise ImageShapeError(
            f"the image has {width} x {height} pixels, a shape beyond {MAX_ASPECT_RATIO}:1 that image processors "
            "cannot resize"
        )
    if max_pixels is not None and width * height > max_pixels:
        raise ImageTooLargeError(
            f"the image has {width} x {height} = {width * height:,} pixels, above the limit of {max_pixels:,}: "
            "shrink it, or raise max_pixels if you trust it"
        )


def check_image(image: bytes | str | Path, max_pixels: int | None = DEFAULT_MAX_PIXELS) -> tuple[int, int]:
    """Check an image file (its bytes, or its path) without decoding its pixels, and return its width and height.

    The header is parsed, the pixel count compared with `max_pixels`, and the file followed from block to block to its
    end: PNG chunks, JPEG segments and scans, GIF blocks, the lengths that WebP, BMP and TIFF declare. That finds every
    file that was cut off. It does not find damage inside the compressed pixels, which only decoding would. JPEG 2000,
    AVIF and PPM are checked by their header alone.

    Raises:
        ImageShapeError: No width or no height, or narrower than 1:`MAX_ASPECT_RATIO`.
        ImageTooLargeError: More than `max_pixels` pixels.
        TruncatedImageError: The file ends before the image does.
        BrokenImageError: No image, a format not in `FORMATS`, or a header that cannot be parsed.
        OSError: The path cannot be read.
    """
    if isinstance(image, bytes | bytearray):
        file = io.BytesIO(image)
        return _check_plain(file, len(image), max_pixels) or _check_buffer(file, bytes(image), max_pixels)
    with open(image, "rb") as file:
        length = file.seek(0, io.SEEK_END)
        if length == 0:
            raise BrokenImageError("the file is empty")
        size = _check_plain(file, length, max_pixels)
        if size is not None:
            return size
        # Mapped, not read: following a PNG touches a few bytes a chunk, and a huge file costs no memory.
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _check_buffer(file, data, max_pixels)


def _check_plain(file: BinaryIO, length: int, max_pixels: int | None) -> tuple[int, int] | None:
    """The size of a plain PNG, checked without Pillow; None for everything else. Leaves `file` at its start."""
    from PIL import Image

    size = plain_png_size(file, length)
    file.seek(0)
    limit = Image.MAX_IMAGE_PIXELS
    if size is None or (limit is not None and size[0] * size[1] > limit):  # beyond it Pillow has errors of its own
        return None
    _check_size(size, max_pixels)
    return size


def _check_buffer(file: BinaryIO, data: Buffer, max_pixels: int | None) -> tuple[int, int]:
    from PIL import Image

    if len(data) == 0:
        raise BrokenImageError("there are no image bytes")
    formats = _known_formats()
    try:
        with warnings.catch_warnings():
            # Pillow's own limits do not count here (the caller's `max_pixels` decides), nor its worries about EXIF.
            warnings.simplefilter("ignore")
            opened = Image.open(file, formats=formats)
            check_pixels(opened, max_pixels)
            if "exif" in opened.info:
                # `datasets` looks for an orientation when it loads, and fails on a damaged block.
                opened.getexif().get(_ORIENTATION_TAG)
        if opened.format == "TIFF":
            _follow_tiff(opened, data)
    except (ImageShapeError, ImageTooLargeError, TruncatedImageError):
        raise
    except Image.DecompressionBombError as error:
        raise ImageTooLargeError(f"{error} (this limit is Pillow's own: PIL.Image.MAX_IMAGE_PIXELS)") from error
    except Exception as error:  # Pillow's parsers answer hostile bytes with errors of every type
        start = bytes(data[:8])
        for magic, follow in _FOLLOW.items():
            if start.startswith(magic):
                _follow(follow, data)  # a file cut off in its header is cut off, not unreadable
        cause = f"none of {', '.join(formats)}" if isinstance(error, Image.UnidentifiedImageError) else str(error)
        raise BrokenImageError(f"not a readable image ({cause}; it starts with {start!r})") from error
    for magic, follow in _FOLLOW.items():
        if data[: len(magic)] == magic:
            _follow(follow, data)
    return opened.size


@lru_cache(maxsize=1)
def _known_formats() -> tuple[str, ...]:
    """`FORMATS` without those that this build of Pillow lacks: it fails on names it does not know."""
    from PIL import Image

    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _follow(follow: Callable[[Buffer], None], data: Buffer) -> None:
    try:
        follow(data)
    except (IndexError, struct.error) as error:
        raise TruncatedImageError(f"the image is cut off: its {len(data):,} bytes end before it does") from error


def _follow_png(data: Buffer) -> None:
    position, kind = 8, b""
    while kind != b"IEND":
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        position += length + 12  # length, type, content, checksum
        if position > len(data):
            raise IndexError(position)


def _follow_jpeg(data: Buffer) -> None:
    """Segments with a length, and compressed scans between them that end at the next marker, up to the end marker."""
    position = 2
    while True:
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
    def colours(flags: int) -> int:
        return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0

    def skip_blocks(position: int) -> int:
        while data[position]:
            position += data[position] + 1
        return position + 1

    position = 13 + colours(data[10])
    while data[position] != 0x3B:  # the trailer
        if data[position] == 0x21:  # an extension: label, then blocks
            position = skip_blocks(position + 2)
        elif data[position] == 0x2C:  # a frame: 9 bytes, a palette, the size of a code, then blocks
            position = skip_blocks(position + 11 + colours(data[position + 9]))
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
