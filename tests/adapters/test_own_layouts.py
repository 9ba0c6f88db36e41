"""Families without a chat template whose processors take chart and question in a way of their own."""

from __future__ import annotations

import pytest
import torch

from chartqa_ft.adapters import EncoderPrompt, adapter_for
from chartqa_ft.adapters.own_layouts import Blip2, GotOcr2, Kosmos2_5, T5Gemma2
from chartqa_ft.adapters.registry import adapter_class

from ..support.families import build, records

FAMILIES = {"blip2": Blip2, "kosmos2_5": Kosmos2_5, "got_ocr2": GotOcr2, "t5gemma2": T5Gemma2}


@pytest.mark.parametrize("name", FAMILIES)
def test_batched_answers_are_those_of_rows_alone(name):
    model, processor = build(name)
    adapter = adapter_for(model, processor)
    assert type(adapter) is FAMILIES[name]
    rows = records(4)
    alone = [adapter.generate(model, adapter.encode([row]), max_new_tokens=4) for row in rows]
    assert adapter.generate(model, adapter.encode(rows), max_new_tokens=4).equal(torch.cat(alone))
    other = [{**row, "image": rows[2 - 2 * (number > 1)]["image"]} for number, row in enumerate(rows)]
    batches = [adapter.model_inputs(adapter.encode(examples)) for examples in (rows, other)]
    with torch.no_grad():
        logits = [model(**batch).logits for batch in batches]
    assert (logits[0] - logits[1]).abs().max() > 1e-3  # charts make a difference


def test_the_number_of_image_tokens_is_the_one_of_the_model():
    model, processor = build("got_ocr2")
    assert adapter_for(model, processor).image_tokens(adapter_for(model, processor).encode(records(2))) == [4, 4]
    for name, count in (("kosmos2_5", 8), ("blip2", 4)):
        adapter = adapter_for(*build(name))
        assert adapter.image_tokens(adapter.encode(records(2))) == [count, count]


def test_the_turn_of_got_ocr_ends_with_its_own_token():
    model, processor = build("got_ocr2")
    processor.tokenizer.eos_token = "<|endoftext|>"
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    adapter = adapter_for(model, processor)
    ends = processor.tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert adapter.encode(records(1))["labels"][0, -1] == ends[0]
    assert adapter.eos_token_ids == set(ends)


def test_blip_2_with_t5_has_an_encoder_that_reads_the_prompt():
    model, _ = build("blip2")
    assert adapter_class(model) is Blip2
    model.config.is_encoder_decoder = True
    assert adapter_class(model) is EncoderPrompt
