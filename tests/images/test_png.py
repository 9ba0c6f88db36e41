"""Plain PNGs are checked without a decoder, and all others are left to Pillow."""

from __future__ import annotations

import io
import struct

import pytest
from PIL import Image

from chartqa_ft.images.png import plain_png_size

from .files import FILES, encoded, noise, png_chunk

GAMMA = png_chunk(b"gAMA", struct.pack(">I", 45455))


def around_header(between: bytes = b"", header: bytes | None = None, end: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", 23, 17, 8, 2, 0, 0, 0) if header is None else header
    parts = [png_chunk(b"IHDR", header), between, png_chunk(b"IDAT", b"no pixels"), png_chunk(b"IEND", end)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


PLAIN_PNGS = {
    "grey": encoded(noise("L"), "PNG"),
    "grey with alpha": encoded(noise("LA"), "PNG"),
    "colours with alpha": encoded(noise("RGBA"), "PNG"),
    "resolution": encoded(noise(), "PNG", dpi=(100, 100)),
    "gamma and colours": around_header(GAMMA + png_chunk(b"sRGB", b"\0")),
    "interlaced": around_header(header=struct.pack(">IIBBBBB", 23, 17, 8, 6, 0, 0, 1)),
    "trailing": around_header() + b"trailing",
}
PECULIAR_PNGS = {
    "palette": encoded(noise("P"), "PNG"),
    "two colours": encoded(noise("1"), "PNG"),
    "16 bits": encoded(Image.new("I;16", (23, 17)), "PNG"),
    "text": around_header(png_chunk(b"tEXt", b"Software\0me")),
    "animation": FILES["apng"](),
    "no png": FILES["jpeg"](),
    "many chunks before the pixels": around_header(GAMMA * 40),
    "empty": b"",
    "damaged header": around_header().replace(struct.pack(">I", 23), struct.pack(">I", 24), 1),
    "damaged gamma": around_header(GAMMA[:-1] + b"?"),
    "short gamma": around_header(png_chunk(b"gAMA", b"\0")),
    "no width": around_header(header=struct.pack(">IIBBBBB", 0, 17, 8, 2, 0, 0, 0)),
    "unknown colours": around_header(header=struct.pack(">IIBBBBB", 23, 17, 8, 5, 0, 0, 0)),
    "unknown filter": around_header(header=struct.pack(">IIBBBBB", 23, 17, 8, 2, 0, 1, 0)),
    "unknown compression": around_header(header=struct.pack(">IIBBBBB", 23, 17, 8, 2, 1, 0, 0)),
    "unknown interlacing": around_header(header=struct.pack(">IIBBBBB", 23, 17, 8, 2, 0, 0, 2)),
}


@pytest.mark.parametrize("kind", PLAIN_PNGS)
def test_a_plain_png_is_told_without_pillow_when_it_is_whole(kind):
    data = PLAIN_PNGS[kind]
    assert plain_png_size(io.BytesIO(data), len(data)) == Image.open(io.BytesIO(data)).size == (23, 17)
    whole = data.index(b"IEND") + 8
    for end in range(whole):
        assert plain_png_size(io.BytesIO(data[:end]), end) is None
    for place in range(
        data.index(b"IDAT") - 4
    ):  # every byte before the pixels is held by a checksum or a wanted value
        damaged = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        assert plain_png_size(io.BytesIO(damaged), len(damaged)) is None


@pytest.mark.parametrize("kind", PECULIAR_PNGS)
def test_a_png_that_is_damaged_or_not_plain_is_left_to_pillow(kind):
    data = PECULIAR_PNGS[kind]
    assert plain_png_size(io.BytesIO(data), len(data)) is None
