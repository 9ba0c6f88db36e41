"""Fingerprints depend on what a chart looks like, not on how it is stored."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from chartqa_ft.images.fingerprints import CELLS, FINGERPRINT, content_box, fingerprint, perceptual_hash

from ..support.common import drawn_charts


def chart() -> Image.Image:
    return drawn_charts()[0]["image"].convert("RGB")


def stored(image: Image.Image, format: str, **settings: object) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, format, **settings)
    return Image.open(io.BytesIO(buffer.getvalue()))


@pytest.mark.parametrize(
    ("format", "settings"),
    [("PNG", {}), ("PNG", {"compress_level": 0}), ("WEBP", {"lossless": True}), ("BMP", {}), ("TIFF", {})],
    ids=["png", "png-0", "webp", "bmp", "tiff"],
)
def test_lossless_formats_have_the_same_fingerprint(format, settings):
    assert fingerprint(stored(chart(), format, **settings)) == fingerprint(chart())


@pytest.mark.parametrize("mode", ["RGBA", "P"])
def test_modes_with_the_same_pixels_have_the_same_fingerprint(mode):
    image = chart().quantize(16).convert("RGB")  # few colors, so that a palette holds all
    other = image.quantize(16) if mode == "P" else image.convert(mode)
    assert other.convert("RGB").tobytes() == image.tobytes()
    assert fingerprint(stored(other, "PNG")) == fingerprint(image)


def test_transparent_charts_are_taken_as_on_white():
    image = Image.new("RGBA", (40, 30), (0, 0, 0, 0))
    image.paste((200, 0, 0, 255), (10, 10, 20, 20))
    flat = Image.new("RGB", (40, 30), "white")
    flat.paste((200, 0, 0), (10, 10, 20, 20))
    assert fingerprint(image) == fingerprint(flat)


def test_one_pixel_and_the_size_change_the_digest_of_the_pixels():
    image = chart()
    changed = image.copy()
    changed.putpixel((5, 5), (1, 2, 3))
    blank = [fingerprint(Image.new("RGB", size, "white"))["pixels"].tolist() for size in ((4, 6), (6, 4))]
    assert fingerprint(changed)["pixels"].tolist() != fingerprint(image)["pixels"].tolist()
    assert blank[0] != blank[1]


def test_the_second_part_does_not_depend_on_plain_margins():
    image = Image.new("RGB", (120, 90), "white")
    image.paste("blue", (20, 30, 80, 70))
    wider = Image.new("RGB", (200, 180), "white")
    wider.paste(image, (50, 40))
    one, two = fingerprint(image), fingerprint(wider)
    assert one["sides"].tolist() == [90, 40]
    assert two["sides"].tolist() == [180, 40]
    assert one["hashes"][1].tolist() == two["hashes"][1].tolist()
    assert np.array_equal(one["cells"][1], two["cells"][1])
    assert not np.array_equal(one["cells"][0], two["cells"][0])


def test_a_blank_chart_has_no_content():
    blank = fingerprint(Image.new("RGB", (50, 40), "white"))
    assert content_box(Image.new("L", (5, 4), 7), background=7) is None
    assert blank["sides"].tolist() == [40, 40]
    assert np.array_equal(blank["hashes"], np.zeros((2, 3)))


def test_the_hash_compares_amplitudes_with_their_median():
    cells = np.random.default_rng(0).integers(0, 256, (CELLS, CELLS)).astype(np.uint8)
    half = cells.reshape(32, 2, 32, 2).astype(float).mean(axis=(1, 3))
    place = np.arange(32)
    amplitudes = []
    for vertical in range(12):
        for horizontal in range(12):
            waves = np.outer(
                np.cos(np.pi * vertical * (2 * place + 1) / 64), np.cos(np.pi * horizontal * (2 * place + 1) / 64)
            )
            amplitudes.append((half * waves).sum())
    expected = np.array(amplitudes[1:]) > np.median(amplitudes[1:])
    bits = np.unpackbits(perceptual_hash(cells).view(np.uint8), bitorder="little")
    assert bits[:143].astype(bool).tolist() == expected.tolist()
    assert not bits[143:].any()


def test_damaged_images_raise():
    buffer = io.BytesIO()
    chart().save(buffer, "PNG")
    with pytest.raises(OSError, match=r"truncated|broken"):
        fingerprint(Image.open(io.BytesIO(buffer.getvalue()[:-200])))


def test_the_size_on_disk():
    assert FINGERPRINT.itemsize == 16 + 2 * 24 + 4 + 2 * 64 * 64
