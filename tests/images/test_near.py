"""Copies of a chart are found in another format, size or margin; other charts of the same template are not."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from chartqa_ft.images.fingerprints import FINGERPRINT, fingerprint
from chartqa_ft.images.near import near_pairs
from chartqa_ft.images.rgb import to_rgb


def bars(heights: list[int], labels: list[str] | None = None) -> Image.Image:
    """A bar chart of 600 x 400 pixels, all of one template."""
    image = Image.new("RGB", (600, 400), "white")
    draw = ImageDraw.Draw(image)
    for line in range(6):
        draw.line((60, 40 + 60 * line, 560, 40 + 60 * line), fill=(225, 225, 225))
        draw.text((20, 34 + 60 * line), f"{100 - 20 * line}", fill=(90, 90, 90))
    for place, height in enumerate(heights):
        left = 80 + 80 * place
        draw.rectangle((left, 340 - 3 * height, left + 50, 340), fill=(40, 120, 220))
        draw.text((left + 10, 350), (labels or [f"{2010 + n}" for n in range(6)])[place], fill=(60, 60, 60))
    return image


def curve(seed: int, width: int = 2) -> Image.Image:
    """A chart of one thin line, all of one template."""
    image = bars([])
    heights = np.random.default_rng(seed).integers(50, 330, 8).tolist()
    ImageDraw.Draw(image).line([(80 + 65 * n, y) for n, y in enumerate(heights)], fill=(40, 120, 220), width=width)
    return image


def saved(format: str, **settings: object) -> Callable[[Image.Image], Image.Image]:
    def save(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, format, **settings)
        return Image.open(io.BytesIO(buffer.getvalue()))

    return save


def scaled(factor: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.resize((round(image.width * factor), round(image.height * factor)))


def framed(image: Image.Image) -> Image.Image:
    wider = Image.new("RGB", (image.width + 40, image.height + 60), "white")
    wider.paste(image, (15, 40))
    return wider


def cropped(image: Image.Image) -> Image.Image:
    return image.crop((8, 8, image.width - 8, image.height - 8))


COPIES = {
    "jpeg": saved("JPEG", quality=85),
    "jpeg, low quality": saved("JPEG", quality=30),
    "webp": saved("WEBP", quality=80),
    "half": scaled(0.5),
    "nine tenths": scaled(0.9),
    "double": scaled(2.0),
    "half, jpeg": lambda image: saved("JPEG", quality=75)(scaled(0.5)(image)),
    "gray": lambda image: image.convert("L"),
    "palette": lambda image: image.quantize(16),
    "stretched": lambda image: image.resize((512, 512)),
    "wider margins": framed,
    "narrower margins": cropped,
}
CHARTS = [bars([30, 55, 80, 20, 64, 42]), bars([31, 70, 10, 90, 52, 44]), curve(0), curve(1)]


@cache
def prints_of_charts() -> np.ndarray:
    return np.stack([fingerprint(image) for image in CHARTS])


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_copies_are_found_and_other_charts_are_not(copied):
    copies = np.stack([fingerprint(copied(image)) for image in CHARTS])
    assert near_pairs(copies, prints_of_charts()) == [(n, n) for n in range(len(CHARTS))]


@pytest.mark.parametrize(
    "other",
    [
        bars([30, 55, 80, 20, 64, 44]),
        bars([30, 55, 80, 20, 64, 42], ["Asia", "Peru", "Iran", "Oman", "Cuba", "Mali"]),
        bars([55, 30, 80, 20, 64, 42]),
    ],
    ids=["one bar by two percent", "labels", "two bars swapped"],
)
def test_charts_of_one_template_differ(other):
    assert near_pairs(np.stack([fingerprint(other)]), prints_of_charts()[:1]) == []


@pytest.mark.parametrize("width", [1, 2, 3])
def test_thin_lines_differ(width):
    lines = np.stack([fingerprint(curve(seed, width)) for seed in range(6)])
    assert near_pairs(lines, lines) == [(n, n) for n in range(6)]


def test_small_charts_are_compared_in_larger_cells():
    chart = bars([30, 55, 80, 20, 64, 42]).resize((96, 96))
    other = bars([55, 30, 80, 20, 64, 42]).resize((96, 96))
    charts = np.stack([fingerprint(chart), fingerprint(other)])
    copies = np.stack([fingerprint(scaled(0.5)(chart)), fingerprint(saved("JPEG", quality=85)(other))])
    assert near_pairs(copies, charts) == [(0, 0), (1, 1)]


def test_every_block_is_compared():
    noise = np.random.default_rng(0)
    charts = np.stack([fingerprint(bars(noise.integers(5, 99, 6).tolist())) for _ in range(6)])
    many = charts[np.arange(150) % 6]
    assert near_pairs(many, charts) == [(n, n % 6) for n in range(150)]
    assert near_pairs(charts, many) == sorted((n % 6, n) for n in range(150))


def test_nothing_is_like_nothing():
    empty = np.zeros(0, FINGERPRINT)
    assert near_pairs(empty, prints_of_charts()) == near_pairs(prints_of_charts(), empty) == []


def test_real_charts_are_clean_and_their_copies_are_found(shared):
    def some(split: str, number: int) -> list[Path]:
        files = sorted((shared / "chartqa" / split / "png").glob("*.png"))
        return files[:: len(files) // number][:number]

    test = [to_rgb(Image.open(file)) for file in some("test", 12)]
    train = np.stack([fingerprint(Image.open(file)) for file in some("train", 12)])
    prints = np.stack([fingerprint(image) for image in test])
    assert near_pairs(prints, train) == []
    assert near_pairs(prints, prints) == [(n, n) for n in range(12)]
    for name in ("jpeg", "half", "nine tenths", "double"):
        copies = np.stack([fingerprint(COPIES[name](image)) for image in test])
        assert near_pairs(copies, prints) == [(n, n) for n in range(12)], name
