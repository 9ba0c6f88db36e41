"""Tokens that cannot be added are refused before the tokenizer changes."""

from __future__ import annotations

import pytest

from chartqa_ft import add_tokens

from ..support.common import tiny
from ..support.families import build


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (None, "tokens must be a list"),
        (5, "tokens must be a list"),
        ({"<a>"}, "tokens must be a list"),
        (b"<a>", "tokens must be a list"),
        (["<a>", ""], r"tokens\[1\] is '': a token cannot be empty"),
        (["<a>", " "], r"tokens\[1\] is ' '"),
        (["<a>", 5], r"tokens\[1\] must be a string, got 5"),
        (["<a>", ["<b>"]], r"tokens\[1\] must be a string"),
    ],
)
def test_tokens_are_named_texts(tokens, message):
    model, processor = tiny()
    size = len(processor.tokenizer)
    with pytest.raises((TypeError, ValueError), match=message):
        add_tokens(model, processor, tokens)
    assert len(processor.tokenizer) == size


def test_special_is_a_boolean():
    with pytest.raises(TypeError, match="special must be True or False, got 'no'"):
        add_tokens(*tiny(), ["<a>"], special="no")


def test_tokens_may_come_from_an_iterator():
    model, processor = tiny()
    first, second = add_tokens(model, processor, iter(["<a>", "<b>"]))
    assert (first + 1, len(processor.tokenizer)) == (second, second + 1)


def test_a_token_without_a_logit_is_refused_before_the_tokenizer_changes():
    model, processor = build("mllama")
    size, rows = len(processor.tokenizer), model.get_input_embeddings().weight.shape[0]
    with pytest.raises(ValueError, match=r"'mllama' models have fewer logits than embeddings.*'<a>'"):
        add_tokens(model, processor, ["7", "<a>"])
    assert add_tokens(model, processor, ["7"]) == processor.tokenizer.convert_tokens_to_ids(["7"])
    assert (len(processor.tokenizer), model.get_input_embeddings().weight.shape[0]) == (size, rows)
