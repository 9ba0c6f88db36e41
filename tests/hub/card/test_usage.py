"""The snippets of a card run as pasted."""

from __future__ import annotations

import contextlib
import io
import re

import pytest
import torch

from chartqa_ft.adapters import adapter_for
from chartqa_ft.hub.card.render import render_card
from chartqa_ft.models.chartqa_config import save_settings
from chartqa_ft.models.lora import add_peft, default_lora_config

from ...support.common import tiny
from ...support.family_cases import ready
from .examples import facts


def answers_of_snippets(card):
    """What the blocks of Python print, each run alone as pasted."""
    answers = []
    for block in re.findall(r"^```python\n(.*?)^```$", card, re.DOTALL | re.MULTILINE):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(block, {})
        answers.append(printed.getvalue().strip())
    return answers


def save(folder, model, processor, adapter):
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    save_settings(adapter, folder)


def card_of(model, adapter, **decoding):
    """The card of alice/model, whose answers are decoded so."""
    settings = {"settings": adapter.settings(), "model_type": model.config.model_type, "decoding": decoding}
    return render_card(facts(name="alice/model", **settings))


@pytest.mark.parametrize("family", ["unichart", "trocr", "florence2", "llava", "paligemma"])
def test_snippets_run_as_pasted_and_agree(family, tmp_path, monkeypatch):
    if family == "unichart":
        model, processor = tiny(init_std=0.5)
        adapter = adapter_for(model, processor)
    else:
        model, adapter = ready(family)
        processor = adapter.processor
    monkeypatch.chdir(tmp_path)
    card = card_of(model, adapter, num_beams=2, max_new_tokens=8)
    save("alice/model", model, processor, adapter)
    ours, plain = answers_of_snippets(card)
    assert plain
    assert ours == str([plain])


def test_snippets_of_a_model_whose_answers_end_at_a_text(tmp_path, monkeypatch):
    model, adapter = ready("llava")
    letters = list("abcdefghijklmnopqrstuvwxyz ")  # a list is left out of the snippets, and the model has it
    model.generation_config.update(stop_strings=letters)
    monkeypatch.chdir(tmp_path)
    card = card_of(model, adapter, num_beams=1, max_new_tokens=8, min_new_tokens=8, stop_strings=letters)
    save("alice/model", model, adapter.processor, adapter)
    ours, plain = answers_of_snippets(card)
    assert ours == str([plain])
    assert "**plain, tokenizer=processor.tokenizer)" in card


@pytest.mark.parametrize("family", ["unichart", "llava"])
def test_snippets_of_an_adapter(family, tmp_path, monkeypatch):
    if family == "unichart":
        model, processor = tiny(init_std=0.5)
        adapter = adapter_for(model, processor)
    else:
        model, adapter = ready(family)
        processor = adapter.processor
    monkeypatch.chdir(tmp_path)
    card = render_card(
        facts(
            name="alice/lora",
            kind="lora",
            base_model="bob/base",
            base_revision=None,
            settings=adapter.settings(),
            model_type=model.config.model_type,
            decoding={"num_beams": 1, "max_new_tokens": 8},
        )
    )
    save("bob/base", model, processor, adapter)
    model.name_or_path = "bob/base"
    torch.manual_seed(2)  # random LoRA weights that answer something
    adapted = add_peft(model, default_lora_config(model, init_lora_weights=False))
    save("alice/lora", adapted, processor, adapter)
    ours, plain = answers_of_snippets(card)
    assert plain
    assert ours == str([plain])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "lora", "base_model": "/tmp/base"}, "which is not on the Hub"),
        ({"kind": "lora", "vocabulary_grown": True}, "load_checkpoint` resizes the embeddings"),
        ({"model_type": "pix2struct"}, "another font"),
        ({"model_type": "kosmos-2"}, "of this family builds the prompts"),
        (
            {"settings": {"adapter": "my-family", "prompt": "{question}"}},
            "of this family builds the prompts",
        ),
    ],
)
def test_where_transformers_alone_does_not_do_the_card_says_so(changes, said):
    card = render_card(facts(**changes))
    assert said in card
    assert card.count("```python") == 1
    assert "load_checkpoint('alice/chart-reader')" in card
