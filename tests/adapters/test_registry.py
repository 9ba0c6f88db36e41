"""A model gets its adapter by its configuration, or an error says what to write."""

from __future__ import annotations

import pytest
import torch

from chartqa_ft import answer_questions
from chartqa_ft.adapters import DecoderPrompt, adapter_for, register_adapter
from chartqa_ft.adapters.registry import check_adapter

from ..support.common import tiny
from ..support.families import build, records


def test_unknown_decoder_only_models_say_what_to_write():
    model, processor = build("llava")
    model.config.model_type = "unheard-of"
    processor.chat_template = processor.tokenizer.chat_template = None
    with pytest.raises(
        ValueError, match=r"'unheard-of' model has no chat template.*\n@register_adapter\('unheard-of'"
    ):
        adapter_for(model, processor)


def test_a_model_that_takes_no_chart_in_its_prompt_is_told_that_a_layout_was_tried_in_vain():
    model, processor = tiny()
    model.config.model_type = "unheard-of"
    model.config.is_encoder_decoder = False
    with pytest.raises(ValueError, match=r"has no chat template.* was tried and does not work \(") as error:
        adapter_for(model, processor)
    assert "@register_adapter" not in str(error.value)


def test_register_adapter_adds_a_family():
    @register_adapter("my-own-family")
    class Own(DecoderPrompt):
        name = "own"

    model, processor = tiny()
    model.config.model_type = "my-own-family"
    assert isinstance(adapter_for(model, processor), Own)


def test_an_adapter_of_another_family_or_another_object_is_refused():
    model, processor = tiny()
    adapter = adapter_for(model, processor)
    check_adapter(adapter, model)
    check_adapter(adapter, torch.nn.DataParallel(model))
    for wrong, words in {"causal": "got 'causal'", type(adapter): "got the class DecoderPrompt", None: "None"}.items():
        with pytest.raises(TypeError, match=f"adapter must be an Adapter, .*{words}: pass adapter_for"):
            check_adapter(wrong, model)
    for family in ("llava", "pix2struct", "florence2"):
        with pytest.raises(ValueError, match="of the family vision-encoder-decoder, and this model is of"):
            check_adapter(adapter, build(family)[0])


@pytest.mark.parametrize("name", ["unichart", "florence2", "llava", "pix2struct"])
def test_a_wrapped_model_gets_the_adapter_of_the_model_inside(name):
    model, processor = build(name)
    adapter, wrapped = adapter_for(model, processor), torch.nn.DataParallel(model)
    again = adapter_for(wrapped, processor)
    assert (type(again), again.settings(), again.eos_token_ids) == (
        type(adapter),
        adapter.settings(),
        adapter.eos_token_ids,
    )
    record = records(1)[0]
    asked = [record["image"], [record["question"]]]
    assert answer_questions(wrapped, processor, *asked, max_new_tokens=3) == answer_questions(
        model, processor, *asked, max_new_tokens=3
    )
