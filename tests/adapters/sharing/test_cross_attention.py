"""Keys and values of a chart are computed once for all its rows and beams, and the answers do not change."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from transformers import EncoderDecoderCache, GenerationMixin

from chartqa_ft.adapters import Adapter, adapter_for
from chartqa_ft.adapters.cache_name import CACHE
from chartqa_ft.adapters.sharing import cross_attention as cross_cache
from chartqa_ft.adapters.sharing.cross_attention import SharedCrossCache, shared_cross_cache
from chartqa_ft.batching.collator import ChartQACollator

from ...evaluation.test_answer_queue import confident
from ...support.encoding import PAIRS, pair
from ...support.families import records
from ...support.family_cases import ready

NEW_TOKENS = 6


def model_of(name: str) -> tuple[torch.nn.Module, Adapter]:
    if name == "unichart":
        return confident()
    if name in PAIRS:
        model, processor = pair(name)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.ndim > 1:
                    weight.add_(torch.randn(weight.shape, generator=generator) * 0.2)
        return model, adapter_for(model, processor)
    return ready(name)


@pytest.fixture
def caches(monkeypatch) -> list[Any]:
    """The cache that every call of `model.generate` is given."""
    seen: list[Any] = []
    generate = GenerationMixin.generate

    @functools.wraps(generate)
    def watched(self, *args: Any, **kwargs: Any) -> Any:
        seen.append(kwargs.get(CACHE))
        return generate(self, *args, **kwargs)

    monkeypatch.setattr(GenerationMixin, "generate", watched)
    return seen


def shared(caches: list[Any]) -> list[bool]:
    return [isinstance(cache, SharedCrossCache) for cache in caches]


@pytest.mark.parametrize("name", ["unichart", "trocr", *PAIRS])
def test_answers_are_those_without_it(monkeypatch, caches, name):
    model, adapter = model_of(name)
    rows = records(13)
    batch = ChartQACollator(adapter)([*rows, *rows[:3]])
    for num_beams in (1, 4):
        settings = {"max_new_tokens": NEW_TOKENS, "num_beams": num_beams}
        caches.clear()
        ids = adapter.generate(model, batch, **settings)
        assert all(shared(caches)) if num_beams > 1 else any(shared(caches))
        caches.clear()
        with monkeypatch.context() as without:
            without.setattr("chartqa_ft.adapters.decoder_prompt.shared_cross_cache", lambda *args, **kwargs: None)
            assert adapter.generate(model, batch, **settings).equal(ids)
        assert not any(shared(caches))
        assert len({tuple(row) for row in ids.tolist()}) > 2


@pytest.mark.parametrize(("num_beams", "looks"), [(1, 2), (4, 2)])
def test_each_chart_of_a_call_is_projected_once(num_beams, looks):
    model, adapter = confident()
    # Three rows of one prompt on two charts.
    rows = [records(8)[index] for index in (3, 4, 4)]
    batch = ChartQACollator(adapter)(rows)
    assert len(batch["pixel_values"]) == 2
    projected: list[int] = []
    for module_name, module in model.decoder.named_modules():
        if module_name.endswith(("encoder_attn.k_proj", "encoder_attn.v_proj")):
            module.register_forward_hook(lambda module, args, output: projected.append(len(output)))
    adapter.generate(model, batch, max_new_tokens=NEW_TOKENS, num_beams=num_beams)
    assert projected == [looks, looks]


def test_beam_search_leaves_the_keys_of_charts_where_they_are():
    model, adapter = confident()
    batch = ChartQACollator(adapter)(records(5))
    states = adapter.encode_charts(model, batch).last_hidden_state
    rows = batch["chart_index"][:2]
    model.config.return_dict = False
    with torch.no_grad():
        cache = shared_cross_cache(model, states, rows, beams=3, token=2)
        before = [layer.keys for layer in cache.cross_attention_cache.layers]
        assert [len(keys) for keys in before] == [6]
        out = model(
            encoder_outputs=(states[rows].repeat_interleave(3, dim=0),),
            decoder_input_ids=torch.arange(6)[:, None] + 5,
            **{CACHE: cache},
            use_cache=True,
            return_dict=True,
        )
        own = out[CACHE].self_attention_cache.layers[0].keys.clone()
        order = torch.tensor([2, 2, 0, 5, 3, 3])
        cache.reorder_cache(order)
    assert [layer.keys is keys for layer, keys in zip(cache.cross_attention_cache.layers, before, strict=True)] == [
        True
    ]
    assert cache.self_attention_cache.layers[0].keys.equal(own[order])
    assert not own[order].equal(own)


@pytest.mark.parametrize(
    "settings", [{"use_cache": False}, {"cache_implementation": "dynamic"}, {"custom_generate": None}]
)
def test_whoever_takes_care_of_the_cache_is_left_alone(caches, settings):
    model, adapter = confident()
    batch = ChartQACollator(adapter)(records(5))
    ids = adapter.generate(model, batch, max_new_tokens=NEW_TOKENS, num_beams=2)
    assert all(shared(caches))
    caches.clear()
    assert adapter.generate(model, batch, max_new_tokens=NEW_TOKENS, num_beams=2, **settings).equal(ids)
    assert not any(shared(caches))


def test_nothing_is_prepared_where_nothing_is_shared(caches):
    model, adapter = confident()
    states = torch.randn(3, 4, 32)
    assert shared_cross_cache(model, states, torch.tensor([0, 2]), beams=1, token=2) is None
    batch = adapter.encode(records(1))
    adapter.generate(model, batch, max_new_tokens=NEW_TOKENS)
    assert caches == [None]


def test_a_decoder_with_another_cache_answers_as_before(monkeypatch, caches):
    model, adapter = confident()
    batch = ChartQACollator(adapter)(records(5))
    ids = adapter.generate(model, batch, max_new_tokens=NEW_TOKENS, num_beams=2)

    class Other(EncoderDecoderCache):
        pass

    monkeypatch.setattr(cross_cache, "EncoderDecoderCache", Other)
    caches.clear()
    assert adapter.generate(model, batch, max_new_tokens=NEW_TOKENS, num_beams=2).equal(ids)
    assert not any(shared(caches))
