"""Greedy search in which rows leave the batch when their answers end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from transformers.generation import GenerationMode

from .cache_name import CACHE

if TYPE_CHECKING:
    from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel, StoppingCriteriaList

_MASKS = ("attention_mask", "position_ids", "cache_position")


def takes_shrinking_search(config: GenerationConfig, arguments: Mapping[str, Any]) -> bool:
    """Return whether a call of `model.generate` can be given `shrinking_greedy_search` without changing its result.

    Args:
        config: settings of the call.
        arguments: what the user passes to `model.generate`. A logits processor, for instance, may count on the rows
            of a batch.

    Example:
        >>> from transformers import GenerationConfig
        >>> config = GenerationConfig(use_cache=True, num_beams=1, do_sample=False)
        >>> takes_shrinking_search(config, {}), takes_shrinking_search(config, {"logits_processor": [print]})
        (True, False)
    """
    return (
        bool(config.use_cache)
        and config.cache_implementation is None
        and config.get_generation_mode() == GenerationMode.GREEDY_SEARCH
        and getattr(config, "guidance_scale", None) in (None, 1.0)
        and config.repetition_penalty in (None, 1.0)  # it keeps the padding of each row
        and getattr(config, "watermarking_config", None) is None
        and getattr(config, "prefill_chunk_size", None) is None
        and not config.return_dict_in_generate
        and all(value is None or value is False for value in arguments.values())
    )


def shrinking_greedy_search(
    model: PreTrainedModel,
    input_ids: torch.LongTensor,
    *,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    **model_kwargs: Any,
) -> torch.LongTensor:
    """Generate by greedy search; a row that has ended takes no part in later steps.

    Pass it as `custom_generate` to `generate` of a decoder-only model, which prepares its arguments. Positions must
    count the tokens in the attention mask, and the model must keep nothing about rows but its cache.

    Args:
        model: a decoder-only model.
        input_ids: the prompts, int64 of shape (rows, length), padded so that all end in the last column.
        logits_processor: applied to the logits of the rows that go on, float32 of shape (rows, vocabulary).
        stopping_criteria: decide which rows have ended.
        generation_config: settings of the search.
        model_kwargs: mask, cache and images, as `generate` prepares them. The cache may hold the first columns.

    Returns:
        Prompts and answers, int64 of shape (rows, longest), padded on the right.
    """
    cache = model_kwargs.pop(CACHE)
    mask = model_kwargs.pop("attention_mask", None)
    if mask is None:
        mask = torch.ones_like(input_ids)
    inputs = {key: value for key, value in model_kwargs.items() if key not in _MASKS}
    prompts, rows = input_ids, torch.arange(len(input_ids), device=input_ids.device)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    seen = cache.get_seq_length()
    unseen, positions = input_ids[:, seen:], positions[:, seen:]
    ended: list[tuple[torch.Tensor, torch.Tensor]] = []
    while True:
        output = model(
            input_ids=unseen,
            attention_mask=mask,
            position_ids=positions,
            **inputs,
            **{CACHE: cache},
            return_dict=True,
        )
        # The charts are in the cache now.
        inputs = {key: inputs[key] for key in ("use_cache", "logits_to_keep") if key in inputs}
        scores = logits_processor(input_ids, output.logits[:, -1].float())
        tokens = scores.argmax(dim=-1, keepdim=True)
        input_ids = torch.cat([input_ids, tokens], dim=1)
        ends = stopping_criteria(input_ids, None)
        if ends.any():
            ended.append((rows[ends], input_ids[ends]))
            going = (~ends).nonzero().flatten()
            if not len(going):
                break
            cache.batch_select_indices(going)
            rows, input_ids, mask = rows[going], input_ids[going], mask[going]
            tokens, positions = tokens[going], positions[going]
        unseen, positions = tokens, positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
    padding = generation_config.pad_token_id
    longest = max(ids.shape[1] for _, ids in ended)
    joined = prompts.new_full((len(prompts), longest), 0 if padding is None else padding)
    for numbers, ids in ended:
        joined[numbers, : ids.shape[1]] = ids
    return joined
