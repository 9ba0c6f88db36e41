"""A processor in its steps, and the digest of its settings."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import DonutImageProcessorPil

from chartqa_ft.images.resizing import settings_digest, take_apart

from ..support.common import tiny


def test_settings_are_told_apart_by_class_and_library(monkeypatch):
    _, processor = tiny()
    first = settings_digest(processor.image_processor)
    assert len(first) == 32
    assert settings_digest(copy.deepcopy(processor.image_processor)) == first
    other = type("Other", (type(processor.image_processor),), {})(
        **json.loads(json.dumps(processor.image_processor.to_dict()))
    )
    assert settings_digest(other) != first
    monkeypatch.setattr("chartqa_ft.images.resizing._libraries", lambda: {"pillow": "1.0"})
    assert settings_digest(processor.image_processor) != first


class Own(DonutImageProcessorPil):
    """A class of a user's own, without a change."""


class Rotating(DonutImageProcessorPil):
    """A processor with a further step."""

    def __call__(self, images, **settings):
        return super().__call__([image.transpose(Image.Transpose.ROTATE_180) for image in images], **settings)


def test_the_steps_make_the_whole_bit_for_bit():
    processor = tiny()[1].image_processor
    parts = take_apart(processor)
    assert parts.canvas == (processor.size["height"], processor.size["width"])
    assert parts.settings == settings_digest(processor)
    charts = [Image.effect_noise(size, 90).convert("RGB") for size in ((64, 40), (33, 70))]
    placed = torch.stack([parts.placed(parts.resized(chart)) for chart in charts])
    assert (placed.dtype, placed.shape[:2]) == (torch.uint8, (2, 3))
    assert torch.equal(parts.to_float(placed), processor(charts, return_tensors="pt")["pixel_values"])


def test_a_chart_is_placed_where_it_is_drawn():
    parts = take_apart(tiny()[1].image_processor)
    height, width = parts.canvas
    picture = np.full((height - 10, width, 3), 200, dtype=np.uint8)
    placed = parts.placed(picture, draw=lambda rows, columns: (rows - 3, columns))
    assert placed[0, :, 0].tolist() == [0] * 7 + [200] * (height - 10) + [0] * 3
    with pytest.raises(ValueError, match=f"a chart resized to {width} x {height + 1} pixels is larger than"):
        parts.placed(np.zeros((height + 1, width, 3), dtype=np.uint8))


def test_other_processors_do_not_come_apart(monkeypatch):
    settings = tiny()[1].image_processor.to_dict()
    assert take_apart(Own(**settings)) is None  # a class of a user's own is not even tried
    for kind in (Own, Rotating):
        monkeypatch.setattr(kind, "__module__", "transformers.models.donut")
    assert take_apart(Own(**settings)) is not None
    assert take_apart(Rotating(**settings)) is None
    assert take_apart(lambda images, **_: images) is None
