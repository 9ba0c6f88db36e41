"""Settings of generation that would be ignored or crash are named before a model runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import LogitsProcessorList, MinNewTokensLengthLogitsProcessor

from chartqa_ft import adapter_for, answer_questions

from ..support.common import tiny


@pytest.fixture(scope="module")
def world():
    model, processor = tiny()
    adapter = adapter_for(model.eval(), processor)
    chart = Image.new("RGB", (96, 96), "white")
    return model, adapter, adapter.encode([{"image": chart, "question": "How much?"}], with_answers=False)


def generate(world, **settings):
    model, adapter, batch = world
    return adapter.generate(model, batch, **{"max_new_tokens": 3, **settings})


@pytest.mark.parametrize(
    ("settings", "kind", "words"),
    [
        ({"max_new_tokens": 1.5}, TypeError, "max_new_tokens must be an int"),
        ({"max_new_tokens": "8"}, TypeError, "max_new_tokens must be an int"),
        ({"max_new_tokens": 0}, ValueError, "max_new_tokens must be at least 1"),
        ({"num_beams": 0}, ValueError, "num_beams must be at least 1"),
        ({"num_beams": math.nan}, TypeError, "num_beams must be an int"),
        ({"num_beams": True}, TypeError, "num_beams must be an int"),
        ({"num_beams": None}, TypeError, "num_beams must be an int"),
        ({"min_new_tokens": 4}, ValueError, "min_new_tokens=4 is more than max_new_tokens=3"),
        ({"min_new_tokens": "2"}, TypeError, "min_new_tokens"),
        ({"min_new_tokens": -1}, ValueError, "min_new_tokens"),
        ({"temperature": 0.5}, ValueError, "temperature=0.5 has no effect without sampling"),
        ({"top_k": 5}, ValueError, "top_k=5 has no effect"),
        ({"top_p": 0.5, "do_sample": False}, ValueError, "top_p=0.5 has no effect"),
        ({"min_p": 0.1, "do_sample": None}, ValueError, "min_p=0.1 has no effect"),
        ({"do_sample": "no"}, TypeError, "do_sample must be True or False"),
        ({"do_sample": 1}, TypeError, "do_sample"),
        ({"use_cache": "yes"}, TypeError, "use_cache must be True, False or None"),
        ({"epsilon_cutoff": 0.1}, ValueError, "epsilon_cutoff=0.1 has no effect"),
        ({"logits_processor": "x"}, TypeError, "logits_processor must be a list of functions"),
        ({"logits_processor": lambda ids, scores: scores}, TypeError, "logits_processor must be a list"),
        ({"logits_processor": ["x"]}, TypeError, "logits_processor must be a list"),
        ({"stopping_criteria": 5}, TypeError, "stopping_criteria must be a list"),
    ],
)
def test_wrong_settings_are_named(world, settings, kind, words):
    with pytest.raises(kind, match=words):
        generate(world, **settings)


def test_neutral_and_right_settings_are_used(world):
    usual = generate(world)
    for neutral in ({"temperature": 1.0}, {"top_k": 0}, {"top_p": None}, {"min_new_tokens": 0}, {"do_sample": False}):
        assert torch.equal(generate(world, **neutral), usual), neutral
    assert torch.equal(generate(world, max_new_tokens=np.int64(3), num_beams=np.int64(1)), usual)
    processors = LogitsProcessorList([MinNewTokensLengthLogitsProcessor(0, 2, 2)])
    assert generate(world, logits_processor=processors).shape == (1, 3)
    torch.manual_seed(0)
    assert generate(world, do_sample=True, temperature=0.5).shape == (1, 3)


def test_more_tokens_than_positions_take_no_more_memory(world):
    _, adapter, _ = world
    ids = generate(world, max_new_tokens=10**9)
    assert ids.shape[1] <= adapter.positions
    few = generate(world, max_new_tokens=5)
    assert few.shape == (1, 5)
    assert torch.equal(ids[0, :1], few[0, :1])


def test_answer_questions_names_its_arguments(world):
    model, adapter, _ = world
    chart = Image.new("RGB", (96, 96), "white")
    for settings, words in [
        ({"batch_size": 2.0}, "batch_size must be an int"),
        ({"batch_size": "8"}, "batch_size must be an int"),
        ({"num_beams": "4"}, "num_beams must be an int"),
        ({"images": Image.Image}, "images must be an image, a path or a list"),
        ({"images": 5}, "images must be an image, a path or a list"),
        ({"questions": 5}, "questions must be a list of str"),
        ({"questions": str}, "questions must be a list of str"),
        ({"adapter": adapter.processor}, "adapter must be an Adapter, got a DonutProcessor: pass adapter_for"),
    ]:
        given = {"images": chart, "questions": ["How much?"], **settings}
        with pytest.raises(TypeError, match=words):
            answer_questions(model, adapter.processor, **given)
