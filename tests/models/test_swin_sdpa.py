"""Fused attention in the windows of a Donut encoder: upstream's values and gradients, upstream's way where it must."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, inject_adapter_in_model
from transformers.models.donut.modeling_donut_swin import DonutSwinSelfAttention

from chartqa_ft.models.swin import chunk_swin_blocks, fuse_swin_attention
from chartqa_ft.models.swin.sdpa import SdpaDonutSwinSelfAttention

from ..support.common import relative_l2
from .test_swin import GRIDS, assert_same, pair, pixels


@pytest.fixture
def calls(monkeypatch) -> list[torch.Size]:
    """The shape of the mask of every call of `scaled_dot_product_attention`."""
    found: list[torch.Size] = []
    true = F.scaled_dot_product_attention

    def watched(*args, attn_mask, **kwargs):
        found.append(attn_mask.shape)
        return true(*args, attn_mask=attn_mask, **kwargs)

    monkeypatch.setattr(F, "scaled_dot_product_attention", watched)
    return found


def fused(size=(80, 80), **kwargs):
    plain, _ = pair(size, **kwargs)
    model = copy.deepcopy(plain)
    assert len(fuse_swin_attention(model)) == 5
    return plain, model


@pytest.mark.parametrize("size", GRIDS.values(), ids=GRIDS)
def test_states_and_gradients_are_those_of_upstream(size, calls):
    plain, model = fused(size)
    assert_same(model, plain, pixels(size), 1e-12)
    assert len(calls) == 5
    assert {shape[0] for shape in calls} >= {3}  # images share the masks of their windows
    with torch.no_grad():
        assert relative_l2(model(pixels(size)).last_hidden_state, plain(pixels(size)).last_hidden_state) <= 1e-12


def test_in_16_bits_they_differ_by_rounding_alone(calls):
    exact, model = fused()
    charts = pixels()
    with torch.no_grad():
        states = model.bfloat16()(charts.bfloat16()).last_hidden_state
    assert len(calls) == 5
    plain = copy.deepcopy(exact).bfloat16()
    with torch.no_grad():
        true, rounded = exact(charts).last_hidden_state, plain(charts.bfloat16()).last_hidden_state
    assert relative_l2(states.double(), true) <= 1.5 * relative_l2(rounded.double(), true)


def freeze(model, but):
    for name, weight in model.named_parameters():
        weight.requires_grad_(but in name)


@pytest.mark.parametrize(
    ("trained", "number"), [("position_bias", 4), ("query", 5), ("embeddings", 5), ("nothing", 5)]
)
def test_a_trained_bias_never_meets_frozen_scores_in_the_kernel(trained, number, calls):
    """pytorch#148476. From the second block on the states need a gradient, and with them queries, keys and values."""
    plain, model = fused()
    for each in (plain, model):
        freeze(each, trained)
    charts = pixels()
    if trained == "nothing":
        with torch.no_grad():
            assert relative_l2(model(charts).last_hidden_state, plain(charts).last_hidden_state) <= 1e-12
    else:
        assert_same(model, plain, charts, 1e-12)
    assert len(calls) == number


def test_dropout_and_attention_weights_go_upstreams_way(calls):
    plain, model = fused(dropout=0.2)
    assert_same(model, plain, pixels(), 0.0)
    weights = model.eval()(pixels(), output_attentions=True).attentions
    assert [part.shape[-1] for part in weights] == [25, 25]
    assert calls == []
    model(pixels())
    assert len(calls) == 5


def test_peft_weights_on_queries_take_part(calls):
    plain, model = fused()
    config = LoraConfig(target_modules=["query", "value"], r=2, init_lora_weights=False)
    for each in (plain, model):
        torch.manual_seed(3)
        inject_adapter_in_model(config, each).double()
    assert_same(model, plain, pixels(), 1e-12)
    assert len(calls) == 5


def test_it_is_turned_on_once_and_off_again(calls):
    plain, model = fused()
    kinds = {type(module) for module in model.modules()}
    assert SdpaDonutSwinSelfAttention in kinds
    assert DonutSwinSelfAttention not in kinds
    assert fuse_swin_attention(model) == []
    assert model.state_dict().keys() == plain.state_dict().keys()
    again = pickle.loads(pickle.dumps(model))
    assert_same(again, plain, pixels(), 1e-12)
    assert len(fuse_swin_attention(model, False)) == 5
    assert fuse_swin_attention(model, False) == []
    calls.clear()
    assert_same(model, plain, pixels(), 0.0)
    assert calls == []


def test_blocks_of_both_kinds_are_not_chunked(calls):
    plain, model = fused()
    chunk_swin_blocks(model)
    assert_same(model, plain, pixels(), 1e-12)
    assert len(calls) == 5


def test_a_subclass_is_left_alone():
    class Own(DonutSwinSelfAttention):
        pass

    _, model = pair()
    attention = model.encoder.layers[0].blocks[0].attention
    attention.self.__class__ = Own
    assert len(fuse_swin_attention(model)) == 4
