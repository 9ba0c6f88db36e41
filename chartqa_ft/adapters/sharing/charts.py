"""Public forward hooks by which an encoder/decoder pair reads batches whose rows share charts."""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutput

_ATTACHED: WeakSet[nn.Module] = WeakSet()
"""Models whose encoder and decoder have our hooks: a second trainer must not add them again."""


def share_charts(model: nn.Module) -> None:
    """Let a `VisionEncoderDecoderModel` take `decoder_chart_index`: its encoder sees every chart once, its decoder
    gets one per row. Without that argument the model computes what it always did; a second call changes nothing."""
    if model not in _ATTACHED:
        _ATTACHED.add(model)
        model.decoder.register_forward_pre_hook(_spread_charts, with_kwargs=True)
        model.encoder.register_forward_hook(_flatten_grid)


def _spread_charts(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]] | None:
    """Forward pre-hook of the decoder: give every row the encoder states of its chart."""
    chart_index = kwargs.pop("chart_index", None)
    if chart_index is None:
        return None
    kwargs["encoder_hidden_states"] = kwargs["encoder_hidden_states"].index_select(0, chart_index)
    return args, kwargs


def as_sequence(states: torch.Tensor) -> torch.Tensor:
    """States of a convolutional encoder, (charts, hidden, height, width), as (charts, height x width, hidden)."""
    return states.flatten(2).transpose(1, 2) if states.ndim == 4 else states


def _flatten_grid(module: nn.Module, args: tuple, output: Any) -> Any:
    """Forward hook of the encoder: a convolutional one (ConvNeXt) returns a grid, which the cross-attention cannot
    read, and no `attentions`, which the pair's forward pass asks for. Other encoders keep their output as it is."""
    if isinstance(output, tuple):
        return (as_sequence(output[0]), *output[1:]) if output and output[0].ndim == 4 else None
    if output.last_hidden_state.ndim != 4:
        return None
    states = as_sequence(output.last_hidden_state)
    return BaseModelOutput(last_hidden_state=states, hidden_states=getattr(output, "hidden_states", None))
