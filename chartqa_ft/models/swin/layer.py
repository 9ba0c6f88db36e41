"""Lets the blocks of a Donut encoder be computed a few windows at a time, where that is the same."""

from __future__ import annotations

from functools import cache
from inspect import unwrap
from typing import ClassVar

import torch
from torch import nn
from transformers.activations import GELUActivation
from transformers.models.donut.modeling_donut_swin import (
    DonutDropPath,
    DonutSwinAttention,
    DonutSwinIntermediate,
    DonutSwinLayer,
    DonutSwinOutput,
    DonutSwinSelfAttention,
    DonutSwinSelfOutput,
)

from .block import Geometry, Weights, swin_block

PARTS = {
    "layernorm_before": nn.LayerNorm,
    "attention": DonutSwinAttention,
    "attention.self": DonutSwinSelfAttention,
    "attention.self.query": nn.Linear,
    "attention.self.key": nn.Linear,
    "attention.self.value": nn.Linear,
    "attention.self.dropout": nn.Dropout,
    "attention.output": DonutSwinSelfOutput,
    "attention.output.dense": nn.Linear,
    "attention.output.dropout": nn.Dropout,
    "layernorm_after": nn.LayerNorm,
    "intermediate": DonutSwinIntermediate,
    "intermediate.dense": nn.Linear,
    "intermediate.intermediate_act_fn": GELUActivation,
    "output": DonutSwinOutput,
    "output.dense": nn.Linear,
    "output.dropout": nn.Dropout,
}
"""The modules of a block but its stochastic depth, as upstream makes them."""
HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
"""Torch has no public way to ask for them."""


class ChunkedDonutSwinLayer(DonutSwinLayer):
    """A `DonutSwinLayer` that goes through all its steps with a few windows before it takes the next ones.

    It does as its base class does on other devices than a CPU, in 16 bits, while it is compiled or traced, with
    dropout, when attention weights are asked for, when only some of its weights are trained, and when a part of it is
    not what upstream put there (a LoRA layer, a quantized one) or somebody watches it by a hook.
    """

    upstream: ClassVar[type[DonutSwinLayer]] = DonutSwinLayer
    chunks_windows = True

    def forward(
        self,
        hidden_states: torch.Tensor,
        input_dimensions: tuple[int, int],
        output_attentions: bool | None = False,
        always_partition: bool | None = False,
    ) -> tuple[torch.Tensor, ...]:
        if not always_partition:
            self.set_shift_and_window_size(input_dimensions)
        if output_attentions or not self._can_chunk(hidden_states, input_dimensions):
            return super().forward(hidden_states, input_dimensions, output_attentions, always_partition)
        scale = None
        if self.drop_path.training and getattr(self.drop_path, "drop_prob", 0.0) > 0.0:
            # The draw of upstream, which multiplies each picture by a number of its own.
            scale = self.drop_path(hidden_states.new_ones(len(hidden_states), 1, 1)).flatten()
        geometry = Geometry(
            grid=tuple(input_dimensions),
            window=self.window_size,
            shift=self.shift_size,
            heads=self.attention.self.num_attention_heads,
            eps_before=self.layernorm_before.eps,
            eps_after=self.layernorm_after.eps,
        )
        return (swin_block(hidden_states, self._weights(), geometry, scale),)

    def _weights(self) -> Weights:
        attention = self.attention.self
        qkv = (attention.query, attention.key, attention.value)
        area = self.window_size**2
        position_bias = attention.relative_position_bias_table[attention.relative_position_index.flatten()]
        return Weights(
            norm_before_weight=self.layernorm_before.weight,
            norm_before_bias=self.layernorm_before.bias,
            qkv_weight=torch.cat([part.weight for part in qkv]),
            qkv_bias=torch.cat([part.bias for part in qkv]),
            position_bias=position_bias.view(area, area, -1).permute(2, 0, 1).contiguous(),
            project_weight=self.attention.output.dense.weight,
            project_bias=self.attention.output.dense.bias,
            norm_after_weight=self.layernorm_after.weight,
            norm_after_bias=self.layernorm_after.bias,
            expand_weight=self.intermediate.dense.weight,
            expand_bias=self.intermediate.dense.bias,
            contract_weight=self.output.dense.weight,
            contract_bias=self.output.dense.bias,
        )

    def _can_chunk(self, states: torch.Tensor, grid: tuple[int, int]) -> bool:
        return (
            self.chunks_windows
            and states.device.type == "cpu"
            and states.dtype in (torch.float32, torch.float64)
            and states.shape[1] == grid[0] * grid[1]
            and not torch.is_autocast_enabled("cpu")
            and not torch.compiler.is_compiling()
            and not torch.jit.is_tracing()
            and self._is_as_made()
            and self._trains_all_or_nothing(states)
            and all(self._is_plain(weight, states) for weight in self.parameters())
            and tuple(self.attention.self.window_size) == (self.window_size, self.window_size)
        )

    def _is_as_made(self) -> bool:
        """Whether all parts are upstream's, do what they do by themselves, and drop nothing."""
        parts = dict(self.named_modules())
        kinds = {name: type(part) for name, part in parts.items() if name}
        if kinds.pop("drop_path", None) not in (nn.Identity, DonutDropPath) or kinds != PARTS:
            return False
        own = [part for name, part in parts.items() if name]
        return (
            all(part.bias is not None for part in own if isinstance(part, (nn.Linear, nn.LayerNorm)))
            and not any(part.training and part.p > 0.0 for part in own if isinstance(part, nn.Dropout))
            and self.intermediate.intermediate_act_fn.act is nn.functional.gelu
            and not any("forward" in vars(part) or any(getattr(part, hooks) for hooks in HOOKS) for part in own)
        )

    def _trains_all_or_nothing(self, states: torch.Tensor) -> bool:
        """With some weights frozen, most of the backward pass would be for nothing."""
        trained = {weight.requires_grad for weight in self.parameters()}
        return not torch.is_grad_enabled() or trained == {True} or (trained == {False} and not states.requires_grad)

    @staticmethod
    def _is_plain(weight: torch.Tensor, states: torch.Tensor) -> bool:
        return type(weight) is nn.Parameter and weight.dtype == states.dtype and weight.device == states.device


@cache
def _chunked(kind: type[DonutSwinLayer]) -> type[ChunkedDonutSwinLayer]:
    """The class that chunks the blocks of `kind`: of upstream's a class that can be pickled."""
    if kind is DonutSwinLayer:
        return ChunkedDonutSwinLayer
    return type(kind.__name__, (ChunkedDonutSwinLayer, kind), {"__doc__": kind.__doc__, "upstream": kind})


def set_chunked(part: nn.Module, enable: bool) -> bool:
    """Let a block be chunked, or not any more. Returns whether that changed anything."""
    kind = type(part)
    if isinstance(part, ChunkedDonutSwinLayer):
        if part.chunks_windows is enable:
            return False
        if enable or kind is not _chunked(kind.upstream):
            part.chunks_windows = enable  # somebody made a subclass of ours
        else:
            part.__class__ = kind.upstream
        return True
    # A subclass with a forward pass of its own is left alone; activation checkpointing wraps the one that it finds.
    if enable and isinstance(part, DonutSwinLayer) and unwrap(kind.forward) is unwrap(DonutSwinLayer.forward):
        part.__class__ = _chunked(kind)
        return True
    return False
