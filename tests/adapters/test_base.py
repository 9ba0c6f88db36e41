"""Records of any kind become tensors, and a record that cannot is named."""

from __future__ import annotations

import pickle

import pytest
import torch
from PIL import Image

from chartqa_ft.adapters import adapter_for
from chartqa_ft.batching.collator import ChartQACollator

from ..support.common import drawn_charts, tiny
from ..support.encoding import WHITE_VALUE, example


def test_records_are_not_changed_and_adapters_pickle(adapter):
    record = example(image=Image.new("RGBA", (40, 60), (255, 0, 0, 128)))
    before = {**record, "image": record["image"].copy()}
    again = pickle.loads(pickle.dumps(adapter))
    first, second = adapter.encode([record]), again.encode([record])
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert record == before


def test_missing_answers_images_and_broken_images_name_the_record(adapter, tmp_path):
    with pytest.raises(ValueError, match=r"record \(chart_id='w', question='What.*has no answer"):
        adapter.encode([example(answer=None)])
    with pytest.raises(ValueError, match=r"chart_id='w'.* has no image"):
        adapter.encode([example(image=None)])
    path = tmp_path / "broken.png"
    drawn_charts()[0]["image"].save(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"chart_id='w'.*the image cannot be decoded"):
        adapter.encode([example(image=Image.open(path))])


@pytest.mark.parametrize("mode", ["L", "P", "LA", "RGBA", "CMYK", "1", "I;16"])
def test_every_image_mode_is_encoded(adapter, mode):
    image = Image.new("RGB", (50, 30), "white").convert(mode) if mode != "I;16" else Image.new(mode, (50, 30), 65535)
    pixels = adapter.encode([example(image=image)])["pixel_values"]
    assert pixels.max() == WHITE_VALUE
    assert pixels.shape == (1, 3, 96, 96)


def test_a_prompt_without_the_question_and_unknown_settings_are_refused():
    with pytest.raises(ValueError, match=r"has no field \{question\}"):
        adapter_for(*tiny(), prompt="<chartqa> <s_answer>")
    with pytest.raises(ValueError, match="on_long_answer must be"):
        adapter_for(*tiny(), on_long_answer="drop")


def test_images_that_the_processor_cannot_take_name_their_record(adapter):
    for size in [(1, 3000), (3000, 1), (0, 5)]:
        examples = [example(chart_id="fine"), example(chart_id="thin", image=Image.new("RGB", size))]
        wanted = rf"chart_id='thin'.*takes no image of {size[0]} x {size[1]} pixels"
        with pytest.raises(ValueError, match=wanted):
            adapter.encode(examples)
        with pytest.raises(ValueError, match=wanted):
            ChartQACollator(adapter, random_padding="seeded")(examples)
