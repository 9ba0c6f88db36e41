"""A Swin block, forward and backward, of which only a few windows are in work at a time.

Upstream computes a block for all tokens of all pictures, step by step: each of the dozen results between the steps is
a new tensor of up to four times the size of the block's input, and nearly all are kept for the backward pass. Here the
windows go through all steps in chunks whose results stay in the processor's cache. Kept are the block's input,
queries, keys and values, the sum after the attention and the hidden layer before its activation: 9 numbers for each of
the input's, where upstream keeps 19. What is dropped costs no matrix product with weights to compute again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from .windows import Chunk, chunks_of

TOKENS_PER_CHUNK = 2400
"""About as many tokens are in work at a time. Between 1,200 and 4,800 the time of a step does not depend on it."""


class Weights(NamedTuple):
    """The weights of a block in the layout of `torch.nn.functional.linear`, and its position bias."""

    norm_before_weight: torch.Tensor
    norm_before_bias: torch.Tensor
    qkv_weight: torch.Tensor
    """Of queries, keys and values, shape (3 x channels, channels)."""
    qkv_bias: torch.Tensor
    position_bias: torch.Tensor
    """Added to the scores of two places of a window, shape (heads, window area, window area)."""
    project_weight: torch.Tensor
    project_bias: torch.Tensor
    norm_after_weight: torch.Tensor
    norm_after_bias: torch.Tensor
    expand_weight: torch.Tensor
    """Of the hidden layer, shape (hidden, channels)."""
    expand_bias: torch.Tensor
    contract_weight: torch.Tensor
    contract_bias: torch.Tensor


class Geometry(NamedTuple):
    """What a block does beside its weights."""

    grid: tuple[int, int]
    """Height and width of the picture in tokens."""
    window: int
    shift: int
    heads: int
    eps_before: float
    eps_after: float

    def chunks(self, pictures: int) -> Sequence[Chunk]:
        return chunks_of(pictures, self.grid, self.window, self.shift, max(1, TOKENS_PER_CHUNK // self.window**2))


class Kept(NamedTuple):
    """What the backward pass needs of the forward pass."""

    qkv: torch.Tensor
    """Queries, keys and values, shape (3, windows of all pictures, heads, window area, channels of a head)."""
    attended: torch.Tensor
    """Input plus attention, in the order of the windows, shape (tokens of all pictures, channels)."""
    hidden: torch.Tensor
    """The hidden layer before its activation, in the same order, shape (tokens of all pictures, hidden)."""


def swin_block(
    states: torch.Tensor, weights: Weights, geometry: Geometry, attention_scale: torch.Tensor | None = None
) -> torch.Tensor:
    """The output of a Swin block: layer norm, attention within shifted windows, residual, layer norm, MLP with GELU,
    residual (Liu et al., 2021, equation 3).

    Args:
        states: floats of shape (pictures, tokens, channels), as the weights.
        weights: of the block.
        geometry: of the block.
        attention_scale: what the attention of every picture is multiplied with (stochastic depth), shape (pictures,).

    Returns:
        A tensor like `states`; differentiable once, by `states` and `weights`.
    """
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (states, *weights)):
        return _SwinBlock.apply(geometry, attention_scale, states, *weights)
    return _forward(states, weights, geometry, attention_scale, None)


class _SwinBlock(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        geometry: Geometry,
        attention_scale: torch.Tensor | None,
        states: torch.Tensor,
        *weights: torch.Tensor,
    ) -> torch.Tensor:
        named = Weights(*weights)
        kept = _room(states, named, geometry)
        output = _forward(states, named, geometry, attention_scale, kept)
        ctx.geometry, ctx.attention_scale = geometry, attention_scale
        ctx.save_for_backward(states, *kept, *weights)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        states, *tensors = ctx.saved_tensors
        split = len(Kept._fields)
        kept, weights = Kept(*tensors[:split]), Weights(*tensors[split:])
        return None, None, *_backward(gradient, states, weights, ctx.geometry, ctx.attention_scale, kept)


def _room(states: torch.Tensor, weights: Weights, geometry: Geometry) -> Kept:
    pictures, tokens, channels = states.shape
    windows = geometry.chunks(pictures)[-1].windows.stop
    return Kept(
        states.new_empty(3, windows, geometry.heads, geometry.window**2, channels // geometry.heads),
        states.new_empty(pictures * tokens, channels),
        states.new_empty(pictures * tokens, len(weights.expand_weight)),
    )


def _forward(
    states: torch.Tensor,
    weights: Weights,
    geometry: Geometry,
    attention_scale: torch.Tensor | None,
    kept: Kept | None,
) -> torch.Tensor:
    w, (pictures, length, channels) = weights, states.shape
    rows = states.reshape(-1, channels)
    output = torch.empty_like(rows)
    for chunk in geometry.chunks(pictures):
        before = rows.index_select(0, chunk.tokens)
        normed = F.layer_norm(before, (channels,), w.norm_before_weight, w.norm_before_bias, geometry.eps_before)
        qkv = _by_head(F.linear(normed, w.qkv_weight, w.qkv_bias), w.qkv_bias, chunk, geometry)
        qkv = qkv.contiguous() if kept is None else kept.qkv[:, chunk.windows].copy_(qkv)
        attended = torch.addmm(
            w.project_bias,
            _attend(*qkv, w.position_bias, chunk),
            w.project_weight.t(),
            out=torch.empty_like(before) if kept is None else kept.attended[chunk.rows],
        )
        if attention_scale is not None:
            attended.mul_(attention_scale[chunk.tokens // length].unsqueeze(1))
        attended.add_(before)
        normed = F.layer_norm(attended, (channels,), w.norm_after_weight, w.norm_after_bias, geometry.eps_after)
        hidden = torch.addmm(
            w.expand_bias,
            normed,
            w.expand_weight.t(),
            out=normed.new_empty(len(normed), len(w.expand_weight)) if kept is None else kept.hidden[chunk.rows],
        )
        after = torch.add(attended, w.contract_bias).addmm_(F.gelu(hidden), w.contract_weight.t())
        output.index_copy_(0, chunk.tokens, after)
    return output.view_as(states)


def _backward(
    gradient: torch.Tensor,
    states: torch.Tensor,
    weights: Weights,
    geometry: Geometry,
    attention_scale: torch.Tensor | None,
    kept: Kept,
) -> tuple[torch.Tensor, ...]:
    """The gradients by `states` and each of `weights`: by hand where weights are multiplied with; norms, activation
    and attention are computed again, so that autograd goes back through them."""
    w, (pictures, length, channels) = weights, states.shape
    rows, by_output = states.reshape(-1, channels), gradient.reshape(-1, channels)
    by_rows = torch.empty_like(rows)
    totals = Weights(*(torch.zeros_like(weight) for weight in weights))
    norm_before = _leaf(w.norm_before_weight), _leaf(w.norm_before_bias)
    norm_after = _leaf(w.norm_after_weight), _leaf(w.norm_after_bias)
    position_bias = _leaf(w.position_bias)
    for chunk in geometry.chunks(pictures):
        by_after = by_output.index_select(0, chunk.tokens)
        with torch.enable_grad():
            attended, hidden = _leaf(kept.attended[chunk.rows]), _leaf(kept.hidden[chunk.rows])
            active = F.gelu(hidden)
            normed = F.layer_norm(attended, (channels,), *norm_after, geometry.eps_after)
        by_active = _through(by_after, active, w.contract_weight, totals.contract_weight, totals.contract_bias)
        (by_hidden,) = torch.autograd.grad(active, hidden, by_active)
        by_normed = _through(by_hidden, normed, w.expand_weight, totals.expand_weight, totals.expand_bias)
        del active, by_active, by_hidden
        by_attended, *by_norm = torch.autograd.grad(normed, (attended, *norm_after), by_normed)
        _add((totals.norm_after_weight, totals.norm_after_bias), by_norm)
        by_attended.add_(by_after)

        with torch.enable_grad():
            qkv = [_leaf(part) for part in kept.qkv[:, chunk.windows]]
            context = _attend(*qkv, position_bias, chunk)
        by_project = by_attended
        if attention_scale is not None:
            by_project = by_attended * attention_scale[chunk.tokens // length].unsqueeze(1)
        by_context = _through(by_project, context, w.project_weight, totals.project_weight, totals.project_bias)
        *by_qkv, by_bias = torch.autograd.grad(context, (*qkv, position_bias), by_context)
        del context, by_context
        totals.position_bias.add_(by_bias)

        with torch.enable_grad():
            before = _leaf(rows.index_select(0, chunk.tokens))
            normed = F.layer_norm(before, (channels,), *norm_before, geometry.eps_before)
        by_places = torch.stack(by_qkv).permute(1, 3, 0, 2, 4).reshape(-1, 3 * channels)
        totals.qkv_bias.add_(by_places.sum(dim=0))  # padding has the bias alone
        by_normed = _through(_at_tokens(by_places, chunk), normed, w.qkv_weight, totals.qkv_weight)
        by_before, *by_norm = torch.autograd.grad(normed, (before, *norm_before), by_normed)
        _add((totals.norm_before_weight, totals.norm_before_bias), by_norm)
        by_rows.index_copy_(0, chunk.tokens, by_before.add_(by_attended))
    return by_rows.view_as(states), *totals


def _by_head(rows: torch.Tensor, bias: torch.Tensor, chunk: Chunk, geometry: Geometry) -> torch.Tensor:
    """Queries, keys and values of tokens, (tokens, 3 x channels), at their places in the windows, where padding has
    the bias alone: a view of shape (3, windows, heads, area, channels of a head)."""
    area = geometry.window**2
    if chunk.places is not None:
        rows = bias.repeat(len(chunk) * area, 1).index_copy_(0, chunk.places, rows)
    return rows.view(len(chunk), area, 3, geometry.heads, -1).permute(2, 0, 3, 1, 4)


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, position_bias: torch.Tensor, chunk: Chunk
) -> torch.Tensor:
    """Softmax attention within each window: (windows, heads, area, channels of a head) three times -> (tokens,
    channels) without padding."""
    windows, heads, area, size = query.shape
    bias = position_bias.expand(windows, -1, -1, -1)
    if len(chunk.torn):
        bias = bias.index_add(0, chunk.torn, chunk.mask(bias.dtype).expand(-1, heads, -1, -1))
    query, key, value = (part.reshape(windows * heads, area, size) for part in (query, key, value))
    scores = torch.baddbmm(
        bias.reshape(windows * heads, area, area), query, key.transpose(1, 2), alpha=1 / math.sqrt(size)
    )
    context = torch.bmm(scores.softmax(dim=-1), value)
    context = context.view(windows, heads, area, size).transpose(1, 2).reshape(windows * area, heads * size)
    return _at_tokens(context, chunk)


def _at_tokens(places: torch.Tensor, chunk: Chunk) -> torch.Tensor:
    """What stands at the tokens of some windows, (windows x area, ...) -> (tokens, ...)."""
    return places if chunk.places is None else places.index_select(0, chunk.places)


def _through(
    by_output: torch.Tensor,
    rows: torch.Tensor,
    weight: torch.Tensor,
    by_weight: torch.Tensor,
    by_bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """Back through `linear(rows, weight, bias)`: adds to the gradients of both and returns that of the rows."""
    if by_bias is not None:
        by_bias.add_(by_output.sum(dim=0))
    by_weight.addmm_(by_output.t(), rows.detach())
    return torch.mm(by_output, weight)


def _leaf(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().requires_grad_()


def _add(totals: Sequence[torch.Tensor], parts: Sequence[torch.Tensor]) -> None:
    for total, part in zip(totals, parts, strict=True):
        total.add_(part)
