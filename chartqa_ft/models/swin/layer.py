"""A layer that computes the blocks of a Donut encoder a few windows at a time where this gives the same result."""

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

_MODULES = {
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
"""The modules of a block, except its stochastic depth, as upstream creates them."""
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
"""Attributes with the hooks of a module; torch has no public way to list them."""


class ChunkedDonutSwinLayer(DonutSwinLayer):
    """A `DonutSwinLayer` that computes all its steps for a few windows before the next ones.

    It computes as its base class on other devices than a CPU, in 16 bits, while it is compiled or traced, with
    dropout, if attention weights are requested, if only some of its weights are trained, and if one of its modules is
    not upstream's (a LoRA or quantized layer) or has a hook.
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
            # The same random factor for each image as upstream.
            scale = self.drop_path(hidden_states.new_ones(len(hidden_states), 1, 1)).flatten()
        geometry = Geometry(
            grid=(input_dimensions[0], input_dimensions[1]),
            window_size=self.window_size,
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
            qkv_weight=torch.cat([linear.weight for linear in qkv]),
            qkv_bias=torch.cat([linear.bias for linear in qkv]),
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
            and self._is_unchanged()
            and self._trains_all_or_nothing(states)
            and all(self._is_plain(weight, states) for weight in self.parameters())
            and tuple(self.attention.self.window_size) == (self.window_size, self.window_size)
        )

    def _is_unchanged(self) -> bool:
        """Return whether all modules are upstream's, unmodified and without active dropout."""
        modules = {name: module for name, module in self.named_modules() if name}
        kinds = {name: type(module) for name, module in modules.items()}
        if kinds.pop("drop_path", None) not in (nn.Identity, DonutDropPath) or kinds != _MODULES:
            return False
        return (
            all(child.bias is not None for child in modules.values() if isinstance(child, (nn.Linear, nn.LayerNorm)))
            and not any(
                child.training and child.p > 0.0 for child in modules.values() if isinstance(child, nn.Dropout)
            )
            and self.intermediate.intermediate_act_fn.act is nn.functional.gelu
            and not any("forward" in vars(child) or _has_hooks(child) for child in modules.values())
        )

    def _trains_all_or_nothing(self, states: torch.Tensor) -> bool:
        """Return whether no or all weights are trained: otherwise most of the backward pass would be wasted."""
        trained = {weight.requires_grad for weight in self.parameters()}
        return not torch.is_grad_enabled() or trained == {True} or (trained == {False} and not states.requires_grad)

    @staticmethod
    def _is_plain(weight: torch.Tensor, states: torch.Tensor) -> bool:
        return type(weight) is nn.Parameter and weight.dtype == states.dtype and weight.device == states.device


def _has_hooks(module: nn.Module) -> bool:
    return any(getattr(module, hooks) for hooks in _HOOKS)


@cache
def _chunked(kind: type[DonutSwinLayer]) -> type[ChunkedDonutSwinLayer]:
    """Return the chunked subclass of `kind`; for upstream's class, one that can be pickled."""
    if kind is DonutSwinLayer:
        return ChunkedDonutSwinLayer
    return type(kind.__name__, (ChunkedDonutSwinLayer, kind), {"__doc__": kind.__doc__, "upstream": kind})


def set_chunked(module: nn.Module, enable: bool) -> bool:
    """Enable or disable chunking of a module if it is a block, and return whether that changed it."""
    kind = module.__class__
    if isinstance(module, ChunkedDonutSwinLayer):
        if module.chunks_windows is enable:
            return False
        if enable or kind is not _chunked(kind.upstream):
            module.chunks_windows = enable  # a user's subclass of ours
        else:
            module.__class__ = kind.upstream
        return True
    # A subclass with its own forward pass is left alone. Activation checkpointing wraps upstream's, hence `unwrap`.
    if enable and isinstance(module, DonutSwinLayer) and unwrap(kind.forward) is unwrap(DonutSwinLayer.forward):
        module.__class__ = _chunked(kind)
        return True
    return False
