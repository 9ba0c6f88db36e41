"""Image files are checked without decoding: every file that is cut off is found."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from chartqa_ft.images.check import (
    BrokenImageError,
    ImageShapeError,
    ImageTooLargeError,
    TruncatedImageError,
    check_image,
    check_pixels,
)

from .files import FILES, encoded, noise, png


@pytest.mark.parametrize("kind", FILES)
def test_a_whole_file_passes_and_a_cut_one_never_does(kind, tmp_path):
    data = FILES[kind]()
    assert check_image(data) == (23, 17)
    path = tmp_path / "chart"
    path.write_bytes(data)
    assert check_image(path) == check_image(str(path)) == (23, 17)
    for end in range(len(data)):
        with pytest.raises(BrokenImageError):
            check_image(data[:end])
    path.write_bytes(data[:-1])
    with pytest.raises(BrokenImageError):
        check_image(path)


@pytest.mark.parametrize("kind", [kind for kind in FILES if "tiff" not in kind])
def test_a_file_cut_in_the_middle_is_called_truncated(kind):
    data = FILES[kind]()
    with pytest.raises(TruncatedImageError, match=f"cut off: its {len(data) // 2:,} bytes"):
        check_image(data[: len(data) // 2])


def test_the_limit_of_pillow_itself_counts_for_a_plain_png(monkeypatch):
    data = FILES["png"]()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 23 * 17 // 2 - 1)
    with pytest.raises(ImageTooLargeError, match="MAX_IMAGE_PIXELS"):
        check_image(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert check_image(data, None) == (23, 17)


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "webp", "bmp"])
def test_bytes_after_the_end_do_no_harm(kind):
    assert check_image(FILES[kind]() + b"\0\0trailing") == (23, 17)


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_jpeg():
    data, thumbnail = FILES["jpeg"](), encoded(noise(size=(4, 4)), "JPEG")
    segment = b"\xff\xe2" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    whole = data[:2] + segment + data[2:]
    assert check_image(whole) == (23, 17)
    with pytest.raises(TruncatedImageError):
        check_image(whole[:-40])


def test_pixels_are_not_decoded():
    damaged = png(5, 4, b"this is no zlib stream")
    assert check_image(damaged) == (5, 4)
    with pytest.raises(OSError, match=r"broken data|unrecognized"):
        Image.open(io.BytesIO(damaged)).load()


def test_the_limit_of_pixels():
    bomb = png(50_000, 50_000, zlib.compress(b""))
    with pytest.raises(ImageTooLargeError, match="MAX_IMAGE_PIXELS"):  # Pillow refuses even to open it
        check_image(bomb)
    large = png(10_000, 9_000, zlib.compress(b""))
    with pytest.raises(ImageTooLargeError, match=r"10000 x 9000 = 90,000,000 pixels, above the limit of 89,478,485"):
        check_image(large)
    assert check_image(large, None) == (10_000, 9_000)
    assert check_image(large, 90_000_000) == (10_000, 9_000)
    image = Image.new("L", (4, 5))
    check_pixels(image, 20)
    check_pixels(image, None)
    with pytest.raises(ImageTooLargeError, match="above the limit of 19"):
        check_pixels(image, 19)


@pytest.mark.parametrize(("width", "height"), [(1, 3000), (3000, 1), (51, 1), (2, 101)])
def test_shapes_that_no_image_processor_can_resize(width, height):
    with pytest.raises(ImageShapeError, match=f"the image has {width} x {height} pixels, a shape beyond 50:1"):
        check_image(encoded(Image.new("RGB", (width, height)), "PNG"), None)
    with pytest.raises(ImageShapeError, match="beyond 50:1"):
        check_pixels(Image.new("RGB", (width, height)), None)


def test_shapes_at_the_limit_pass():
    for size in ((50, 1), (2, 100), (1, 1)):
        assert check_image(encoded(Image.new("RGB", size), "PNG")) == size


def test_images_without_pixels():
    for data in (png(0, 5, zlib.compress(b"")), png(5, 0, zlib.compress(b""))):
        with pytest.raises(BrokenImageError, match="not a readable image"):  # Pillow refuses to open them
            check_image(data)
    for size in ((0, 7), (7, 0), (0, 0)):
        with pytest.raises(ImageShapeError, match=f"no pixels .{size[0]} x {size[1]}."):
            check_pixels(Image.new("RGB", size), None)


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"<html>not found</html>", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"]
)
def test_what_is_no_image(data, tmp_path):
    with pytest.raises(BrokenImageError):
        check_image(data)
    (tmp_path / "chart.png").write_bytes(data)
    with pytest.raises(BrokenImageError):
        check_image(tmp_path / "chart.png")


def test_a_damaged_exif_block_that_datasets_cannot_load_is_found():
    data = encoded(noise(), "WEBP", exif=b"Exif\0\0" + b"garbage!")
    with pytest.raises(BrokenImageError, match="TIFF"):
        check_image(data)


def test_every_real_chart_passes_whole_and_fails_cut(shared: Path):
    charts = sorted((shared / "chartqa").glob("*/png/*"))
    assert len(charts) == 930
    for chart in charts:
        width, height = check_image(chart)
        assert width > 0
        assert height > 0
    for chart in charts[::10]:
        data = chart.read_bytes()
        for end in (len(data) - 1, len(data) // 2, 100):
            with pytest.raises(TruncatedImageError):
                check_image(data[:end])
