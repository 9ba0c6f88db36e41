"""Images as a browser shows them, and files checked without decoding: exact pixels, every way to cut a file."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from chartqa_ft.images.check import (
    BrokenImageError,
    ImageShapeError,
    ImageTooLargeError,
    TruncatedImageError,
    check_image,
    check_pixels,
)
from chartqa_ft.images.png import plain_png_size
from chartqa_ft.images.rgb import to_rgb


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


# ------------------------------------------------------------------------------------------------------------- to_rgb


def test_plain_rgb_is_the_same_object():
    image = noise()
    assert to_rgb(image) is image
    opened = reopened(image, "PNG")
    assert to_rgb(opened) is opened


@pytest.mark.parametrize(
    ("mode", "pixel", "expected"),
    [
        ("1", 1, (255, 255, 255)),
        ("L", 77, (77, 77, 77)),
        ("LA", (10, 255), (10, 10, 10)),
        ("LA", (10, 0), (255, 255, 255)),
        ("LA", (0, 128), (127, 127, 127)),
        ("La", (0, 0), (255, 255, 255)),
        ("RGBA", (1, 2, 3, 255), (1, 2, 3)),
        ("RGBA", (1, 2, 3, 0), (255, 255, 255)),
        ("RGBA", (0, 100, 200, 51), (204, 224, 244)),
        ("RGBa", (0, 0, 0, 0), (255, 255, 255)),
        ("RGBX", (1, 2, 3, 9), (1, 2, 3)),
        ("CMYK", (0, 0, 0, 0), (255, 255, 255)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
        ("CMYK", (0, 0, 0, 255), (0, 0, 0)),
        ("HSV", (0, 0, 200), (200, 200, 200)),
        ("I;16", 65535, (255, 255, 255)),
        ("I;16", 32768, (128, 128, 128)),
        ("I;16", 255, (1, 1, 1)),
        ("I;16B", 65535, (255, 255, 255)),
        ("I", 65535, (255, 255, 255)),
        ("I", 25700, (100, 100, 100)),
        ("I", 200, (200, 200, 200)),
        ("I", 2**31 - 1, (255, 255, 255)),
        ("F", 0.5, (128, 128, 128)),
        ("F", 200.0, (200, 200, 200)),
        ("F", float("nan"), (255, 255, 255)),
    ],
)
def test_each_mode_gives_exact_pixels_and_leaves_the_input_alone(mode, pixel, expected):
    image = Image.new(mode, (2, 1), pixel)
    assert pixels(to_rgb(image)) == [expected] * 2
    assert image.mode == mode


def test_16_bit_png_is_scaled_not_clipped():
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    image = reopened(Image.fromarray(values), "PNG")
    assert pixels(to_rgb(image)) == [(v, v, v) for v in (0, 1, 128, 255)]


def palette_image() -> Image.Image:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    return image


def test_palettes_with_each_kind_of_transparency():
    assert pixels(to_rgb(palette_image())) == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    for format in ("PNG", "GIF"):
        keyed = reopened(palette_image(), format, transparency=1)
        assert keyed.mode == "P"
        assert pixels(to_rgb(keyed)) == [(255, 0, 0), (255, 255, 255), (0, 0, 255)]
    graded = reopened(palette_image(), "PNG", transparency=bytes([255, 0, 51]))
    assert pixels(to_rgb(graded)) == [(255, 0, 0), (255, 255, 255), (204, 204, 255)]


def test_colour_keys_become_white():
    rgb = Image.new("RGB", (2, 1), (9, 8, 7))
    rgb.putpixel((1, 0), (1, 2, 3))
    assert pixels(to_rgb(reopened(rgb, "PNG", transparency=(1, 2, 3)))) == [(9, 8, 7), (255, 255, 255)]
    grey = Image.new("L", (2, 1), 9)
    grey.putpixel((1, 0), 5)
    assert pixels(to_rgb(reopened(grey, "PNG", transparency=5))) == [(9, 9, 9), (255, 255, 255)]
    deep = Image.fromarray(np.array([[2570, 1234]], dtype=np.uint16))
    assert pixels(to_rgb(reopened(deep, "PNG", transparency=1234))) == [(10, 10, 10), (255, 255, 255)]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA"])
def test_exif_orientations(mode, orientation):
    upright = noise(mode, (3, 2))
    # The inverse of each orientation is itself, but for the two quarter turns, which undo each other.
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    exif = Image.Exif()
    exif[0x0112] = inverse
    stored = reopened(upright, "PNG", exif=exif)
    stored = ImageOps.exif_transpose(stored)
    exif[0x0112] = orientation
    stored.info.pop("exif", None)
    rotated = reopened(stored, "PNG", exif=exif.tobytes())
    result = to_rgb(rotated)
    assert result.size == (3, 2)
    assert pixels(result) == pixels(upright.convert("RGB"))
    assert to_rgb(result) is result


def test_a_damaged_exif_block_is_ignored():
    image = Image.open(io.BytesIO(encoded(noise(), "PNG", exif=b"Exif\0\0" + b"garbage!")))
    assert pixels(to_rgb(image)) == pixels(noise())


def test_the_first_frame_of_animations():
    red, blue = Image.new("RGB", (2, 1), (255, 0, 0)), Image.new("RGB", (2, 1), (0, 0, 255))
    for format, options in (("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True})):
        image = reopened(red, format, save_all=True, append_images=[blue], **options)
        assert image.n_frames == 2
        assert pixels(to_rgb(image)) == [(255, 0, 0)] * 2
        image.seek(1)
        assert pixels(to_rgb(image)) == [(255, 0, 0)] * 2
        assert image.tell() == 1
        assert pixels(image.convert("RGB")) == [(0, 0, 255)] * 2


def test_an_apng_shows_its_animation_not_its_hidden_still():
    still, first, second = (Image.new("RGB", (1, 1), colour) for colour in ("white", "red", "blue"))
    image = reopened(still, "PNG", save_all=True, default_image=True, append_images=[first, second])
    assert pixels(to_rgb(image)) == [(255, 0, 0)]


# -------------------------------------------------------------------------------------------------------- check_image

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
