"""Find images that are small as files but take much memory or time, before anything in them is unpacked."""

from __future__ import annotations

import mmap
import re
import struct
import zlib
from collections.abc import Iterator
from itertools import islice

Buffer = bytes | mmap.mmap | memoryview

MAX_FILE_BYTES = 2**30
"""Largest image file. 89 million pixels of 32 bits take a third of it without compression."""
MAX_BLOCKS = 2**18
"""Largest number of chunks of a PNG, or of segments of a JPEG: a PNG of 1 GiB in chunks of 8 KiB has half of it."""
# Libraries write about ten scans, and a JPEG of nothing but scans is decoded once for each.
_MAX_SCANS = 100
# Pillow's limits (`MAX_TEXT_CHUNK` and `MAX_TEXT_MEMORY` of its PNG plugin), above which it raises an error.
_MAX_TEXT, _MAX_TEXTS = 2**20, 2**26
# OpenJPEG keeps some 6 KB for each tile, and libraries write tiles of at least 128 x 128 pixels.
_MAX_TILES = 4096
# A strip has at least one row, and the longest side of a chart has fewer.
_MAX_NUMBERS = 2**20

_PNG, _TIFF = b"\x89PNG\r\n\x1a\n", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_SCAN, _PROGRESSIVE = re.compile(rb"\xff\xda"), (0xC2, 0xC6, 0xCA, 0xCE)
_CODESTREAM = re.compile(rb"\xff\x4f\xff\x51")
_ANY_TIFF = re.compile(b"|".join(map(re.escape, _TIFF)))
_EXIF = b"Exif\0\0"
# Bytes of one value of each type of a TIFF directory.
_BYTES = (1, 2, 6, 7)
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
_MAX_DIRECTORIES, _MAX_ENTRIES = 16, 65_535
_SMALL_TILE = 2**24
_INNER = (0x8769, 0x8825, 0xA005)  # tags that point to further directories: EXIF, GPS, interoperability
_TILE_SIDES = (322, 323)


def declared_size(data: Buffer) -> tuple[int, int] | None:
    """Return width and height in pixels of a WebP or GIF, for which memory is taken as soon as they are opened.

    Example:
        >>> declared_size(b"GIF89a" + bytes([64, 1, 240, 0]))
        (320, 240)
    """
    head = bytes(data[:30])
    try:
        if head.startswith(b"GIF8"):
            width, height = struct.unpack_from("<HH", head, 6)
        elif head[:4] == b"RIFF" and head[12:16] == b"VP8X":
            width, height = (int.from_bytes(head[start : start + 3], "little") + 1 for start in (24, 27))
        elif head[:4] == b"RIFF" and head[12:16] == b"VP8L":
            bits = struct.unpack_from("<I", head, 21)[0]
            width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        elif head[:4] == b"RIFF" and head[12:16] == b"VP8 ":
            width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", head, 26))
        else:
            return None
    except struct.error:  # it ends in its header
        return None
    return width, height


def find_bomb(data: Buffer, max_pixels: int | None) -> str | None:
    """Return what in an image file would take much more memory or time than its pixels, `None` if nothing does.

    These are compressed texts of a PNG, EXIF blocks and TIFF directories whose entries all point to the same bytes,
    tiles of a TIFF that are larger than its picture, thousands of scans of a JPEG and of tiles of a JPEG 2000.

    Args:
        data: the content of the file.
        max_pixels: limit of the width times height of a TIFF's tile; `None` for no limit.

    Example:
        >>> from PIL import Image
        >>> import io
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (40, 30)).save(file, "PNG")
        >>> find_bomb(file.getvalue(), max_pixels=10_000) is None
        True
    """
    start = bytes(data[:12])
    try:
        if start.startswith(_PNG):
            return _png_bomb(data)
        if start.startswith(b"\xff\xd8\xff"):
            return _jpeg_bomb(data)
        if start.startswith(_TIFF):
            return _directory_bomb(data, None if max_pixels is None else max(max_pixels, _SMALL_TILE))
        if start[:4] == b"RIFF":
            return next(filter(None, (_directory_bomb(block, None) for block in _webp_blocks(data))), None)
        if start[4:8] == b"ftyp":  # AVIF: its EXIF block may stand anywhere
            return _avif_bomb(data)
        if start.startswith((b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51")):
            return _jpeg2000_bomb(data)
    except (struct.error, IndexError):  # it ends too early, which is reported elsewhere
        return None
    return None


def exif_bomb(block: Buffer) -> str | None:
    """Return what is wrong with an EXIF block whose entries take far more memory than the block has, else `None`.

    Example:
        >>> exif_bomb(b"II*\\0" + struct.pack("<IH", 8, 0) + bytes(4)) is None
        True
    """
    return _directory_bomb(block, None)


def png_chunks(data: Buffer) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, start and length of the content of each chunk of a PNG, up to its end or `MAX_BLOCKS`.

    Raises:
        struct.error: the file ends before the image does.
    """
    position, kind = 8, b""
    for _ in range(MAX_BLOCKS):
        length, kind = struct.unpack_from(">I4s", data, position)
        yield kind, position + 8, length
        if kind == b"IEND":
            return
        position += length + 12  # length, type, content, checksum


def _png_bomb(data: Buffer) -> str | None:
    seen_pixels, texts, blocks = False, 0, 0
    for kind, start, length in png_chunks(data):
        blocks += 1
        if kind == b"IDAT":
            seen_pixels = True
        elif kind == b"eXIf" and (cause := exif_bomb(data[start : start + length])):
            return cause
        elif seen_pixels and kind in (b"zTXt", b"iTXt", b"tEXt"):
            # Pillow unpacks those before the pixels when it opens the file, and has limits of its own.
            text = _unpacked(kind, bytes(data[start : start + length]))
            texts += text
            if (text > _MAX_TEXT and kind != b"tEXt") or texts > _MAX_TEXTS:
                return "its texts unpack to many times their size"
    return None if blocks < MAX_BLOCKS else f"it has more than {MAX_BLOCKS:,} chunks"


def _unpacked(kind: bytes, content: bytes) -> int:
    """Return how many bytes a text of a PNG takes, up to somewhat more than the limit."""
    _, _, rest = content.partition(b"\0")
    if kind == b"iTXt" and rest[:1] == b"\1":  # compression flag and method, language, translated keyword
        rest = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    elif kind == b"zTXt":
        rest = rest[1:]
    else:
        return len(content)
    try:
        return len(zlib.decompressobj().decompress(rest, _MAX_TEXT + 1))
    except zlib.error:
        return 0


def _jpeg_bomb(data: Buffer) -> str | None:
    position, is_progressive = 2, False
    exif: list[bytes] = []
    for _ in range(MAX_BLOCKS):
        while data[position + 1] == 0xFF:
            position += 1
        kind = data[position + 1]
        if data[position] != 0xFF or kind in (0xD9, 0xDA):  # no marker, the end, or the first scan
            break
        length = 0 if 0xD0 <= kind <= 0xD8 or kind == 1 else struct.unpack_from(">H", data, position + 2)[0]
        content = bytes(data[position + 4 : position + 2 + length])
        is_progressive |= kind in _PROGRESSIVE
        if kind == 0xE1 and content.startswith(_EXIF):
            exif.append(content[len(_EXIF) :] if exif else content)  # one block in several segments
        elif kind == 0xE2 and content.startswith(b"MPF\0") and (cause := exif_bomb(content[4:])):
            return cause
        position += 2 + length
    else:
        return f"it has more than {MAX_BLOCKS:,} segments"
    # In a scan of any other kind of JPEG, every block of pixels takes some bits of the file.
    if is_progressive and sum(1 for _ in islice(_SCAN.finditer(data, position), _MAX_SCANS + 1)) > _MAX_SCANS:
        return f"it has more than {_MAX_SCANS} scans"
    return exif_bomb(b"".join(exif)) if exif else None


def _webp_blocks(data: Buffer) -> Iterator[bytes]:
    position = 12
    for _ in range(MAX_BLOCKS):
        kind, length = struct.unpack_from("<4sI", data, position)
        if kind == b"EXIF":
            yield bytes(data[position + 8 : position + 8 + length])
        position += 8 + length + length % 2


def _avif_bomb(data: Buffer) -> str | None:
    with memoryview(data) as view:
        for number, match in enumerate(_ANY_TIFF.finditer(data)):
            if number == _MAX_DIRECTORIES:
                return f"it has more than {_MAX_DIRECTORIES} EXIF blocks"
            with view[match.start() :] as block:
                cause = _directory_bomb(block, None)
            if cause is not None:
                return cause
    return None


def _jpeg2000_bomb(data: Buffer) -> str | None:
    found = _CODESTREAM.search(data)
    if found is None:
        return None
    start = found.start()
    width, height, left, top, across, down = struct.unpack_from(">6I", data, start + 8)
    if not across or not down:
        return None
    tiles = -(-max(width - left, 0) // across) * -(-max(height - top, 0) // down)
    return f"it has {tiles:,} tiles" if tiles > _MAX_TILES else None


def _directory_bomb(block: Buffer, max_pixels: int | None) -> str | None:
    """Return what is wrong with the first directory of a TIFF or an EXIF block, and with those that it points to."""
    while block[: len(_EXIF)] == _EXIF:
        block = block[len(_EXIF) :]
    head = bytes(block[:4])
    if head not in _TIFF:
        return None
    order, big = "<" if head[:1] == b"I" else ">", b"+" in head
    entry = struct.Struct(order + ("HHQ8s" if big else "HHI4s"))
    number, offset, room = (order + "Q", order + "Q", 8) if big else (order + "H", order + "I", 4)
    # In a directory that a program wrote, no two values share bytes: together they are no larger than the file.
    left = 2 * len(block) + 2**16
    sides: dict[int, int] = {}
    try:
        starts = [struct.unpack_from(offset, block, 8 if big else 4)[0]]
        for start in starts:  # which grows
            count = struct.unpack_from(number, block, start)[0]
            if count > _MAX_ENTRIES or len(starts) > _MAX_DIRECTORIES:
                return "it has too many entries in its EXIF block or directory"
            first = start + struct.calcsize(number)
            for place in range(first, min(first + count * entry.size, len(block) - entry.size + 1), entry.size):
                tag, kind, values, content = entry.unpack_from(block, place)
                size = values * _SIZES.get(kind, 0)
                if size > room:
                    # Of what lies beyond the end, Pillow reads what there is.
                    size = max(0, min(size, len(block) - struct.unpack(offset, content)[0]))
                    left -= size
                    if left < 0:
                        return f"the entries of its EXIF block or directory share their {len(block):,} bytes"
                    if kind not in _BYTES and size > _SIZES[kind] * _MAX_NUMBERS:
                        return f"tag {tag} of its EXIF block or directory has {values:,} values"
                elif tag in _TILE_SIDES:
                    sides[tag] = int.from_bytes(content[:size], "little" if order == "<" else "big")
                elif tag in _INNER and (inner := struct.unpack(offset, content)[0]) not in starts:
                    starts.append(inner)
    except (struct.error, OverflowError):  # it ends too early
        pass
    width, height = sides.get(_TILE_SIDES[0], 0), sides.get(_TILE_SIDES[1], 0)
    if max_pixels is not None and width * height > max_pixels:
        return f"its tiles have {width:,} x {height:,} pixels"
    return None
