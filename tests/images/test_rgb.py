"""Images of every mode as a browser shows them, by exact pixels."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from chartqa_ft.images.rgb import to_rgb, with_rgb_values

from .files import encoded, noise, pixels, reopened


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


def half_transparent() -> Image.Image:
    image = noise("RGBA")
    image.putpixel((3, 3), (9, 9, 9, 128))
    return image


def turned() -> Image.Image:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = reopened(noise("RGBA"), "PNG", exif=exif)
    assert to_rgb(image).size == noise().size[::-1]
    return image


@pytest.mark.parametrize(
    "image",
    [
        *(noise(mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "CMYK")),
        half_transparent(),
        reopened(noise("RGBA"), "PNG"),
        reopened(noise("RGBA"), "WEBP", lossless=True),
        turned(),
        reopened(noise("RGBA"), "PNG", save_all=True, append_images=[half_transparent()]),
        reopened(half_transparent(), "PNG", default_image=True, save_all=True, append_images=[noise("RGBA")]),
    ],
)
def test_values_without_a_conversion_are_the_same(image):
    expected, found = to_rgb(image), with_rgb_values(image)
    assert found.size == expected.size
    assert found.tobytes("raw", "RGB") == expected.tobytes()
    assert found.convert("L").tobytes() == expected.convert("L").tobytes()


def test_only_opaque_charts_are_not_converted():
    opaque = noise("RGBA")
    assert with_rgb_values(opaque) is opaque
    assert with_rgb_values(half_transparent()).mode == "RGB"


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
