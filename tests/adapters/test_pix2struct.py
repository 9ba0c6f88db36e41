"""Pix2Struct's questions are drawn above the chart, without a network."""

from __future__ import annotations

import logging
import pickle
import socket

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

from chartqa_ft.adapters import Pix2Struct, adapter_for
from chartqa_ft.adapters.pix2struct import lacks, question_font
from chartqa_ft.models.load import load_checkpoint
from chartqa_ft.training.trainer import ChartQATrainer

from ..support.common import arguments
from ..support.families import build, records

# ---------------------------------------------------------------------- Florence-2


def test_questions_are_drawn_without_the_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    model, processor = build("pix2struct")
    adapter = adapter_for(model, processor)
    assert type(adapter) is Pix2Struct
    rows = records(4)
    batch = adapter.encode(rows)
    assert batch["flattened_patches"].shape == (4, 48, 770)
    one = adapter.encode([{**rows[0], "question": "Which?"}])["flattened_patches"]
    other = adapter.encode([{**rows[0], "question": "Where?"}])["flattened_patches"]
    assert not torch.equal(one, other)


def test_the_batch_is_what_the_image_processor_makes_of_a_header_in_this_font():
    """Only `render_header` accepts a font; upstream's own call of it downloads Arial from the Hub."""
    model, processor = build("pix2struct")
    rows = records(3)
    batch = adapter_for(model, processor).encode(rows, with_answers=False)
    image_processor = processor.image_processor
    font = ImageFont.load_default(36).font_bytes
    upstream = type(image_processor)
    called = []

    class WithFont(upstream):
        def render_header(self, image, header, **fonts):
            called.append(header)
            return upstream.render_header(self, image, header, font_bytes=font)

    expected = WithFont(**image_processor.to_dict())(
        [row["image"] for row in rows],
        header_text=[row["question"] for row in rows],
        is_vqa=True,
        max_patches=image_processor.max_patches,
        return_tensors="pt",
    )
    assert called == [row["question"] for row in rows]
    assert set(batch) == {"flattened_patches", "attention_mask"}
    for key, value in batch.items():
        torch.testing.assert_close(value, expected[key], rtol=0, atol=0)


def test_nothing_is_left_on_the_processor_and_the_font_travels(tmp_path):
    font = tmp_path / "own.ttf"
    font.write_bytes(question_font())
    model, processor = build("pix2struct")
    before = processor.image_processor.to_json_string()
    adapter = adapter_for(model, processor, font_path=str(font))
    expected = adapter.encode(records(2))["flattened_patches"]
    assert processor.image_processor.to_json_string() == before
    run = ChartQATrainer(
        model, arguments(tmp_path / "out"), train_dataset=records(2), processing_class=processor, adapter=adapter
    )
    run.train()
    run.save_model()
    *_, again = load_checkpoint(tmp_path / "out")
    assert again.font_path == str(font)
    assert torch.equal(again.encode(records(2))["flattened_patches"], expected)
    assert torch.equal(pickle.loads(pickle.dumps(again)).encode(records(2))["flattened_patches"], expected)
    font.unlink()
    with pytest.raises(ValueError, match=rf"font_path: there is no font file {font}"):
        load_checkpoint(tmp_path / "out")


def test_characters_that_the_font_lacks_are_named_once(caplog):
    model, processor = build("pix2struct")
    adapter = adapter_for(model, processor)
    assert lacks(adapter.font, "é")
    assert not any(lacks(adapter.font, chr(code)) for code in range(33, 127))
    asked = [{**records(1)[0], "question": "Où est l'été ?"}] * 2
    with caplog.at_level(logging.WARNING, logger="chartqa_ft"):
        adapter.encode(asked)
        adapter.encode(asked)
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("the font that draws questions has no é ù: pass font_path=")


def test_the_checkpoints_number_of_patches_wins_over_the_class():
    model, processor = build("pix2struct")
    processor.image_processor.max_patches = 20
    adapter = adapter_for(model, processor)
    batch = adapter.encode([{**records(1)[0], "image": Image.fromarray(np.full((90, 90, 3), 80, np.uint8))}])
    assert batch["flattened_patches"].shape[1] == 20
    assert adapter.image_tokens(batch)[0] <= 20
