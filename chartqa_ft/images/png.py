"""The size of a PNG like most charts are, from a few reads of its file: a check of many files that need no decoder."""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

# The signature and the start of a header of its one length.
_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
# How many bytes are looked through for the start of the pixels.
_HEAD = 512
# Chunks before the pixels that do not matter here, with their lengths: resolution, gamma, standard colours.
_HARMLESS = {b"pHYs": 9, b"gAMA": 4, b"sRGB": 1}


def plain_png_size(file: BinaryIO, length: int) -> tuple[int, int] | None:
    """Width and height of a whole PNG of 8-bit grey or colour, with or without alpha; None for any other file.

    None says nothing about a file: a palette, 16 bits, texts and profiles give it just as damage does. A size says
    that the header and all chunks before the pixels are whole (by their checksums) and known, and that the chunks
    after them lead to the end of the image. The pixels are not read.

    Args:
        file: Open for reading; its position is lost.
        length: How many bytes it has.
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
    kind = b""
    while kind != b"IEND":
        file.seek(position)
        start = file.read(8)
        if len(start) < 8:
            return None
        size, kind = struct.unpack(">I4s", start)
        position += size + 12  # length, type, content, checksum
    return (width, height) if position <= length else None


def _start_of_pixels(head: bytes) -> int | None:
    """The position of the first IDAT chunk; None where others than harmless ones stand before it, or damaged ones."""
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
    """Whether `data[start:end]`, the type and the content of a chunk, is followed by its checksum."""
    return zlib.crc32(data[start:end]).to_bytes(4, "big") == data[end : end + 4]
