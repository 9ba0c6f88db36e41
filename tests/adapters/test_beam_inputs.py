"""Beam search repeats the charts of a batch as a whole, or is refused."""

from __future__ import annotations

import pytest
import torch

from ..support.families import records
from ..support.family_cases import ready


def test_beams_that_would_get_the_patches_of_other_charts_are_refused(monkeypatch):
    """transformers 5.19 does not encode the charts of Qwen 3.5 before it repeats the rows for the beams."""
    model, adapter = ready("qwen2_5_vl")
    batch = adapter.encode(records(2))
    assert len(batch["pixel_values"]) > 2
    settings = {"max_new_tokens": 3, "min_new_tokens": 3}
    answers = adapter.generate(model, batch, num_beams=2, **settings)
    monkeypatch.setattr(model, "input_modalities", ("video",), raising=False)
    with pytest.raises(
        ValueError, match=r"would mix up the charts of Qwen2_5_VL\w+ \(pixel_values .* answer with num_beams=1"
    ):
        adapter.generate(model, batch, num_beams=2, **settings)
    monkeypatch.undo()
    assert torch.equal(adapter.generate(model, batch, num_beams=2, **settings), answers)


@pytest.mark.parametrize("name", ["llava", "llava_next", "idefics3"])
def test_images_with_an_entry_per_row_need_nothing(name, monkeypatch):
    model, adapter = ready(name)
    monkeypatch.setattr(model, "input_modalities", ("video",), raising=False)
    ids = adapter.generate(model, adapter.encode(records(2)), max_new_tokens=2, min_new_tokens=2, num_beams=2)
    assert ids.shape == (2, 2)
