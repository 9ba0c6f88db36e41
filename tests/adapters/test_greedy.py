"""Rows leave a greedy search when their answers end, and the answers are those of upstream's search."""

from __future__ import annotations

import pytest
import torch
from transformers import GenerationConfig

from chartqa_ft.adapters.greedy import takes_shrinking_search
from chartqa_ft.batching.collator import ChartQACollator

from ..support.families import records
from .sharing.test_packing import PACKING
from .sharing.test_prefixes import varied

torch.set_num_threads(1)


def often_ending(name):
    """A model for which a fifth of the vocabulary ends an answer."""
    model, adapter = varied(name)
    adapter.eos_token_ids |= set(range(0, 400, 5))
    return model, adapter


def rows_of_steps(model, adapter, batch, **settings):
    """The answers, and the number of rows of each step."""
    steps: list[int] = []
    head = model.get_output_embeddings()
    handle = head.register_forward_hook(lambda module, args, output: steps.append(len(output)))
    found = adapter.generate(model, batch, max_new_tokens=12, **settings).tolist()
    handle.remove()
    return found, steps


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("name", PACKING)
def test_answers_are_those_of_upstreams_search(name, shares):
    model, adapter = often_ending(name)
    adapter.shares_prefixes = shares
    batch = ChartQACollator(adapter, with_answers=False)(records(8))
    found, steps = rows_of_steps(model, adapter, batch)
    adapter.drops_finished = False
    expected, whole = rows_of_steps(model, adapter, batch)
    assert found == expected
    first = int(shares)  # the pass of the prefixes
    assert set(whole[first:]) == {8}
    assert len(steps) == len(whole)
    assert steps[first:] == sorted(steps[first:], reverse=True)
    assert steps[-1] < 8


def test_rows_go_when_they_end_and_stay_in_order():
    model, adapter = often_ending("llava")
    batch = ChartQACollator(adapter, with_answers=False)(records(8))
    found, steps = rows_of_steps(model, adapter, batch)
    lengths = [next((i + 1 for i, t in enumerate(row) if t in adapter.eos_token_ids), 12) for row in found]
    assert len(set(lengths)) >= 3
    assert steps[1:] == [sum(length > step for length in lengths) for step in range(max(lengths))]


@pytest.mark.parametrize(
    ("settings", "arguments", "taken"),
    [
        ({}, {}, True),
        ({"min_new_tokens": 2, "bad_words_ids": [[3]]}, {"logits_processor": None, "synced_gpus": False}, True),
        ({"repetition_penalty": 1.2}, {}, False),
        ({"num_beams": 2}, {}, False),
        ({"do_sample": True}, {}, False),
        ({"use_cache": False}, {}, False),
        ({"cache_implementation": "static"}, {}, False),
        ({"guidance_scale": 1.5}, {}, False),
        ({"prefill_chunk_size": 16}, {}, False),
        ({"prompt_lookup_num_tokens": 2}, {}, False),
        ({"return_dict_in_generate": True}, {}, False),
        ({}, {"logits_processor": [print]}, False),
        ({}, {"stopping_criteria": [print]}, False),
        ({}, {"synced_gpus": True}, False),
        ({}, {"custom_generate": print}, False),
        ({}, {"streamer": object()}, False),
    ],
)
def test_other_searches_are_upstreams(settings, arguments, taken):
    config = GenerationConfig(**{"use_cache": True, "num_beams": 1, "do_sample": False, **settings})
    assert takes_shrinking_search(config, arguments) is taken


def test_processors_of_the_settings_see_the_rows_that_go_on():
    model, adapter = often_ending("llava")
    batch = ChartQACollator(adapter, with_answers=False)(records(8))
    settings = {"no_repeat_ngram_size": 1, "min_new_tokens": 3}
    found, _ = rows_of_steps(model, adapter, batch, **settings)
    adapter.drops_finished = False
    assert rows_of_steps(model, adapter, batch, **settings)[0] == found
    assert rows_of_steps(model, adapter, batch)[0] != found
