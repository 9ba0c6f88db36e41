"""Keys and values of cross-attention, computed once per chart instead of once per beam of each row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import DynamicCache, EncoderDecoderCache, GenerationConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from ..cache_name import CACHE

OTHER_LOOPS = ("assistant_model", "custom_generate", CACHE)
"""Arguments of `model.generate` with which the caller provides the cache or the decoding loop."""


class SharedCrossCache(EncoderDecoderCache):
    """Cache of one call of `model.generate` whose cross-attention part is not reordered.

    All beams of a row attend to the same chart, while upstream's cache copies the cross-attention at each step.
    """

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        """Reorder the self-attention by `beam_idx`, int64 of shape (rows * beams,)."""
        self.self_attention_cache.reorder_cache(beam_idx)


def takes_cross_cache(config: GenerationConfig, arguments: Mapping[str, Any]) -> bool:
    """Return whether a call of `model.generate` can be given a cache.

    Args:
        config: settings of the call.
        arguments: what the user passes to `model.generate`.

    Example:
        >>> takes_cross_cache(GenerationConfig(use_cache=True), {})
        True
        >>> takes_cross_cache(GenerationConfig(use_cache=True), {"custom_generate": print})
        False
    """
    return bool(config.use_cache) and config.cache_implementation is None and not arguments.keys() & {*OTHER_LOOPS}


def shared_cross_cache(
    model: PreTrainedModel, states: torch.Tensor, chart_of_row: torch.LongTensor, *, beams: int, token: int
) -> SharedCrossCache | None:
    """Return a cache for `model.generate` that already holds the keys and values of cross-attention.

    Args:
        model: a `VisionEncoderDecoderModel`, unwrapped.
        states: encoder outputs, shape (charts, patches, hidden).
        chart_of_row: index of each row's chart, int64 of shape (rows,).
        beams: number of beams per row.
        token: any id of the decoder's vocabulary; the keys and values of charts do not depend on it.

    Returns:
        The cache, or `None` if it would save nothing or the decoder has no `EncoderDecoderCache`.

    Example:
        >>> from chartqa_ft.models.tiny import tiny_unichart
        >>> model, _ = tiny_unichart()
        >>> states = torch.zeros(1, 4, model.encoder.config.hidden_size)
        >>> cache = shared_cross_cache(model, states, torch.tensor([0, 0]), beams=3, token=2)
        >>> len(cache.cross_attention_cache.layers[0].keys)
        6
        >>> shared_cross_cache(model, states, torch.tensor([0]), beams=1, token=2) is None
        True
    """
    used, chart_of_row = chart_of_row.unique(return_inverse=True)
    if len(used) == len(chart_of_row) * beams:
        return None
    tokens = torch.full((len(used), 1), token, device=states.device)
    charts = BaseModelOutput(last_hidden_state=states.index_select(0, used))
    cache = model(encoder_outputs=charts, decoder_input_ids=tokens, use_cache=True, return_dict=True).get(CACHE)
    if type(cache) is not EncoderDecoderCache:
        return None
    config = model.config.get_text_config(decoder=True)
    index = chart_of_row.repeat_interleave(beams)
    cross_attention = DynamicCache(config=config)
    for number, layer in enumerate(cache.cross_attention_cache.layers):
        # Transformers may size the cache of MBart by the number of encoder layers in its config, which are not used.
        if layer.get_seq_length() > 0:
            cross_attention.update(layer.keys.index_select(0, index), layer.values.index_select(0, index), number)
    return SharedCrossCache(DynamicCache(config=config), cross_attention)
