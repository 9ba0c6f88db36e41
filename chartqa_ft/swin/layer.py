"""Lets the blocks of a Donut encoder be computed a few windows at a time, where that is the same."""

from __future__ import annotations

import torch
from torch import nn
from transformers.activations import GELUActivation
from transformers.models.donut.modeling_donut_swin import DonutSwinLayer

from .block import Geometry, Weights, swin_block


def chunk_swin_blocks(model: nn.Module, enable: bool = True) -> int:
    """Compute the blocks of a Donut encoder on a CPU a few windows at a time: half the memory of upstream's training
    step and less time, with the same values and gradients to float precision.

    The modules stay where they are, with their parameters and names; each gets a subclass of its class, for want of a
    public way. What a block cannot do so (see `ChunkedDonutSwinLayer`) it does as before. A second call does nothing.

    Args:
        model: any model; it has no such blocks unless its encoder is a Donut's.
        enable: `False`: they go upstream's way again.

    Returns:
        How many blocks have changed their way.
    """
    changed = 0
    for block in model.modules():
        if enable and type(block) is DonutSwinLayer:
            block.__class__ = ChunkedDonutSwinLayer
        elif not isinstance(block, ChunkedDonutSwinLayer) or block.chunks_windows is enable:
            continue
        block.chunks_windows = enable
        changed += 1
    return changed


class ChunkedDonutSwinLayer(DonutSwinLayer):
    """A `DonutSwinLayer` that goes through all its steps with a few windows before it takes the next ones.

    It does as its base class does on other devices than a CPU, in 16 bits, while it is compiled or traced, with
    dropout, when attention weights are asked for, and when a part of it is not what upstream put there (a LoRA layer,
    a quantized one) or somebody watches it by a hook.
    """

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
        if output_attentions or not self._can_chunk(hidden_states):
            return super().forward(hidden_states, input_dimensions, output_attentions, always_partition)
        scale = None
        if self.training and getattr(self.drop_path, "drop_prob", 0.0) > 0.0:
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

    def _can_chunk(self, states: torch.Tensor) -> bool:
        attention = self.attention.self
        linears = (
            attention.query,
            attention.key,
            attention.value,
            self.attention.output.dense,
            self.intermediate.dense,
            self.output.dense,
        )
        drops = (attention.dropout, self.attention.output.dropout, self.output.dropout)
        activation = self.intermediate.intermediate_act_fn
        parts = list(self.modules())[1:]
        return (
            self.chunks_windows
            and states.device.type == "cpu"
            and states.dtype in (torch.float32, torch.float64)
            and not torch.is_autocast_enabled("cpu")
            and not torch.compiler.is_compiling()
            and not torch.jit.is_tracing()
            and all(type(part) is nn.Linear and part.bias is not None for part in linears)
            and all(type(norm) is nn.LayerNorm for norm in (self.layernorm_before, self.layernorm_after))
            and all(weight.dtype == states.dtype for weight in self.parameters())
            and not (self.training and any(drop.p > 0.0 for drop in drops))
            and type(activation) is GELUActivation
            and activation.act is nn.functional.gelu
            and tuple(attention.window_size) == (self.window_size, self.window_size)
            # Torch has no public way to ask.
            and not any(part._forward_hooks or part._forward_pre_hooks or part._backward_hooks for part in parts)
        )
