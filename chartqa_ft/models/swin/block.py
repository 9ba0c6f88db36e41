"""The forward and backward pass of a Swin block, computed a few windows at a time.

Upstream computes a block step by step for all tokens of all images. Each of the dozen intermediate results is a new
tensor of up to four times the size of the block's input, and nearly all are saved for the backward pass. Here, chunks
of windows go through all steps, so that intermediate results stay in the processor's cache. Saved are the block's
input, the queries, keys and values, the sum after the attention, and the hidden layer before its activation: 9 numbers
per number of the input, where upstream saves 19. Recomputing the others needs no matrix product with weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from .windows import Chunk, chunks_of

TOKENS_PER_CHUNK = 2400
"""Approximate number of tokens in a chunk. Between 1,200 and 4,800, the time of a step does not depend on it."""


class Weights(NamedTuple):
    """The weights of a block, in the layout of `torch.nn.functional.linear`, and its position bias."""

    norm_before_weight: torch.Tensor
    norm_before_bias: torch.Tensor
    qkv_weight: torch.Tensor
    """Queries, keys and values, shape (3 x channels, channels)."""
    qkv_bias: torch.Tensor
    position_bias: torch.Tensor
    """Added to the scores of two positions in a window, shape (heads, area, area)."""
    project_weight: torch.Tensor
    project_bias: torch.Tensor
    norm_after_weight: torch.Tensor
    norm_after_bias: torch.Tensor
    expand_weight: torch.Tensor
    """The hidden layer of the MLP, shape (hidden, channels)."""
    expand_bias: torch.Tensor
    contract_weight: torch.Tensor
    contract_bias: torch.Tensor


class Geometry(NamedTuple):
    """The settings of a block besides its weights."""

    grid: tuple[int, int]
    """Height and width of the image in tokens."""
    window_size: int
    """Height and width of a window in tokens; its area is the square."""
    shift: int
    """Number of tokens that the image is rolled by before it is divided into windows."""
    heads: int
    eps_before: float
    eps_after: float

    def chunks(self, images: int) -> Sequence[Chunk]:
        """Return the chunks of windows of some images."""
        per_chunk = max(1, TOKENS_PER_CHUNK // self.window_size**2)
        return chunks_of(images, self.grid, self.window_size, self.shift, per_chunk)


class Saved(NamedTuple):
    """Intermediate results of the forward pass that the backward pass needs."""

    qkv: torch.Tensor
    """Queries, keys and values, shape (3, windows of all images, heads, area, channels of a head)."""
    attended: torch.Tensor
    """Input plus attention, in the order of the windows, shape (tokens of all images, channels)."""
    hidden: torch.Tensor
    """The hidden layer before its activation, in the same order, shape (tokens of all images, hidden)."""


def swin_block(
    states: torch.Tensor, weights: Weights, geometry: Geometry, attention_scale: torch.Tensor | None = None
) -> torch.Tensor:
    """Compute a Swin block (Liu et al., 2021, equation 3).

    It is layer norm, attention within shifted windows, residual, layer norm, MLP with GELU, residual.

    Args:
        states: The input of shape (images, tokens, channels), with the dtype of the weights.
        weights: The weights of the block.
        geometry: The settings of the block.
        attention_scale: Factor of the attention for every image (stochastic depth), shape (images,).

    Returns:
        A tensor with the shape and dtype of `states`; differentiable once, with respect to `states` and `weights`.
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
        saved = _allocate(states, named, geometry)
        output = _forward(states, named, geometry, attention_scale, saved)
        ctx.geometry, ctx.attention_scale = geometry, attention_scale
        ctx.save_for_backward(states, *saved, *weights)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        states, *tensors = ctx.saved_tensors
        number = len(Saved._fields)
        saved, weights = Saved(*tensors[:number]), Weights(*tensors[number:])
        return None, None, *_backward(gradient, states, weights, ctx.geometry, ctx.attention_scale, saved)


def _allocate(states: torch.Tensor, weights: Weights, geometry: Geometry) -> Saved:
    """Allocate the tensors that the forward pass fills for the backward pass."""
    images, tokens, channels = states.shape
    windows = geometry.chunks(images)[-1].windows.stop
    return Saved(
        states.new_empty(3, windows, geometry.heads, geometry.window_size**2, channels // geometry.heads),
        states.new_empty(images * tokens, channels),
        states.new_empty(images * tokens, len(weights.expand_weight)),
    )


def _forward(
    states: torch.Tensor,
    weights: Weights,
    geometry: Geometry,
    attention_scale: torch.Tensor | None,
    saved: Saved | None,
) -> torch.Tensor:
    w, (images, length, channels) = weights, states.shape
    rows = states.reshape(-1, channels)
    output = torch.empty_like(rows)
    for chunk in geometry.chunks(images):
        before = rows.index_select(0, chunk.tokens)
        normed = F.layer_norm(before, (channels,), w.norm_before_weight, w.norm_before_bias, geometry.eps_before)
        qkv = _by_head(F.linear(normed, w.qkv_weight, w.qkv_bias), w.qkv_bias, chunk, geometry)
        query, key, value = qkv.contiguous() if saved is None else saved.qkv[:, chunk.windows].copy_(qkv)
        context = torch.bmm(_probabilities(query, key, w.position_bias, chunk), value.flatten(0, 1))
        attended = torch.addmm(
            w.project_bias,
            _at_tokens(_merge_heads(context, geometry), chunk),
            w.project_weight.t(),
            out=torch.empty_like(before) if saved is None else saved.attended[chunk.rows],
        )
        if attention_scale is not None:
            attended.mul_(attention_scale[chunk.tokens // length].unsqueeze(1))
        attended.add_(before)
        normed = F.layer_norm(attended, (channels,), w.norm_after_weight, w.norm_after_bias, geometry.eps_after)
        hidden = torch.addmm(
            w.expand_bias,
            normed,
            w.expand_weight.t(),
            out=normed.new_empty(len(normed), len(w.expand_weight)) if saved is None else saved.hidden[chunk.rows],
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
    saved: Saved,
) -> tuple[torch.Tensor, ...]:
    """Return the gradients of `states` and each of `weights`.

    Products with weights and attention are differentiated by hand. Norms and activation are recomputed and
    differentiated by autograd.
    """
    w, (images, length, channels) = weights, states.shape
    rows, grad_output = states.reshape(-1, channels), gradient.reshape(-1, channels)
    grad_rows = torch.empty_like(rows)
    # The first chunk overwrites the gradients of matrices, so they are not zeroed.
    totals = Weights(*((torch.empty_like if weight.dim() == 2 else torch.zeros_like)(weight) for weight in weights))
    norm_before = _leaf(w.norm_before_weight), _leaf(w.norm_before_bias)
    norm_after = _leaf(w.norm_after_weight), _leaf(w.norm_after_bias)
    for number, chunk in enumerate(geometry.chunks(images)):
        backprop = partial(_backprop, add=number > 0)
        grad_after = grad_output.index_select(0, chunk.tokens)
        with torch.enable_grad():
            attended, hidden = _leaf(saved.attended[chunk.rows]), _leaf(saved.hidden[chunk.rows])
            active = F.gelu(hidden)
            normed = F.layer_norm(attended, (channels,), *norm_after, geometry.eps_after)
        grad_active = backprop(grad_after, active, w.contract_weight, totals.contract_weight, totals.contract_bias)
        (grad_hidden,) = torch.autograd.grad(active, hidden, grad_active)
        grad_normed = backprop(grad_hidden, normed, w.expand_weight, totals.expand_weight, totals.expand_bias)
        del active, grad_active, grad_hidden
        grad_attended, *grad_norm = torch.autograd.grad(normed, (attended, *norm_after), grad_normed)
        _add((totals.norm_after_weight, totals.norm_after_bias), grad_norm)
        grad_attended.add_(grad_after)

        query, key, value = saved.qkv[:, chunk.windows]
        probabilities = _probabilities(query, key, w.position_bias, chunk)
        context = torch.bmm(probabilities, value.flatten(0, 1))
        grad_project = grad_attended
        if attention_scale is not None:
            grad_project = grad_attended * attention_scale[chunk.tokens // length].unsqueeze(1)
        rows_context = _at_tokens(_merge_heads(context, geometry), chunk)
        grad_context = backprop(
            grad_project, rows_context, w.project_weight, totals.project_weight, totals.project_bias
        )
        grad_qkv = _backprop_attention(
            _split_heads(grad_context, chunk, geometry),
            context,
            probabilities,
            query,
            key,
            value,
            totals.position_bias,
        )
        del context, grad_context, probabilities, rows_context

        with torch.enable_grad():
            before = _leaf(rows.index_select(0, chunk.tokens))
            normed = F.layer_norm(before, (channels,), *norm_before, geometry.eps_before)
        grad_positions = grad_qkv.permute(1, 3, 0, 2, 4).reshape(-1, 3 * channels)
        totals.qkv_bias.add_(grad_positions.sum(dim=0))  # at padding, the value is the bias
        grad_normed = backprop(_at_tokens(grad_positions, chunk), normed, w.qkv_weight, totals.qkv_weight)
        grad_before, *grad_norm = torch.autograd.grad(normed, (before, *norm_before), grad_normed)
        _add((totals.norm_before_weight, totals.norm_before_bias), grad_norm)
        grad_rows.index_copy_(0, chunk.tokens, grad_before.add_(grad_attended))
    return grad_rows.view_as(states), *totals


def _by_head(rows: torch.Tensor, bias: torch.Tensor, chunk: Chunk, geometry: Geometry) -> torch.Tensor:
    """Arrange queries, keys and values by window and head; padding gets the bias.

    Args:
        rows: Shape (tokens, 3 x channels).
        bias: Shape (3 x channels,).
        chunk: The windows of the tokens.
        geometry: The settings of the block.

    Returns:
        A view of shape (3, windows, heads, area, channels of a head).
    """
    area = geometry.window_size**2
    if chunk.positions is not None:
        rows = bias.repeat(len(chunk) * area, 1).index_copy_(0, chunk.positions, rows)
    return rows.view(len(chunk), area, 3, geometry.heads, -1).permute(2, 0, 3, 1, 4)


def _probabilities(query: torch.Tensor, key: torch.Tensor, position_bias: torch.Tensor, chunk: Chunk) -> torch.Tensor:
    """Compute the softmax of the scores within each window, without subnormal numbers in masked windows.

    Args:
        query: Shape (windows, heads, area, channels of a head); `key` is the same.
        position_bias: Shape (heads, area, area).
        chunk: The windows.

    Returns:
        Shape (windows x heads, area, area).
    """
    windows, heads, area, size = query.shape
    scores = query.new_empty(windows * heads, area, area)
    query, key = query.flatten(0, 1), key.flatten(0, 1)
    torch.baddbmm(scores, query, key.transpose(1, 2), beta=0, alpha=1 / math.sqrt(size), out=scores)
    of_windows = scores.view(windows, heads, area, area).add_(position_bias)
    if len(chunk.masked):
        # Masked tokens get a probability of about exp(-100), which is subnormal in float32. It is too small to change
        # a sum, but Intel processors are about ten times slower with subnormal numbers. In masked windows,
        # probabilities that would be subnormal are set to 0.
        masked = of_windows.index_select(0, chunk.masked).add_(chunk.mask(scores.dtype))
        masked.sub_(masked.amax(dim=-1, keepdim=True))
        masked.masked_fill_(masked <= math.log(torch.finfo(scores.dtype).tiny * area), -math.inf)
        of_windows.index_copy_(0, chunk.masked, masked)
    torch.softmax(scores, dim=-1, out=scores)
    return scores


def _backprop_attention(
    grad_context: torch.Tensor,
    context: torch.Tensor,
    probabilities: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    grad_bias: torch.Tensor,
) -> torch.Tensor:
    """Differentiate attention within windows: add to the gradient of the position bias and return that of q, k and v.

    Args:
        grad_context: Shape (windows x heads, area, channels of a head), like `context`.
        probabilities: The result of `_probabilities`.
        query: Shape (windows, heads, area, channels of a head); `key` and `value` are the same.
        grad_bias: Shape (heads, area, area).

    Returns:
        Shape (3, windows, heads, area, channels of a head).
    """
    grad_qkv = query.new_empty(3, *query.shape)
    grad_query, grad_key, grad_value = grad_qkv.flatten(1, 2)
    query, key, value = (tensor.flatten(0, 1) for tensor in (query, key, value))
    torch.bmm(probabilities.transpose(1, 2), grad_context, out=grad_value)
    grad_scores = torch.bmm(grad_context, value.transpose(1, 2))
    # The sum of a row of probabilities x their gradients is that of context x its gradient (FlashAttention, Dao et
    # al., 2022, appendix B.2), which is cheaper to compute.
    grad_scores.sub_((context * grad_context).sum(dim=-1, keepdim=True)).mul_(probabilities)
    grad_bias.add_(grad_scores.view(-1, *grad_bias.shape).sum(dim=0))
    scale = 1 / math.sqrt(query.shape[-1])
    torch.baddbmm(grad_query, grad_scores, key, beta=0, alpha=scale, out=grad_query)
    torch.baddbmm(grad_key, grad_scores.transpose(1, 2), query, beta=0, alpha=scale, out=grad_key)
    return grad_qkv


def _merge_heads(values: torch.Tensor, geometry: Geometry) -> torch.Tensor:
    """Put the heads of a position side by side: (windows x heads, area, size) -> (windows x area, heads x size)."""
    _, area, size = values.shape
    return values.view(-1, geometry.heads, area, size).transpose(1, 2).reshape(-1, geometry.heads * size)


def _split_heads(rows: torch.Tensor, chunk: Chunk, geometry: Geometry) -> torch.Tensor:
    """Undo `_merge_heads` for the values of tokens; padding gets zeros."""
    area = geometry.window_size**2
    if chunk.positions is not None:
        rows = rows.new_zeros(len(chunk) * area, rows.shape[1]).index_copy_(0, chunk.positions, rows)
    return rows.view(len(chunk), area, geometry.heads, -1).transpose(1, 2).flatten(0, 1)


def _at_tokens(values: torch.Tensor, chunk: Chunk) -> torch.Tensor:
    """Select the values at tokens, without padding: (windows x area, ...) -> (tokens, ...)."""
    return values if chunk.positions is None else values.index_select(0, chunk.positions)


def _backprop(
    grad_output: torch.Tensor,
    rows: torch.Tensor,
    weight: torch.Tensor,
    grad_weight: torch.Tensor,
    grad_bias: torch.Tensor | None = None,
    *,
    add: bool = True,
) -> torch.Tensor:
    """Differentiate `linear(rows, weight, bias)`: add to the gradients of both and return that of the rows.

    With `add=False`, the gradient of the weight is overwritten; that of the bias is still added to.
    """
    if grad_bias is not None:
        grad_bias.add_(grad_output.sum(dim=0))
    grad_weight.addmm_(grad_output.t(), rows.detach(), beta=int(add))
    return torch.mm(grad_output, weight)


def _leaf(tensor: torch.Tensor) -> torch.Tensor:
    """Return the same values as the start of a new graph."""
    return tensor.detach().requires_grad_()


def _add(totals: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor]) -> None:
    for total, gradient in zip(totals, gradients, strict=True):
        total.add_(gradient)
