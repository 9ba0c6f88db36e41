"""Attention within the windows of a Donut encoder by `scaled_dot_product_attention`, which is fused on GPUs."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn
from transformers.models.donut.modeling_donut_swin import DonutSwinSelfAttention


class SdpaDonutSwinSelfAttention(DonutSwinSelfAttention):
    """A `DonutSwinSelfAttention` that passes its position bias to the kernel as a mask.

    Upstream writes the scores of all windows to memory, up to four times each. It computes as its base class with
    active dropout, if attention weights are requested, and if the position bias needs a gradient while queries, keys
    or values do not: there the memory-efficient kernel reads memory that is not its own
    (https://github.com/pytorch/pytorch/issues/148476).
    """

    upstream: ClassVar[type[DonutSwinSelfAttention]] = DonutSwinSelfAttention

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        output_attentions: bool | None = False,
    ) -> tuple[torch.Tensor, ...]:
        if output_attentions or (self.dropout.training and self.dropout.p > 0.0):
            return super().forward(hidden_states, attention_mask, output_attentions)
        query, key, value = self.query(hidden_states), self.key(hidden_states), self.value(hidden_states)
        needs_gradient = torch.is_grad_enabled() and self.relative_position_bias_table.requires_grad
        if needs_gradient and not all(tensor.requires_grad for tensor in (query, key, value)):
            return super().forward(hidden_states, attention_mask, output_attentions)
        windows, area, channels = hidden_states.shape
        heads, size = self.num_attention_heads, self.attention_head_size
        bias = self.relative_position_bias_table[self.relative_position_index.view(-1)]
        bias = bias.view(area, area, heads).permute(2, 0, 1).unsqueeze(0)
        if attention_mask is not None:
            bias = bias + attention_mask.unsqueeze(1)
        # The windows of an image that have masks of their own count as heads, so that images share the mask in memory.
        kinds = len(bias)
        bias = bias.reshape(1, kinds * heads, area, area).to(query.dtype)
        query, key, value = (
            tensor.view(windows // kinds, kinds, area, heads, size)
            .transpose(2, 3)
            .reshape(windows // kinds, kinds * heads, area, size)
            for tensor in (query, key, value)
        )
        context = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.expand(len(query), -1, -1, -1))
        context = context.view(windows // kinds, kinds, heads, area, size).transpose(2, 3)
        return (context.reshape(windows, area, channels),)


def set_sdpa(module: nn.Module, enable: bool) -> bool:
    """Enable or disable the fused kernels of a module if it is such an attention; return whether that changed it."""
    if enable and type(module) is DonutSwinSelfAttention:
        module.__class__ = SdpaDonutSwinSelfAttention
        return True
    if not enable and type(module) is SdpaDonutSwinSelfAttention:
        module.__class__ = SdpaDonutSwinSelfAttention.upstream
        return True
    return False
