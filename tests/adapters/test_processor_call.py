"""Settings that a tokenizer stores for other uses change no prompt."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoProcessor

from chartqa_ft import adapter_for

from ..support.families import build, records

NAMES = [
    *("florence2", "llava", "paligemma", "gemma3", "qwen2_5_vl", "kosmos2", "kosmos2_5", "blip2", "instructblip"),
    *("got_ocr2", "t5gemma2"),
]


def logits_of(model, adapter, examples):
    """The logits of the answer tokens of each row."""
    batch = adapter.encode(examples)
    with torch.no_grad():
        logits = model(**adapter.model_inputs(batch)).logits
    mask = adapter.label_mask(batch["labels"])
    return [row[own] for row, own in zip(logits, mask, strict=True)]


@pytest.mark.parametrize("name", NAMES)
def test_truncation_and_the_side_of_padding_that_a_tokenizer_stores_change_nothing(name):
    model, processor = build(name)
    examples = records(4)
    usual = adapter_for(model, processor).encode(examples)
    processor.tokenizer.init_kwargs.update(truncation=True, max_length=30)
    processor.tokenizer.padding_side = "left"
    adapter = adapter_for(model, processor)
    found = adapter.encode(examples)
    assert found.keys() == usual.keys()
    assert [key for key in usual if not torch.equal(found[key], usual[key])] == []
    together = logits_of(model, adapter, examples)
    for example, row in zip(examples, together, strict=True):
        torch.testing.assert_close(row, logits_of(model, adapter, [example])[0], rtol=1e-4, atol=1e-4)


def test_a_processor_that_was_loaded_with_truncation_writes_whole_prompts(tmp_path):
    model, processor = build("llava")
    processor.save_pretrained(tmp_path)
    cutting = AutoProcessor.from_pretrained(tmp_path, truncation=True, max_length=60)
    batch = adapter_for(model, cutting).encode(records(2), with_answers=False)
    texts = processor.tokenizer.batch_decode(batch["input_ids"], skip_special_tokens=True)
    assert [text.rstrip().endswith("ASSISTANT:") for text in texts] == [True, True]
