"""Blocks of a Donut encoder computed a few windows at a time: upstream's values and gradients, in less memory."""

from __future__ import annotations

import copy
import pickle
import warnings
from functools import cache, partial

import peft
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize
from transformers.models.donut.modeling_donut_swin import (
    DonutDropPath,
    DonutSwinConfig,
    DonutSwinLayer,
    DonutSwinModel,
    DonutSwinSelfAttention,
    window_partition,
)

from chartqa_ft import answer_questions
from chartqa_ft.metrics.predictions import read_predictions
from chartqa_ft.models.activation_checkpointing import checkpoint_blocks
from chartqa_ft.models.swin import block, chunk_swin_blocks, chunked_swin_blocks, layer
from chartqa_ft.models.swin.layer import ChunkedDonutSwinLayer
from chartqa_ft.models.swin.windows import chunks_of

from ..support.common import checkpointing_enable, drawn_charts, relative_l2, tiny, trainer
from ..support.fork_server import of_others
from ..support.prepared import run_prepared

GRIDS = {
    "whole windows": (80, 80),
    "padded at both edges": (68, 52),
    "padded in the second stage": (60, 100),
    "one window in the second stage": (40, 40),
}
"""Height and width in pixels: windows of 5 tokens, a token is 4 pixels, the second stage has half of them."""


@cache
def _upstream(size: tuple[int, int], drop_path: float, dropout: float) -> DonutSwinModel:
    config = DonutSwinConfig(
        image_size=size,
        patch_size=4,
        embed_dim=16,
        depths=[2, 3],
        num_heads=[2, 4],
        window_size=5,
        drop_path_rate=drop_path,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    torch.manual_seed(0)
    model = DonutSwinModel(config, add_pooling_layer=False).double().train()
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.3)
    return model


def pair(
    size: tuple[int, int] = (80, 80), *, drop_path: float = 0.0, dropout: float = 0.0
) -> tuple[DonutSwinModel, DonutSwinModel]:
    """An encoder in float64 as upstream computes it, and a copy whose blocks are chunked."""
    plain = copy.deepcopy(_upstream(size, drop_path, dropout))
    chunked = copy.deepcopy(plain)
    assert len(chunk_swin_blocks(chunked)) == 5
    return plain, chunked


def pixels(size: tuple[int, int] = (80, 80), pictures: int = 3, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(pictures, 3, *size, dtype=dtype, generator=torch.Generator().manual_seed(7))


def results(model: nn.Module, charts: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The states, and the gradients of all weights but the keys' biases, which are zero but for rounding."""
    torch.manual_seed(1)
    model.zero_grad()
    states = model(charts).last_hidden_state
    states.pow(3).mean().backward()
    named = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    return states.detach(), {name: value for name, value in named.items() if "key.bias" not in name}


def assert_same(model: nn.Module, expected: nn.Module, charts: torch.Tensor, bound: float) -> None:
    states, gradients = results(model, charts)
    true_states, true_gradients = results(expected, charts)
    assert relative_l2(states, true_states) <= bound
    assert gradients.keys() == true_gradients.keys()
    for name, gradient in gradients.items():
        assert relative_l2(gradient, true_gradients[name]) <= bound, name


@pytest.fixture
def calls(monkeypatch) -> list[int]:
    """One entry for every block that is computed in chunks."""
    found: list[int] = []
    true = layer.swin_block
    monkeypatch.setattr(layer, "swin_block", lambda *args: found.append(1) or true(*args))
    return found


@pytest.mark.parametrize("size", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("tokens", [25, 75, 2400])
def test_states_and_gradients_are_those_of_upstream(size, tokens, monkeypatch, calls):
    monkeypatch.setattr(block, "TOKENS_PER_CHUNK", tokens)
    plain, chunked = pair(size)
    assert_same(chunked, plain, pixels(size), 1e-12)
    assert len(calls) == 5
    with torch.no_grad():
        assert relative_l2(chunked(pixels(size)).last_hidden_state, plain(pixels(size)).last_hidden_state) <= 1e-12


def test_in_float32_they_differ_by_rounding_alone(calls):
    exact, _ = pair()
    plain, chunked = (model.float() for model in pair())
    true_states, true_gradients = results(exact, pixels())
    errors = []
    for model in (plain, chunked):
        states, gradients = results(model, pixels().float())
        vectors = (torch.cat([part.flatten() for part in parts.values()]) for parts in (gradients, true_gradients))
        errors.append((relative_l2(states, true_states), relative_l2(*vectors)))
    assert len(calls) == 5
    assert errors[1][0] <= max(1e-6, 1.5 * errors[0][0])
    assert errors[1][1] <= max(1e-6, 1.5 * errors[0][1])


@pytest.mark.parametrize("tokens", [75, 2400])
def test_drop_path_draws_what_upstream_draws(tokens, monkeypatch):
    monkeypatch.setattr(block, "TOKENS_PER_CHUNK", tokens)
    size = GRIDS["padded at both edges"]
    plain, chunked = pair(size, drop_path=0.5)
    assert_same(chunked, plain, pixels(size, pictures=6), 1e-12)
    with_it = results(chunked, pixels(size, pictures=6))[0]
    assert not torch.allclose(with_it, results(pair(size)[1], pixels(size, pictures=6))[0])


def test_no_draw_and_no_graph_where_nothing_is_trained(calls):
    plain, chunked = pair(drop_path=0.5, dropout=0.5)
    charts = pixels()
    state = torch.get_rng_state()
    with torch.no_grad():
        states = chunked.eval()(charts).last_hidden_state
        assert relative_l2(states, plain.eval()(charts).last_hidden_state) <= 1e-12
    assert torch.equal(torch.get_rng_state(), state)
    frozen = chunked.requires_grad_(False)(charts).last_hidden_state
    assert not frozen.requires_grad
    assert torch.equal(frozen, states)
    assert len(calls) == 10


def test_frozen_blocks_stay_without_gradients_and_half_frozen_ones_go_the_old_way(calls):
    models = pair()
    for model in models:
        for name, weight in model.named_parameters():
            weight.requires_grad_("downsample" in name or ("layers.1" in name and "blocks.0" not in name))
    assert_same(models[1], models[0], pixels(), 1e-12)
    assert len(calls) == 4  # the frozen block behind the merging, which is trained, has only its input's gradient
    for model in models:
        for name, weight in model.named_parameters():
            weight.requires_grad_("bias" in name)
    calls.clear()
    assert_same(models[1], models[0], pixels(), 0.0)
    assert calls == []


def test_training_after_inference_mode():
    """What is kept from a call under inference mode, or with another default device, must serve a training step."""
    plain, chunked = pair(size := GRIDS["padded in the second stage"])
    chunks_of.cache_clear()
    with torch.inference_mode():
        chunked(pixels(size))
    assert_same(chunked, plain, pixels(size), 1e-12)
    chunks_of.cache_clear()
    torch.set_default_device("meta")
    try:
        tokens = chunks_of(1, (10, 10), 5, 2, 1)[0].tokens
    finally:
        torch.set_default_device(None)
    assert tokens.device.type == "cpu"


def test_inputs_get_their_gradient_and_no_second_one():
    plain, chunked = pair()
    found = []
    for model in (plain, chunked):
        charts = pixels().requires_grad_()
        loss = model(charts).last_hidden_state.pow(3).mean()
        found.append(torch.autograd.grad(loss, charts, create_graph=model is chunked)[0])
    assert relative_l2(found[1].detach(), found[0]) <= 1e-12
    with pytest.raises(RuntimeError, match="once_differentiable"):
        found[1].sum().backward()


def kept_bytes(model: nn.Module) -> int:
    """What a forward pass keeps for the backward pass, in tensors with a storage of their own, weights left out."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    charts = pixels(pictures=4)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        states = model(charts).last_hidden_state
    assert states.requires_grad
    return sum(kept.values())


def test_half_is_kept_for_the_backward_pass():
    plain, chunked = pair()
    assert kept_bytes(chunked) <= 0.55 * kept_bytes(plain)


def _attention(query_scale, dtype=torch.float32):
    """Queries, keys, a position bias and a chunk of two images, some of whose windows are masked."""
    torch.manual_seed(0)
    (chunk,) = chunks_of(2, (20, 15), 5, 2, 24)
    assert 0 < len(chunk.masked) < len(chunk)
    query, key = torch.randn(2, len(chunk), 4, 25, 8, dtype=dtype)
    return query * query_scale, key, torch.randn(4, 25, 25, dtype=dtype), chunk


def _plain_scores(query, key, bias, chunk):
    scores = query @ key.transpose(2, 3) / 8**0.5 + bias
    scores[chunk.masked] += chunk.mask(scores.dtype)
    return scores


@pytest.mark.parametrize("query_scale", [1, 40], ids=["small scores", "scores that exceed the mask"])
def test_attention_is_the_softmax_without_subnormal_numbers(query_scale):
    *inputs, chunk = _attention(query_scale)
    expected = _plain_scores(*inputs, chunk).softmax(dim=-1)
    slow = (expected > 0) & (expected < torch.finfo(torch.float32).tiny)
    assert slow[chunk.masked].any()
    found = block._probabilities(*inputs, chunk).view_as(expected)
    assert not ((found > 0) & (found < torch.finfo(torch.float32).tiny))[chunk.masked].any()
    torch.testing.assert_close(found, expected, rtol=1e-4 * query_scale, atol=1e-35)
    # Scores of 100 and more let a masked token be seen, as upstream's mask does.
    apart = chunk.regions.unsqueeze(1) != chunk.regions.unsqueeze(2)
    seen = found[chunk.masked].transpose(0, 1)[:, apart].max()
    assert (seen > 0.5) == (query_scale == 40)


def test_attention_in_double_keeps_what_the_mask_leaves():
    *inputs, chunk = _attention(1, torch.float64)
    expected = _plain_scores(*inputs, chunk).softmax(dim=-1)
    found = block._probabilities(*inputs, chunk).view_as(expected)
    assert (found > 0).all()
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_nan_scores_propagate():
    query, key, bias, chunk = _attention(1)
    window = int(chunk.masked[0])
    query[window, 0, 0, 0] = torch.nan
    found = block._probabilities(query, key, bias, chunk).view(len(chunk), 4, 25, 25)
    assert found[window, 0, 0].isnan().all()
    assert found.isnan().sum() == 25


@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("grid", [(20, 15), (17, 13)], ids=["whole", "padded"])
def test_windows_and_masks_are_those_of_upstream(grid, shift):
    window, pictures = 5, 2
    upstream = DonutSwinLayer(DonutSwinConfig(window_size=window), 8, grid, 2, shift_size=shift)
    numbers = torch.arange(1, 1 + pictures * grid[0] * grid[1], dtype=torch.float64).view(pictures, *grid, 1)
    padded, _ = upstream.maybe_pad(numbers, *grid)
    height, width = padded.shape[1:3]
    windows = window_partition(padded.roll((-shift, -shift), (1, 2)), window).flatten(1)
    mask = upstream.get_attn_mask(height, width, torch.float64, torch.device("cpu"))
    mask = torch.zeros(len(windows), 25, 25).double() if mask is None else mask.repeat(pictures, 1, 1)
    chunks = chunks_of(pictures, grid, window, shift, 5)
    assert max(map(len, chunks)) <= 5
    assert [chunk.windows.start for chunk in chunks[1:]] == [chunk.windows.stop for chunk in chunks[:-1]]
    assert [chunk.rows.start for chunk in chunks[1:]] == [chunk.rows.stop for chunk in chunks[:-1]]
    assert (chunks[-1].windows.stop, chunks[-1].rows.stop) == (len(windows), numbers.numel())
    found, found_mask = torch.zeros_like(windows), torch.zeros_like(mask)
    for chunk in chunks:
        positions = torch.arange(len(chunk) * 25) if chunk.positions is None else chunk.positions
        found[chunk.windows].view(-1)[positions] = numbers.flatten()[chunk.tokens]
        found_mask[chunk.windows][chunk.masked] = chunk.mask(torch.float64).squeeze(1)
    assert torch.equal(found, windows)
    assert torch.equal(found_mask, mask)


def _parts(model: nn.Module, kind: type[nn.Module]) -> list[nn.Module]:
    return [part for part in model.modules() if isinstance(part, kind)]


def _lora(model: nn.Module) -> nn.Module:
    return peft.get_peft_model(model, peft.LoraConfig(target_modules=["query", "dense"]))


def _parametrized(model: nn.Module) -> nn.Module:
    for made in _parts(model, DonutSwinLayer):
        parametrize.register_parametrization(made.attention.self.query, "weight", nn.Hardtanh(-0.1, 0.1))
    return model


def _hooks(kind: str):
    def change(model: nn.Module) -> nn.Module:
        for part in _parts(model, DonutSwinSelfAttention):
            getattr(part, f"register_{kind}_hook")(lambda *args: None)
        return model

    return change


def _half(part: DonutSwinSelfAttention, *args, **kwargs) -> tuple:
    context, *rest = DonutSwinSelfAttention.forward(part, *args, **kwargs)
    return context / 2, *rest


class _HalfAttention(DonutSwinSelfAttention):
    forward = _half


def _own_attention(model: nn.Module) -> nn.Module:
    for part in _parts(model, DonutSwinSelfAttention):
        part.__class__ = _HalfAttention
    return model


def _replaced_forward(model: nn.Module) -> nn.Module:
    for part in _parts(model, DonutSwinSelfAttention):
        part.forward = partial(_half, part)
    return model


class _OtherDropPath(nn.Module):
    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return states / 2


def _own_drop_path(model: nn.Module) -> nn.Module:
    for made in _parts(model, DonutSwinLayer):
        made.drop_path = _OtherDropPath()
    return model


def _no_bias(model: nn.Module) -> nn.Module:
    for made in _parts(model, DonutSwinLayer):
        made.layernorm_after = nn.LayerNorm(made.layernorm_after.weight.shape, bias=False).double()
        made.attention.self.key = nn.Linear(*made.attention.self.key.weight.shape, bias=False).double()
        nn.init.ones_(made.attention.self.key.weight)
    return model


def _without_dropouts(model: nn.Module) -> nn.Module:
    for part in _parts(model, DonutSwinSelfAttention):
        part.dropout = nn.Identity()
    return model


def _mixed_precision(model: nn.Module) -> nn.Module:
    for made in _parts(model, DonutSwinLayer):
        made.attention.self.relative_position_bias_table.data = (
            made.attention.self.relative_position_bias_table.data.float()
        )
    return model


def _monte_carlo(model: nn.Module) -> nn.Module:
    model.eval()
    for part in _parts(model, nn.Dropout):
        part.train()
    return model


@pytest.mark.parametrize(
    ("change", "dropout"),
    [
        pytest.param(_lora, 0.0, id="LoRA"),
        pytest.param(_parametrized, 0.0, id="parametrization"),
        pytest.param(_hooks("forward"), 0.0, id="forward hooks"),
        pytest.param(_hooks("forward_pre"), 0.0, id="forward pre-hooks"),
        pytest.param(_hooks("full_backward"), 0.0, id="backward hooks"),
        pytest.param(_hooks("full_backward_pre"), 0.0, id="backward pre-hooks"),
        pytest.param(_own_attention, 0.0, id="another attention"),
        pytest.param(_replaced_forward, 0.0, id="another forward"),
        pytest.param(_own_drop_path, 0.0, id="another drop path"),
        pytest.param(_no_bias, 0.0, id="no biases"),
        pytest.param(_without_dropouts, 0.0, id="no dropout modules"),
        pytest.param(_mixed_precision, 0.0, id="two precisions"),
        pytest.param(lambda model: model, 0.1, id="dropout"),
        pytest.param(_monte_carlo, 0.1, id="dropout in evaluation"),
        pytest.param(lambda model: model.bfloat16(), 0.0, id="16 bits"),
    ],
)
def test_what_cannot_be_chunked_goes_the_old_way_bit_for_bit(change, dropout, calls):
    found = []
    for model in pair(dropout=dropout):
        torch.manual_seed(3)
        changed = change(model)
        charts = pixels(dtype=next(changed.parameters()).dtype)
        found.append(results(changed, charts))
    assert calls == []
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][1]
    assert all(torch.equal(gradient, found[1][1][name]) for name, gradient in found[0][1].items())


def test_drop_path_goes_by_its_own_mode(calls):
    plain, chunked = pair(drop_path=0.5)
    for model in (plain, chunked):
        model.eval()
        for part in _parts(model, DonutDropPath):
            part.train()
    assert_same(chunked, plain, pixels(), 1e-12)
    assert len(calls) == 5


def test_too_many_tokens_are_upstreams_error():
    _, chunked = pair()
    with pytest.raises(RuntimeError, match="invalid for input of size"):
        chunked.encoder.layers[0].blocks[0](torch.zeros(1, 401, 16).double(), (20, 20))


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "traced"])
def test_compiled_and_traced_blocks_go_the_old_way(compiled, calls):
    plain, chunked = pair()
    states = torch.randn(1, 400, 16, dtype=torch.float64)
    first = chunked.encoder.layers[0].blocks[1]
    if compiled:
        call = torch.compile(first, backend="aot_eager", fullgraph=True)
        output = call(states, (20, 20))[0]
    else:
        first.requires_grad_(False)  # tracing takes weights for constants
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            output = torch.jit.trace(lambda x: first(x, (20, 20))[0], states, check_trace=False)(states)
    assert calls == []
    assert relative_l2(output.detach(), plain.encoder.layers[0].blocks[1](states, (20, 20))[0].detach()) <= 1e-12


def test_attention_weights_autocast_and_other_activations_go_the_old_way(calls):
    plain, chunked = pair()
    asked = [model(pixels(), output_attentions=True) for model in (plain, chunked)]
    assert all(torch.equal(a, b) for a, b in zip(asked[0].attentions, asked[1].attentions, strict=True))
    with torch.autocast("cpu", torch.bfloat16):
        chunked.float()(pixels().float())
    for part in chunked.modules():
        if isinstance(part, DonutSwinLayer):
            part.intermediate.intermediate_act_fn = nn.ReLU()
    chunked(pixels().float())
    assert calls == []


def kinds(model: nn.Module) -> set[type]:
    return {type(part) for part in _parts(model, DonutSwinLayer)}


def test_it_is_turned_on_once_and_off_again(calls):
    plain, chunked = pair()
    assert kinds(chunked) == {ChunkedDonutSwinLayer}
    assert chunk_swin_blocks(chunked) == []
    assert chunk_swin_blocks(plain, False) == []
    assert plain.state_dict().keys() == chunked.state_dict().keys()
    assert len(chunk_swin_blocks(chunked, False)) == 5
    assert kinds(chunked) == {DonutSwinLayer}
    assert vars(chunked.encoder.layers[0].blocks[0]).keys() == vars(plain.encoder.layers[0].blocks[0]).keys()
    assert torch.equal(results(chunked, pixels())[0], results(plain, pixels())[0])
    assert calls == []
    assert chunk_swin_blocks(nn.Linear(2, 2)) == []


def test_a_context_gives_every_block_back_as_it_was():
    plain, chunked = pair()
    with chunked_swin_blocks(plain), chunked_swin_blocks(chunked):
        assert kinds(plain) == kinds(chunked) == {ChunkedDonutSwinLayer}
    assert kinds(plain) == {DonutSwinLayer}
    assert kinds(chunked) == {ChunkedDonutSwinLayer}
    with pytest.raises(RuntimeError, match="mine"), chunked_swin_blocks(plain):
        raise RuntimeError("mine")
    assert kinds(plain) == {DonutSwinLayer}


def test_a_subclass_with_a_forward_of_its_own_is_left_alone():
    class Own(DonutSwinLayer):
        def forward(self, *args, **kwargs):
            return super().forward(*args, **kwargs)

    plain, _ = pair()
    plain.encoder.layers[0].blocks[0].__class__ = Own
    assert len(chunk_swin_blocks(plain)) == 4
    assert kinds(plain) == {Own, ChunkedDonutSwinLayer}


def test_other_families_import_nothing_of_donut():
    code = (
        "import sys, torch; from chartqa_ft.models.swin import chunk_swin_blocks; "
        "chunk_swin_blocks(torch.nn.Linear(2, 2)); "
        "assert not any('modeling_donut' in name for name in sys.modules)"
    )
    run_prepared(["-c", code], by=of_others())


def test_copied_pickled_and_saved(tmp_path):
    plain, chunked = pair()
    states = results(chunked, pixels())[0]
    for copied in (copy.deepcopy(chunked), pickle.loads(pickle.dumps(chunked))):
        assert torch.equal(results(copied, pixels())[0], states)
    chunked.save_pretrained(tmp_path)
    loaded = DonutSwinModel.from_pretrained(tmp_path, add_pooling_layer=False, dtype=torch.float64).train()
    assert kinds(loaded) == {DonutSwinLayer}
    assert torch.equal(results(loaded, pixels())[0], results(plain, pixels())[0])


@pytest.mark.parametrize("chunk_first", [True, False])
def test_checkpointed_blocks_have_the_same_gradients(chunk_first, calls):
    plain, chunked = pair(drop_path=0.5)
    if not chunk_first:
        chunk_swin_blocks(chunked, False)
    checkpoint_blocks(chunked)
    chunk_swin_blocks(chunked)
    kept = results(chunked, pixels())
    calls.clear()
    checkpointing_enable(chunked)()
    states, gradients = results(chunked, pixels())
    assert len(calls) == 10
    assert torch.equal(states, kept[0])
    assert all(torch.equal(gradients[name], gradient) for name, gradient in kept[1].items())
    calls.clear()
    assert_same(chunked, plain, pixels(), 1e-12)
    assert len(calls) == 10
    assert len(chunk_swin_blocks(chunked, False)) == 5
    assert_same(chunked, plain, pixels(), 0.0)
    assert len(calls) == 10
    assert len(chunk_swin_blocks(chunked)) == 5
    assert chunk_swin_blocks(chunked) == []
    results(chunked, pixels())
    assert len(calls) == 20


def test_trainer_and_answers_are_the_same_on_and_off(tmp_path, calls):
    losses, answers = {}, {}
    for on in (True, False):
        calls.clear()
        model, processor = tiny(depths=(2, 2), window_size=4, init_std=0.3)
        made = trainer(tmp_path / str(on), model, max_steps=3, learning_rate=1e-2, chunk_encoder=on)
        made.train()
        assert bool(calls) is on
        losses[on] = [log["loss"] for log in made.state.log_history if "loss" in log]
        made.evaluate(drawn_charts())
        (file,) = (tmp_path / str(on) / "predictions").glob("*.jsonl")
        answers[on] = [row["prediction"] for row in read_predictions(file)]
        assert bool(calls) is on
        charts = drawn_charts()
        calls.clear()
        asked = answer_questions(model, processor, charts["image"], charts["question"], max_new_tokens=6)
        assert calls
        assert asked == answers[True]
        assert kinds(model) == {ChunkedDonutSwinLayer if on else DonutSwinLayer}  # what the trainer made them
    assert losses[True] == pytest.approx(losses[False], rel=1e-5)
    assert answers[True] == answers[False]
