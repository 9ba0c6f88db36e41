"""Arguments of `answer_questions` are used or refused by name, and the model's modes are left alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from chartqa_ft import answer_questions

from ..support.common import tiny

WHITE = Image.new("RGB", (48, 40), "white")


@pytest.fixture(scope="module")
def loaded():
    return tiny()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": None}, "model must be a loaded model"),
        ({"model": "google/deplot"}, "model must be a loaded model"),
        ({"model": torch.nn.Linear}, "model must be .* the class Linear"),
        ({"processor": None}, "processor must be the processor of the model"),
        ({"adapter": "decoder-prompt"}, "adapter must be an Adapter, got 'decoder-prompt': pass adapter_for"),
        ({"prompt": 5}, "prompt must be a str"),
        ({"questions": 5}, "questions must be a list of str"),
        ({"questions": {"Why?"}}, "questions must be a list of str"),
        ({"images": None}, "images must be an image"),
        ({"images": np.array(5)}, "images must be an image"),
        ({"images": {"a.png"}}, "images must be an image"),
        ({"batch_size": 1.5}, "batch_size must be an int of at least 1"),
        ({"batch_size": "8"}, "batch_size must be an int of at least 1"),
        ({"num_beams": 0}, "num_beams must be at least 1"),
        ({"max_new_tokens": None}, "max_new_tokens must be an int of at least 1"),
        ({"max_new_tokens": float("nan")}, "max_new_tokens must be an int of at least 1"),
        ({"do_sample": "no"}, "do_sample must be True or False"),
        ({"temperature": 0.5}, "temperature=0.5 has no effect without sampling"),
        ({"min_p": 0.1, "do_sample": False}, "min_p=0.1 has no effect"),
        ({"logits_processor": "x"}, "logits_processor must be a list"),
        ({"stopping_criteria": [5]}, "stopping_criteria must be a list"),
        ({"min_new_tokens": 9}, "min_new_tokens=9 is more than max_new_tokens=3"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(loaded, arguments, message):
    given = {"model": loaded[0], "processor": loaded[1], "images": [WHITE], "questions": ["Why?"], "max_new_tokens": 3}
    with pytest.raises((TypeError, ValueError), match=message):
        answer_questions(**{**given, **arguments})


def test_numbers_and_lists_of_any_library_are_used(loaded):
    usual = answer_questions(*loaded, [WHITE], ["Why?"], max_new_tokens=3, batch_size=2)
    assert usual == answer_questions(
        *loaded, iter([WHITE]), iter(["Why?"]), max_new_tokens=np.int64(3), batch_size=torch.tensor(2)
    )
    assert usual == answer_questions(*loaded, (WHITE,), ("Why?",), max_new_tokens=3, temperature=1.0, top_k=None)
    assert len(answer_questions(*loaded, WHITE, ["Why?"], max_new_tokens=3, do_sample=True, temperature=0.5)) == 1


def test_each_module_keeps_its_mode():
    model, processor = tiny()
    model.train().encoder.eval()
    before = [module.training for module in model.modules()]
    answer_questions(model, processor, [WHITE], ["Why?"], max_new_tokens=2)
    assert before == [module.training for module in model.modules()]
    assert len(set(before)) == 2
    with pytest.raises(ValueError, match="cannot be decoded"):
        answer_questions(model, processor, ["gone.png"], ["Why?"], max_new_tokens=2)
    assert before == [module.training for module in model.modules()]
