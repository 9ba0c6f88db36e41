"""Check the most common kind of PNG with a few reads of its file and no decoder."""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

from .bombs import MAX_BLOCKS

# The signature and the start of the header, whose length is fixed.
_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
# Bytes that are searched for the start of the pixels.
_HEAD = 512
# Chunks before the pixels that do not matter here, with their lengths: resolution, gamma, standard colors.
_HARMLESS = {b"pHYs": 9, b"gAMA": 4, b"sRGB": 1}
# Chunks after the pixels that matter when the image is decoded: texts, which may be bombs, and EXIF.
_LATER = (b"tEXt", b"zTXt", b"iTXt", b"eXIf")


def plain_png_size(file: BinaryIO, length: int) -> tuple[int, int] | None:
    """Return the width and height of a whole PNG of 8-bit gray or color, with or without alpha.

    The header and all chunks before the pixels are checked by their checksums, and the chunks after them are followed
    to the end of the image. The pixels are not read.

    Args:
        file: a file open for reading. Its position changes.
        length: the number of bytes in it.

    Returns:
        Width and height in pixels, or `None` for any other file: a damaged one, but also a PNG with a palette,
        16 bits, text, EXIF or a profile.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (40, 30)).save(file, "PNG")
        >>> plain_png_size(file, file.tell())
        (40, 30)
    """
    file.seek(0)
    head = file.read(_HEAD)
    if not head.startswith(_START) or not _has_checksum(head, 12, 29):
        return None
    width, height, depth, colours, compression, filtering, interlace = struct.unpack_from(">IIBBBBB", head, 16)
    if width < 1 or height < 1 or depth != 8 or colours not in (0, 2, 4, 6):
        return None
    if compression != 0 or filtering != 0 or interlace > 1:
        return None
    position = _start_of_pixels(head)
    if position is None:
        return None
    kind, left = b"", MAX_BLOCKS
    while kind != b"IEND":
        left -= 1
        if not left:
            return None
        start = head[position : position + 8]
        if len(start) < 8:
            file.seek(position)
            start = file.read(8)
        if len(start) < 8:
            return None
        size, kind = struct.unpack(">I4s", start)
        if kind in _LATER:
            return None
        position += size + 12  # length, type, content, checksum
    return (width, height) if position <= length else None


def _start_of_pixels(head: bytes) -> int | None:
    """Return the position of the first IDAT chunk; `None` if unknown or damaged chunks precede it."""
    position = 33
    while len(head) >= position + 8:
        size, kind = struct.unpack_from(">I4s", head, position)
        if kind == b"IDAT":
            return position
        end = position + 8 + size
        if size != _HARMLESS.get(kind) or not _has_checksum(head, position + 4, end):
            return None
        position = end + 4
    return None


def _has_checksum(data: bytes, start: int, end: int) -> bool:
    """Return whether `data[start:end]`, the type and content of a chunk, is followed by its checksum."""
    return zlib.crc32(data[start:end]).to_bytes(4, "big") == data[end : end + 4]
