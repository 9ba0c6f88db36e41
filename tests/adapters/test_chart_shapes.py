"""Image settings with which no forward pass can work are named before one."""

from __future__ import annotations

import pytest

from chartqa_ft import adapter_for, answer_questions

from ..support.families import build, records

SQUARE = {"height": 64, "width": 64}


def with_settings(name, settings):
    model, processor = build(name)
    for key, value in settings.items():
        setattr(processor.image_processor, key, value)
    return model, processor


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("llava", {"crop_size": SQUARE}, r"64 x 64 pixels \(image_processor.crop_size\).* for 32 x 32"),
        ("paligemma", {"size": SQUARE}, r"64 x 64 pixels \(image_processor.size\)"),
        ("gemma3", {"size": SQUARE}, r"image_processor.size"),
        ("kosmos2", {"crop_size": SQUARE}, r"image_processor.crop_size"),
        ("blip2", {"size": SQUARE}, r"image_processor.size"),
        ("trocr", {"size": SQUARE}, r"image_processor.size"),
        ("qwen2_5_vl", {"patch_size": 16}, r"image_processor.patch_size is 16, and the model has 8"),
        (
            "qwen2_5_vl",
            {"merge_size": 1},
            r"image_processor.merge_size is 1, and the model has 2",
        ),
        ("pix2struct", {"patch_size": {"height": 8, "width": 8}}, r"patch_size is 8 x 8, .* patches of 768"),
    ],
)
def test_pictures_of_another_size_than_that_of_the_model_are_refused(name, settings, words):
    with pytest.raises(ValueError, match=words):
        adapter_for(*with_settings(name, settings), prompt="{question}")
    adapter_for(*build(name), prompt="{question}")


@pytest.mark.parametrize("size", [{"height": 100, "width": 100}, {"height": 96, "width": 64}])
def test_a_canvas_of_relative_positions_may_have_another_size(size):
    adapter = adapter_for(*with_settings("unichart", {"size": size}))
    assert adapter.encode(records(2))["pixel_values"].shape[-2:] == (size["height"], size["width"])


@pytest.mark.parametrize(
    ("name", "settings", "named"),
    [
        ("unichart", {"do_pad": False}, "do_pad"),
        ("llava", {"do_center_crop": False}, "do_center_crop"),
        ("llava", {"do_resize": False, "do_center_crop": False}, "do_resize or image_processor.do_center_crop"),
        ("florence2", {"do_resize": False}, "do_resize or image_processor.do_center_crop"),
        ("paligemma", {"do_resize": False}, "do_resize"),
        ("kosmos2", {"do_center_crop": False}, "do_center_crop"),
    ],
)
def test_charts_of_several_shapes_that_cannot_be_stacked_are_named(name, settings, named):
    model, processor = with_settings(name, settings)
    words = (
        r"charts of different shapes .* chart of record \(.*How tall is the red bar.* of that of record \(.*"
        rf"set image_processor.{named} to True"
    )
    rows = [row for row in records(4) if row["chart_id"] != "bars-0-0"] + records(1)
    adapter = adapter_for(model, processor)
    with pytest.raises(ValueError, match=words):
        adapter.encode(rows)
    with pytest.raises(ValueError, match="charts of different shapes"):  # from bytes, where the family has a cache
        answer_questions(model, processor, *([row[key] for row in rows] for key in ("image", "question")))
