"""The table of published prompts: every entry can be filled and belongs to a model type that exists."""

from __future__ import annotations

import pytest
from transformers import CONFIG_MAPPING

from chartqa_ft.adapters.prompts import CHAT_PROMPT, PROMPTS

TEMPLATES = {**PROMPTS, "any chat model": CHAT_PROMPT}


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_takes_one_question_with_braces(name: str) -> None:
    template = TEMPLATES[name]
    assert template.count("{question}") == 1
    question = 'What is {x} in "{question}"?'
    before, after = template.split("{question}")
    assert template.replace("{question}", question) == before + question + after
    assert not set("{}") & set(before + after)  # no other field, forgotten


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_template_has_markup_that_the_chat_template_adds(name: str) -> None:
    if name == "kosmos-2.5":  # has no chat template
        return
    for markup in ("<image>", "<|", "USER:", "ASSISTANT:", "<start_of"):
        assert markup not in TEMPLATES[name]


def test_every_key_is_a_model_type() -> None:
    assert [key for key in PROMPTS if key not in CONFIG_MAPPING] == []


def test_words_that_were_looked_up() -> None:
    assert CHAT_PROMPT == "{question}\nAnswer the question with a single word."
    assert PROMPTS["paligemma"] == PROMPTS["pix2struct"] == "{question}"
    assert PROMPTS["kosmos-2"] == "<grounding> Question: {question} Answer:"
    assert PROMPTS["internvl"] == "{question} Answer the question using a single word or phrase."
    assert PROMPTS["llava"] == "{question}\nAnswer the question using a single word or phrase."
