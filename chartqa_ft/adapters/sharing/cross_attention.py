"""Keys and values by which a decoder looks at charts, computed once per chart and not once per beam of every row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import DynamicCache, EncoderDecoderCache, GenerationConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

OTHER_LOOPS = ("assistant_model", "custom_generate", "past_key_values")
"""Arguments of `model.generate` with which somebody else takes care of the cache."""


class SharedCrossCache(EncoderDecoderCache):
    """The cache of one call of `model.generate` in which no search moves the cross-attention: all beams of a row look
    at the same chart. Upstream's cache copies it at every step."""

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        self.self_attention_cache.reorder_cache(beam_idx)


def takes_cross_cache(config: GenerationConfig, arguments: Mapping[str, Any]) -> bool:
    """Whether a call of `model.generate` with these settings and user's arguments can be given a cache."""
    return bool(config.use_cache) and config.cache_implementation is None and not arguments.keys() & {*OTHER_LOOPS}


def shared_cross_cache(
    model: PreTrainedModel, states: torch.Tensor, chart_of_row: torch.LongTensor, *, beams: int, token: int
) -> SharedCrossCache | None:
    """A cache for `model.generate` in which the decoder has looked at the charts already.

    Args:
        model: a `VisionEncoderDecoderModel`, unwrapped.
        states: what the encoder made of the charts, shape (charts, patches, hidden).
        chart_of_row: the chart of every row, int64 of shape (rows,).
        beams: how many beams each row will have.
        token: any id that the decoder knows: keys and values of charts do not depend on it.

    Returns:
        `None` where it would save nothing, or the decoder keeps no cache that is split into both kinds of attention.
    """
    used, chart_of_row = chart_of_row.unique(return_inverse=True)
    if len(used) == len(chart_of_row) * beams:
        return None
    tokens = torch.full((len(used), 1), token, device=states.device)
    charts = BaseModelOutput(last_hidden_state=states.index_select(0, used))
    cache = model(encoder_outputs=charts, decoder_input_ids=tokens, use_cache=True, return_dict=True).past_key_values
    if type(cache) is not EncoderDecoderCache:
        return None
    config = model.config.get_text_config(decoder=True)
    index = chart_of_row.repeat_interleave(beams)
    looked = DynamicCache(config=config)
    for number, layer in enumerate(cache.cross_attention_cache.layers):
        # Transformers may size the cache of MBart by the layers of an encoder that is not there.
        if layer.get_seq_length() > 0:
            looked.update(layer.keys.index_select(0, index), layer.values.index_select(0, index), number)
    return SharedCrossCache(DynamicCache(config=config), looked)
