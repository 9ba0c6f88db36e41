"""The generation config of an answer, and the arguments of `generate` that a user may pass."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn
from transformers import GenerationConfig, GenerationMixin

OWN_ARGUMENTS = ("max_length", "num_return_sequences", "return_dict_in_generate", "generation_config", "inputs")
"""Arguments of `model.generate` that users cannot pass, since they would change the format of the answers."""

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
    "min_length": 0,
    "min_new_tokens": None,
}
"""Settings with which generation selects the most likely tokens."""


def split_settings(model: nn.Module, kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split the arguments of a user into (fields of the generation config, arguments of `model.generate`).

    Raises:
        TypeError: An argument is neither of the two.
        ValueError: An argument would change the format of the answers.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> model, processor = tiny_unichart("test")
        >>> split_settings(model, {"num_beams": 4, "logits_processor": None})
        ({'num_beams': 4}, {'logits_processor': None})
    """
    for name in OWN_ARGUMENTS:
        neutral = (1,) if name == "num_return_sequences" else (None, False)
        if name in kwargs and kwargs[name] not in neutral:
            raise ValueError(
                f"generate() takes no {name}={kwargs[name]!r}: every question gets one answer, as token ids of at "
                "most max_new_tokens; pass fields of the generation config as separate arguments"
            )
    # A model with its own `generate` (KOSMOS-2) passes on other arguments to that of transformers.
    known = {*inspect.signature(GenerationMixin.generate).parameters, *inspect.signature(model.generate).parameters}
    fields = GenerationConfig().to_dict()
    unknown = sorted(set(kwargs) - set(known) - set(fields))
    if unknown:
        raise TypeError(
            f"generate() got unknown arguments: {', '.join(unknown)}. Known are the fields of "
            "transformers.GenerationConfig, such as num_beams, and arguments of model.generate, such as "
            "logits_processor"
        )
    settings = {name: value for name, value in kwargs.items() if name not in known and name not in OWN_ARGUMENTS}
    return settings, {name: value for name, value in kwargs.items() if name in known and name not in OWN_ARGUMENTS}


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
    """Return the generation config of the model with the settings of one call.

    Sampling and penalties, which many chat checkpoints include, are disabled: with them, answers differ from those
    that the loss trains (Florence-2's ban on repeated trigrams breaks "20202020", Qwen's penalty of 1.05 shifts all
    logits). As in the official recipe of UniChart, beam search stops as soon as enough beams are finished, and `<unk>`
    is never generated.

    Args:
        model: The unwrapped model.
        max_new_tokens: Maximum length of an answer in tokens.
        num_beams: Number of beams.
        pad_token_id: Id that pads answers.
        eos_token_ids: Ids that end an answer.
        unknown: Id of a token that is never generated, or `None`.
        settings: Fields of the config passed by the user; they take precedence.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> model, processor = tiny_unichart("test")
        >>> ids = {"pad_token_id": 1, "eos_token_ids": {2}, "unknown": 3}
        >>> config = answer_config(model, max_new_tokens=8, num_beams=4, settings={"top_k": 5}, **ids)
        >>> config.num_beams, config.early_stopping, config.bad_words_ids, config.top_k
        (4, True, [[3]], 5)
    """
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
    if unknown is not None and unknown not in eos:
        config.bad_words_ids = [*(config.bad_words_ids or []), [unknown]]
    return config
