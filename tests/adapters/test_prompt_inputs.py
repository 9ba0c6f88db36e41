"""What tokenizer and processor make of a prompt is checked when an adapter is created."""

from __future__ import annotations

import pytest
from tokenizers import processors

from chartqa_ft import adapter_for

from ..support.families import build, records

ENDED = [
    *("llava", "llava_next", "qwen2_5_vl", "internvl", "paligemma", "mllama", "blip2", "kosmos2_5"),
    *("instructblip", "got_ocr2"),
]
SPARED = ["gemma3", "idefics3", "kosmos2", "unichart"]


@pytest.mark.parametrize("name", ENDED)
def test_a_tokenizer_that_ends_prompts_is_refused(name):
    model, processor = build(name)
    processor.tokenizer.add_eos_token = True
    with pytest.raises(ValueError, match=r"to the end of every prompt.*tokenizer.add_eos_token = False"):
        adapter_for(model, processor)
    processor.tokenizer.add_eos_token = False
    adapter_for(model, processor)


@pytest.mark.parametrize("name", SPARED)
def test_families_whose_prompts_have_no_end_all_the_same_are_spared(name):
    model, processor = build(name)
    usual = adapter_for(model, processor).encode(records(2))
    processor.tokenizer.add_eos_token = True
    found = adapter_for(model, processor).encode(records(2))
    key = "decoder_input_ids" if name == "unichart" else "input_ids"
    assert found[key].equal(usual[key])


def test_a_post_processor_that_ends_prompts_is_refused():
    model, processor = build("llava")
    tokenizer = processor.tokenizer
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", tokenizer.eos_token_id)]
    )
    with pytest.raises(ValueError, match=r"adds '</s>' to the end of every prompt.*post-processor"):
        adapter_for(model, processor)


def test_a_turn_that_ends_with_eos_is_part_of_the_prompt():
    model, processor = build("llava")
    processor.chat_template = processor.chat_template.replace("ASSISTANT:", "</s>")
    adapter = adapter_for(model, processor)
    batch = adapter.encode(records(1), with_answers=False)
    assert batch["input_ids"][0, -1] == processor.tokenizer.eos_token_id
