"""Settings of generation: what a user passes to `generate`, and what the model's own settings become."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn
from transformers import GenerationConfig

from .generation_checks import check_arguments, check_values

PLAIN: dict[str, Any] = {
    "do_sample": False,
    "temperature": None,
    "top_p": None,
    "top_k": None,
    "min_p": None,
    "typical_p": None,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "length_penalty": 1.0,
    "min_length": None,
    "min_new_tokens": None,
    "penalty_alpha": None,
    "dola_layers": None,
    "prompt_lookup_num_tokens": None,
    "assistant_early_exit": None,
    "use_mtp": False,
    "num_beam_groups": None,
    "diversity_penalty": None,
}
"""Settings of plain greedy or beam search, without sampling, penalties or another way of decoding."""
_LENGTHS = ("max_length", "min_length", "num_return_sequences", "return_dict_in_generate")
_OWN = ("generation_config", "inputs")
"""Arguments that this library sets; a user may pass what changes nothing."""


def split_settings(model: nn.Module, kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a user's arguments of `generate` into settings of generation and other arguments.

    Args:
        model: an unwrapped model.
        kwargs: what the user passed.

    Returns:
        (fields of the generation config, arguments of `model.generate`)

    Raises:
        TypeError: `model.generate` does not know an argument, or it is of a wrong type.
        ValueError: an argument would change the shape or the type of the result, cannot work, or would have no effect.

    Example:
        >>> from chartqa_ft.models.tiny import tiny_unichart
        >>> model, _ = tiny_unichart()
        >>> split_settings(model, {"length_penalty": 2.0, "logits_processor": None})
        ({'length_penalty': 2.0}, {'logits_processor': None})
    """
    known = check_arguments(model, kwargs)
    settings = {name: value for name, value in kwargs.items() if name not in known and name not in _LENGTHS}
    return settings, {name: value for name, value in kwargs.items() if name in known and name not in _OWN}


def answer_config(
    model: nn.Module,
    *,
    max_new_tokens: int,
    num_beams: int,
    pad_token_id: int,
    eos_token_ids: Iterable[int],
    unknown: int | None,
    settings: Mapping[str, Any],
) -> GenerationConfig:
    """Return the model's own generation settings, updated with those of one call.

    Sampling and penalties, which many chat checkpoints set, are turned off, since they lead to other answers than
    those the loss trained: Florence-2's ban on repeated trigrams breaks "20202020", and Qwen's penalty of 1.05 shifts
    every logit. As in the official recipe of UniChart, beam search ends as soon as enough beams are finished, and
    `<unk>` is never generated.

    Args:
        model: an unwrapped model; its `generation_config` is not changed.
        max_new_tokens: longest answer in tokens.
        num_beams: number of beams; 1 is greedy search.
        pad_token_id: id of the padding token.
        eos_token_ids: ids that end an answer.
        unknown: id of the token that no answer may contain, if there is one.
        settings: fields of the config that a user passed; they take precedence.

    Example:
        >>> from chartqa_ft.models.tiny import tiny_unichart
        >>> model, _ = tiny_unichart()
        >>> ids = {"pad_token_id": 1, "eos_token_ids": {2}, "unknown": 3}
        >>> config = answer_config(model, max_new_tokens=8, num_beams=4, settings={"length_penalty": 0.5}, **ids)
        >>> config.early_stopping, config.length_penalty, config.bad_words_ids
        (True, 0.5, [[3]])
    """
    check_values({"max_new_tokens": max_new_tokens, **settings})
    eos = sorted(eos_token_ids)
    config = copy.deepcopy(model.generation_config)
    config.update(
        **{
            "max_length": None,
            "max_new_tokens": max_new_tokens,
            "num_beams": num_beams,
            "num_return_sequences": 1,
            "return_dict_in_generate": False,
            **PLAIN,
            "early_stopping": num_beams > 1,
            "use_cache": True,
            "pad_token_id": pad_token_id,
            "eos_token_id": eos,
            **settings,
        }
    )
    watermark = config.watermarking_config
    if isinstance(watermark, dict):  # the constructor takes a dict, but `update` does not
        config.watermarking_config = GenerationConfig(watermarking_config=watermark).watermarking_config
    if unknown is not None and unknown not in eos:
        config.bad_words_ids = [*(config.bad_words_ids or []), [unknown]]
    return config


@contextmanager
def only_settings(model: nn.Module, config: GenerationConfig) -> Iterator[None]:
    """Let `config` alone decide how a model generates within the block.

    `model.generate` fills fields of its config that are `None` from the model's own config. It warns in every call if
    that gives two lengths, such as the `max_length` that most checkpoints store beside our `max_new_tokens`, and of
    settings of sampling that greedy search does not read.

    Args:
        model: an unwrapped model. Parts of it may have generation settings of their own.
        config: the config that `generate` is called with.

    Example:
        >>> from chartqa_ft.models.tiny import tiny_unichart
        >>> model, _ = tiny_unichart()
        >>> with only_settings(model, GenerationConfig(max_new_tokens=3)):
        ...     model.generation_config.max_new_tokens
        3
        >>> model.generation_config.max_new_tokens == 3
        False
    """
    own = [
        (module, module.generation_config)
        for module in model.modules()
        if isinstance(vars(module).get("generation_config"), GenerationConfig)
    ]
    for module, _ in own:
        module.generation_config = config  # type: ignore[assignment]
    try:
        yield
    finally:
        for module, before in own:
            module.generation_config = before
