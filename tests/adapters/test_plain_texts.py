"""Texts that are taken as they are: none of them could be refused, truncated or misread by the tokenizer."""

from __future__ import annotations

import copy

import pytest

from chartqa_ft import adapter_for, add_tokens
from chartqa_ft.adapters.plain_texts import PlainTexts
from chartqa_ft.adapters.text_check import find_bad_texts

from ..support.common import tiny
from ..support.families import build


@pytest.mark.parametrize("name", ["unichart", "pix2struct", "florence2", "qwen2_5_vl", "kosmos2", "paligemma"])
def test_plain_texts_can_be_encoded(name):
    adapter = adapter_for(*build(name))
    plain = PlainTexts(adapter)
    assert plain("How tall is the red bar?", "12.5 %")
    assert plain.is_read_back('12.5 %, "Yes" ~ O\'Neill & Co.')
    room = min(plain.room - plain.answer_room, 900)
    longest = {"question": "?" * (room // plain.copies), "answer": "7"}
    assert plain(**longest)
    answered = {"question": "?", "answer": "." * min(plain.room - plain.copies, 900)}
    assert plain(**answered)
    for record in (longest, answered):
        adapter.check_texts([record])  # raises nothing, though each character is a token here


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is </s>?", "7"),
        ("How much?", "7 <unk>"),
        ("How much?", "caf\u00e9"),
        ("How\tmuch?", "7"),
        ("Which [INST]?", "7"),
        ("{question}", "7"),
        ("How? " * 200, "7"),
        ("How much?", "7" * 600),
    ],
)
def test_other_texts_are_left_to_the_tokenizer(question, answer):
    assert not PlainTexts(adapter_for(*tiny()))(question, answer)


def test_a_token_that_looks_like_a_word_is_no_plain_text():
    model, processor = tiny()
    add_tokens(model, processor, ["USER:"], special=True)
    adapter = adapter_for(model, processor)
    assert PlainTexts(adapter)("How much is user?", "7")
    assert not PlainTexts(adapter)("USER: How much?", "7")
    record = {"question": "USER: How much?", "answer": "7"}
    (bad,) = find_bad_texts(adapter, [record], training=True, progress=False)
    assert "the question holds 'USER:'" in bad.message


def test_nothing_is_plain_where_that_cannot_be_known():
    model, processor = tiny()
    own = adapter_for(model, processor)
    own.check_texts = lambda examples, with_answers=True: None
    assert not PlainTexts(own)("How much?", "7")
    stop = adapter_for(model, processor)
    stop.eos_token_ids |= {processor.tokenizer.convert_tokens_to_ids("7")}
    assert not PlainTexts(stop)("How much?", "7")
    processor = copy.deepcopy(processor)
    processor.tokenizer.add_tokens(["bar"])  # without an embedding
    assert not PlainTexts(adapter_for(model, processor))("How tall is the bar?", "7")


def test_a_short_model_has_room_for_short_texts():
    plain = PlainTexts(adapter_for(*tiny(), max_length=60))
    assert plain.room < 60
    assert not plain("How much is the sum of all of the bars?", "7")


def test_the_tokenizer_is_asked_about_other_texts_alone(monkeypatch):
    adapter = adapter_for(*tiny())
    checked = []
    monkeypatch.setattr(type(adapter), "check_texts", lambda self, examples, **_: checked.extend(examples))
    monkeypatch.setattr(type(adapter).check_texts, "__module__", "chartqa_ft.adapters.decoder_prompt")
    records = [{"question": "How much?", "answer": str(n)} for n in range(5)]
    records += [{"question": "Combien co\u00fbte?", "answer": "7"}, {"question": "How much?", "answer": 7}]
    assert find_bad_texts(adapter, records, training=True, progress=False) == []
    assert checked == records[5:]
