"""What tokenizer and processor make of a prompt is checked when an adapter is created."""

from __future__ import annotations

import re

import pytest
from tokenizers import processors

from chartqa_ft import adapter_for
from chartqa_ft.adapters import Causal

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


PLACES = {
    "llava": "<image>",
    "qwen2_5_vl": "<|image_pad|>",
    "paligemma": "<image>",
    "gemma3": "<start_of_image>",
    "florence2": "<image>",
    "kosmos2": "<image>",
    "smolvlm": "<image>",
    "internvl": "<IMG_CONTEXT>",
}


@pytest.mark.parametrize("name", PLACES)
def test_a_prompt_with_a_second_place_for_the_chart_is_refused(name):
    prompt = PLACES[name] + "{question} Answer:"
    with pytest.raises(ValueError, match=rf"holds {re.escape(PLACES[name])}, the place of a chart, .*: leave it out"):
        adapter_for(*build(name), prompt=prompt)
    adapter = adapter_for(*build(name), prompts={"table": PLACES[name] + "Read it."})
    with pytest.raises(ValueError, match=r"the place of a chart, .*: leave it out"):
        adapter.task_prompt("table")


def test_a_family_whose_prompt_places_the_chart_keeps_it():
    class Own(Causal):
        raw_layout = "{prompt}"

    model, processor = build("llava")
    adapter = Own(model, processor, prompt="<image>{question}")
    assert adapter.image_tokens(adapter.encode(records(2))) == [16, 16]


@pytest.mark.parametrize("name", ["llava", "florence2", "kosmos2", "smolvlm"])
def test_a_tokenizer_without_padding_is_named(name):
    model, processor = build(name)
    processor.tokenizer.pad_token = None
    with pytest.raises(ValueError, match=r"^the tokenizer has no pad_token .*set processor.tokenizer.pad_token"):
        adapter_for(model, processor)
    processor.tokenizer.pad_token = processor.tokenizer.eos_token
    adapter_for(model, processor).encode(records(2))


@pytest.mark.parametrize("name", ["unichart", "llava", "florence2", "kosmos2", "paligemma"])
def test_a_tokenizer_that_splits_special_tokens_is_refused(name):
    model, processor = build(name)
    processor.tokenizer.split_special_tokens = True
    with pytest.raises(ValueError, match=r"splits special tokens.*split_special_tokens = False"):
        adapter_for(model, processor)


@pytest.mark.parametrize("attribute", ["pad_token", "split_special_tokens"])
def test_questions_in_pictures_need_neither(attribute):
    model, processor = build("pix2struct")
    usual = adapter_for(model, processor).encode(records(1))["labels"]
    setattr(processor.tokenizer, attribute, None if attribute == "pad_token" else True)
    assert adapter_for(model, processor).encode(records(1))["labels"].equal(usual)
