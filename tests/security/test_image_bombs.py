"""Images that are small as files: what they would take in memory and time is never taken."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chartqa_ft import load_chartqa
from chartqa_ft.images.check import BrokenImageError, ImageTooLargeError, check_image
from chartqa_ft.images.opening import check_format, open_image
from chartqa_ft.images.rgb import to_rgb

from ..images.files import encoded, noise, png_chunk
from ..support.chart_records import write_records
from ..support.common import ROOT, environment

SIDE, MEGABYTES = 3000, 125  # pixels of the large images, and what they may take as RGB: 36 MB are their own
SHARED = 20_000  # bytes that all entries of a directory point to


def with_chunks(png: bytes, *chunks: bytes, before: bool = False) -> bytes:
    """A PNG with further chunks, after its pixels or before them."""
    at = png.index(b"IDAT" if before else b"IEND") - 4
    return png[:at] + b"".join(chunks) + png[at:]


def directory(entries: int, order: str = "<", shared: int = SHARED, tag: int = 40_000) -> bytes:
    """An EXIF block whose entries all hold the same bytes."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    start = 8 + 2 + 12 * entries + 4
    rows = [struct.pack(order + "HHII", tag + row, 7, shared, start) for row in range(entries)]
    return head + struct.pack(order + "H", entries) + b"".join(rows) + bytes(4) + bytes(shared)


def inner_directory(entries: int) -> bytes:
    """The same, reached through the pointer of a small one."""
    first = 8 + 2 + 12 + 4
    start = first + 2 + 12 * entries + 4
    rows = [struct.pack("<HHII", 40_000 + row, 7, SHARED, start) for row in range(entries)]
    head = b"II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHII", 0x8769, 4, 1, first) + bytes(4)
    return head + struct.pack("<H", entries) + b"".join(rows) + bytes(4) + bytes(SHARED)


def jpeg_with_exif(block: bytes) -> bytes:
    block, jpeg = b"Exif\0\0" + block, encoded(noise(), "JPEG")
    parts = [block[at : at + 60_000] for at in range(0, len(block), 60_000)]
    segments = [part if at == 0 else b"Exif\0\0" + part for at, part in enumerate(parts)]
    return jpeg[:2] + b"".join(b"\xff\xe1" + struct.pack(">H", len(s) + 2) + s for s in segments) + jpeg[2:]


def webp_with_canvas(width: int, height: int) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunks = b"VP8X" + struct.pack("<I", 10) + bytes([2, 0, 0, 0]) + size
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


def tiff(tags: dict[int, tuple[int, int]], more: bytes = b"") -> bytes:
    """A TIFF of 64 x 64 pixels of gray with further tags, `{tag: (type, value)}`."""
    known = {256: (3, 64), 257: (3, 64), 258: (3, 8), 259: (3, 1), 262: (3, 1), 277: (3, 1), **tags}
    rows = [struct.pack("<HHII", tag, kind, 1, value) for tag, (kind, value) in sorted(known.items())]
    return b"II*\0" + struct.pack("<IH", 8, len(rows)) + b"".join(rows) + bytes(4) + more


def tiled_tiff(side: int) -> bytes:
    pixels = zlib.compress(bytes(2**20), 9)
    start = 8 + 2 + 12 * 10 + 4
    tags = {259: (3, 8), 322: (4, side), 323: (4, side), 324: (4, start), 325: (4, len(pixels))}
    return tiff(tags, bytes(64) + pixels)


def jpeg2000(side: int, tile: int) -> bytes:
    """A JPEG 2000 that claims to have so many pixels, in such tiles."""
    data = bytearray(encoded(Image.new("L", (64, 64)), "JPEG2000", no_jp2=True))
    at = data.index(b"\xff\x51")
    data[at + 6 : at + 14] = struct.pack(">II", side, side)
    data[at + 22 : at + 30] = struct.pack(">II", tile, tile)
    return bytes(data)


def text_bombs() -> list[bytes]:
    packed = zlib.compress(bytes(50 * 10**6), 9)
    return [
        png_chunk(b"zTXt", b"Comment\0\0" + packed),
        png_chunk(b"iTXt", b"Comment\0\1\0\0\0" + packed),
        b"".join(png_chunk(b"zTXt", b"t%d\0\0" % number + zlib.compress(bytes(10**6), 9)) for number in range(90)),
    ]


PNG = encoded(noise(), "PNG")
SCANS = encoded(noise(), "JPEG", progressive=True)


def scans(number: int) -> bytes:
    start = SCANS.rindex(b"\xff\xda")
    return SCANS[:start] + SCANS[start:-2] * number + SCANS[-2:]


BOMBS = {
    "a compressed text after the pixels": lambda: with_chunks(PNG, text_bombs()[0]),
    "an international text after the pixels": lambda: with_chunks(PNG, text_bombs()[1]),
    "ninety texts after the pixels": lambda: with_chunks(PNG, text_bombs()[2]),
    "a compressed text before the pixels": lambda: with_chunks(PNG, text_bombs()[0], before=True),
    "a profile that unpacks": lambda: with_chunks(
        PNG, png_chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(50 * 10**6), 9)), before=True
    ),
    "EXIF in a PNG": lambda: with_chunks(PNG, png_chunk(b"eXIf", directory(20_000)), before=True),
    "EXIF after the pixels": lambda: with_chunks(PNG, png_chunk(b"eXIf", directory(20_000, ">"))),
    "EXIF as text": lambda: with_chunks(
        PNG,
        png_chunk(
            b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 1\n" + directory(20_000).hex().encode())
        ),
        before=True,
    ),
    "EXIF behind a pointer": lambda: with_chunks(PNG, png_chunk(b"eXIf", inner_directory(20_000)), before=True),
    "EXIF in many segments of a JPEG": lambda: jpeg_with_exif(directory(20_000)),
    "EXIF in a WebP": lambda: encoded(noise(), "WEBP", exif=b"Exif\0\0" + directory(20_000)),
    "EXIF in an AVIF": lambda: b"\0\0\0\x14ftypavif" + bytes(8) + directory(20_000),
    "a TIFF whose tags share their values": lambda: directory(20_000),
    "a TIFF of one huge tile": lambda: tiled_tiff(40_000),
    "a JPEG of a thousand scans": lambda: scans(1000),
    "a JPEG 2000 of tiny tiles": lambda: jpeg2000(4000, 16),
    "a JPEG 2000 of 36 million pixels": lambda: jpeg2000(6000, 6000),
    "a WebP of a huge canvas": lambda: webp_with_canvas(16_000, 16_000),
    "a GIF of a huge screen": lambda: b"GIF89a" + struct.pack("<HHBBB", 65_000, 65_000, 0, 0, 0) + bytes(20) + b";",
    "a PNG of a million chunks": lambda: with_chunks(PNG, png_chunk(b"abCd", b"") * 300_000),
    "a PNG of 10^10 pixels": lambda: with_chunks(
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 10**5, 10**5, 16, 6, 0, 0, 0))
        + png_chunk(b"IDAT", zlib.compress(bytes(100)))
        + png_chunk(b"IEND", b"")
    ),
}
LARGE = {
    "16 bits of gray": lambda: encoded(Image.new("I;16", (SIDE, SIDE), 9000), "PNG"),
    "32 bits of gray": lambda: encoded(Image.new("I", (SIDE, SIDE), 9000), "TIFF", compression="tiff_lzw"),
    "floats": lambda: encoded(Image.new("F", (SIDE, SIDE), 0.5), "TIFF", compression="tiff_lzw"),
    "transparent": lambda: encoded(Image.new("RGBA", (SIDE, SIDE), (9, 9, 9, 99)), "PNG"),
    "a transparent palette": lambda: encoded(Image.new("P", (SIDE, SIDE)), "PNG", transparency=0),
    "an animation of 2,000 frames": lambda: encoded(
        Image.new("L", (64, 64)),
        "GIF",
        save_all=True,
        append_images=[Image.new("L", (64, 64), n % 2 * 255) for n in range(2000)],
    ),
}


def outcomes(folder: Path, megabytes: int) -> dict[str, list]:
    command = [sys.executable, "-m", "tests.drivers.open_images", str(folder), str(megabytes)]
    done = subprocess.run(command, env=environment(), cwd=ROOT, capture_output=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return json.loads(done.stdout)


def written(folder: Path, files: dict) -> Path:
    folder.mkdir()
    for name, make in files.items():
        (folder / name).write_bytes(make())
    return folder


def test_bombs_are_refused_before_they_are_unpacked(tmp_path):
    found = outcomes(written(tmp_path / "bombs", BOMBS), MEGABYTES)
    assert set(found) == set(BOMBS)
    for name, (checked, opened, _) in found.items():
        assert checked.startswith(("BrokenImageError: ", "ImageTooLargeError: ")), (name, checked)
        assert opened.startswith(("BrokenImageError: ", "ImageTooLargeError: ", "ValueError: Decompressed")), (
            name,
            opened,
        )


def test_large_images_take_little_more_than_their_pixels(tmp_path):
    found = outcomes(written(tmp_path / "large", LARGE), MEGABYTES)
    assert {name: said[:2] for name, said in found.items()} == {
        name: [str((64, 64) if "frames" in name else (SIDE, SIDE))] * 2 for name in LARGE
    }


def test_a_bomb_is_one_record_less(tmp_path, caplog):
    folder = tmp_path / "charts"
    folder.mkdir()
    for name, content in {"a.png": PNG, "b.png": BOMBS["EXIF after the pixels"](), "c.png": PNG}.items():
        (folder / name).write_bytes(content)
    records = [{"imgname": f"{name}.png", "query": f"{name}?", "label": "1"} for name in "abc"]
    write_records(folder / "charts.json", records)
    with pytest.raises(ValueError, match=r"record 1 of split 'train' \(b\.png\): unreadable image: .*exhaust memory"):
        load_chartqa(folder)
    kept = load_chartqa(folder, on_error="skip", split="train")
    assert kept["question"] == ["a?", "c?"]
    assert [row["image"].size for row in kept] == [noise().size] * 2
    assert "Dropped 1 of 3 records" in caplog.text


def test_texts_and_exif_of_honest_images_do_not_matter(tmp_path):
    comment = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"made by hand" * 1000))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a chart" * 1000
    files = {
        "text": with_chunks(PNG, comment),
        "exif": encoded(noise(), "PNG", exif=exif),
        "exif of a jpeg": encoded(noise(), "JPEG", exif=exif),
        "exif of a webp": encoded(noise(), "WEBP", exif=exif, lossless=True),
        "tiled": encoded(noise(), "TIFF", compression="tiff_adobe_deflate"),
        "tiled jpeg 2000": encoded(noise(size=(300, 200)), "JPEG2000", tile_size=(128, 128)),
    }
    for name, content in files.items():
        size = check_image(content)
        turned = to_rgb(open_image(content)).size
        assert turned == (size[::-1] if "exif" in name else size), name
    assert np.array_equal(np.asarray(to_rgb(open_image(files["text"]))), np.asarray(noise()))


@pytest.mark.parametrize("width", [1, 7, 40])
def test_bands_change_no_pixel(monkeypatch, width):
    rng = np.random.default_rng(0)
    rgba = Image.fromarray(rng.integers(0, 256, (30, width, 4), dtype=np.uint8))
    palette = rgba.convert("RGB").quantize(16)
    palette.info["transparency"] = 3
    deep = Image.fromarray(rng.integers(0, 2**16, (30, width), dtype=np.uint16))
    floats = Image.fromarray(rng.random((30, width), dtype=np.float32))
    images = [rgba, rgba.convert("LA"), palette, deep, floats, Image.fromarray(np.asarray(deep).astype(np.int32))]
    whole = [np.asarray(to_rgb(image)) for image in images]
    monkeypatch.setattr("chartqa_ft.images.rgb._BAND", 50)
    for image, pixels in zip(images, whole, strict=True):
        assert np.array_equal(np.asarray(to_rgb(image)), pixels), image.mode


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 30\n%%EndComments\n0 0 moveto showpage\n%%EOF\n"
OTHERS = {
    "eps.png": lambda: EPS,
    "ico.png": lambda: encoded(noise(), "ICO"),
    "tga.png": lambda: encoded(noise(), "TGA"),
    "pdf.png": lambda: b"%PDF-1.4\n%%EOF",
    "svg.png": lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
}


@pytest.mark.parametrize("name", OTHERS)
def test_only_the_listed_formats_are_opened(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(OTHERS[name]())
    with pytest.raises(BrokenImageError, match="none of PNG, JPEG"):
        check_image(path)
    with pytest.raises(OSError, match="is no image file of the formats PNG, JPEG"):
        open_image(path)


def test_ghostscript_is_not_started_for_an_opened_eps():
    eps = Image.open(io.BytesIO(EPS))
    with pytest.raises(OSError, match="the image is a file of the format EPS: convert it to one of PNG"):
        open_image(eps)
    check_format(Image.open(io.BytesIO(PNG)))


def test_a_sparse_file_is_not_read(tmp_path):
    path = tmp_path / "a.png"
    with path.open("wb") as file:
        file.write(PNG[:-12])
        file.truncate(2**40)
    with pytest.raises(ImageTooLargeError, match="1,099,511,627,776 bytes, above the limit"):
        check_image(path)
    with pytest.raises(OSError, match="1,099,511,627,776 bytes are more than the limit"):
        open_image(path)
