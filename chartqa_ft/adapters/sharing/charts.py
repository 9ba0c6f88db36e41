"""Public forward hooks that let an encoder/decoder pair process batches in which rows share charts."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers.modeling_outputs import BaseModelOutput

_ATTACHED: WeakKeyDictionary[nn.Module, RemovableHandle] = WeakKeyDictionary()
"""Models that were given the hooks, with the first of them: a second trainer must not add them again."""


def share_charts(model: nn.Module) -> None:
    """Let a `VisionEncoderDecoderModel` accept `decoder_chart_index`: the encoder gets each chart once, the decoder
    one per row.

    Without that argument the output of the model does not change. A second call has no effect.

    Example:
        >>> from PIL import Image
        >>> from chartqa_ft import adapter_for, tiny_unichart
        >>> model, processor = tiny_unichart("test")
        >>> share_charts(model)
        >>> chart = Image.new("RGB", (96, 96), "white")
        >>> records = [{"image": chart, "question": text, "answer": "3"} for text in ("How much?", "Is it red?")]
        >>> batch = adapter_for(model, processor).encode(records)
        >>> batch["pixel_values"] = batch["pixel_values"][:1]
        >>> model(**batch, decoder_chart_index=torch.tensor([0, 0])).logits.shape[0]
        2
    """
    if not is_registered(_ATTACHED.get(model)):
        _ATTACHED[model] = model.decoder.register_forward_pre_hook(_spread_charts, with_kwargs=True)
        model.encoder.register_forward_hook(_flatten_grid)


def is_registered(handle: RemovableHandle | None) -> bool:
    """Return whether a hook is still in place: a model that is restored to an earlier state loses later ones.

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> handle = layer.register_forward_hook(print)
        >>> before = is_registered(handle)
        >>> layer._forward_hooks.clear()
        >>> before, is_registered(handle)
        (True, False)
    """
    return handle is not None and handle.id in (handle.hooks_dict_ref() or {})


def _spread_charts(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]] | None:
    """Forward pre-hook of the decoder: give each row the encoder states of its chart."""
    chart_index = kwargs.pop("chart_index", None)
    if chart_index is None:
        return None
    kwargs["encoder_hidden_states"] = kwargs["encoder_hidden_states"].index_select(0, chart_index)
    return args, kwargs


def as_sequence(states: torch.Tensor) -> torch.Tensor:
    """Reshape states of a convolutional encoder, (charts, hidden, height, width), to (charts, height x width, hidden).

    States that are a sequence are returned as they are.

    Example:
        >>> as_sequence(torch.zeros(2, 8, 3, 4)).shape
        torch.Size([2, 12, 8])
    """
    return states.flatten(2).transpose(1, 2) if states.ndim == 4 else states


def _flatten_grid(module: nn.Module, args: tuple, output: Any) -> Any:
    """Forward hook of the encoder: return the output of a convolutional one (ConvNeXt) as a sequence.

    It returns a grid, which cross-attention cannot process, and no `attentions`, which the forward pass of the pair
    reads. The output of other encoders is not changed.
    """
    if isinstance(output, tuple):
        return (as_sequence(output[0]), *output[1:]) if output and output[0].ndim == 4 else None
    if output.last_hidden_state.ndim != 4:
        return None
    states = as_sequence(output.last_hidden_state)
    return BaseModelOutput(last_hidden_state=states, hidden_states=getattr(output, "hidden_states", None))
