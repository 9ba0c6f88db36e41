"""Keys and values of cross-attention to charts, computed once per chart instead of once per beam of each row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import DynamicCache, EncoderDecoderCache, GenerationConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

OTHER_LOOPS = ("assistant_model", "custom_generate", "past_key_values")
"""Arguments of `model.generate` with which the cache is handled elsewhere."""


class SharedCrossCache(EncoderDecoderCache):
    """Cache of one call of `model.generate` whose cross-attention is not reordered: all beams of a row have the same
    chart. Upstream's cache copies it at every step."""

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        self.self_attention_cache.reorder_cache(beam_idx)


def takes_cross_cache(config: GenerationConfig, arguments: Mapping[str, Any]) -> bool:
    """Return whether a cache can be passed to `model.generate` with this config and these arguments of the user.

    Example:
        >>> takes_cross_cache(GenerationConfig(use_cache=True), {})
        True
        >>> takes_cross_cache(GenerationConfig(use_cache=True), {"assistant_model": None})
        False
    """
    return bool(config.use_cache) and config.cache_implementation is None and not arguments.keys() & {*OTHER_LOOPS}


def shared_cross_cache(
    model: PreTrainedModel, states: torch.Tensor, chart_of_row: torch.LongTensor, *, beams: int, token: int
) -> SharedCrossCache | None:
    """Return a cache for `model.generate` that already holds the keys and values of the charts.

    Args:
        model: A `VisionEncoderDecoderModel`, unwrapped.
        states: Encoder states of the charts, shape (charts, patches, hidden).
        chart_of_row: Index of each row's chart, int64 of shape (rows,).
        beams: Number of beams of each row.
        token: Any id of the vocabulary: keys and values of charts do not depend on it.

    Returns:
        The cache, or `None` if it would save nothing or the decoder has no separate cache for cross-attention.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> model, _ = tiny_unichart("test")
        >>> states, charts = torch.zeros(1, 9, 32), torch.tensor([0, 0])
        >>> shared_cross_cache(model, states, charts, beams=1, token=0).cross_attention_cache.layers[0].keys.shape[0]
        2
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
        # transformers may size the cache of MBart by the layers of an encoder that does not exist.
        if layer.get_seq_length() > 0:
            looked.update(layer.keys.index_select(0, index), layer.values.index_select(0, index), number)
    return SharedCrossCache(DynamicCache(config=config), looked)
