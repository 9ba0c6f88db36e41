"""What a user passes to `generate`: settings of the model's generation, or objects that take part in it."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn
from transformers import GenerationConfig, GenerationMixin

OWN_ARGUMENTS = ("max_length", "num_return_sequences", "return_dict_in_generate", "generation_config", "inputs")
"""Arguments of `model.generate` that would change what an answer is."""


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
"""Settings by which generation takes the tokens that the model finds likeliest."""


def split_settings(model: nn.Module, kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a user passed to `generate`: (fields of the generation config, arguments of `model.generate`)."""
    for name in OWN_ARGUMENTS:
        neutral = (1,) if name == "num_return_sequences" else (None, False)
        if name in kwargs and kwargs[name] not in neutral:
            raise ValueError(
                f"generate() takes no {name}={kwargs[name]!r}: every question gets one answer, as token ids of at "
                "most max_new_tokens; pass settings one by one"
            )
    # A model with a `generate` of its own (KOSMOS-2) hands on what it does not name.
    known = {*inspect.signature(GenerationMixin.generate).parameters, *inspect.signature(model.generate).parameters}
    fields = GenerationConfig().to_dict()
    unknown = sorted(set(kwargs) - set(known) - set(fields))
    if unknown:
        raise TypeError(
            f"generate() got unknown arguments: {', '.join(unknown)}. Known are the fields of "
            "transformers.GenerationConfig, such as num_beams, and what model.generate takes, such as logits_processor"
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
    """The model's own generation settings with those of one call.

    Sampling and penalties that many chat checkpoints bring along are off: they write other answers than the loss
    trained (Florence-2's ban on repeated trigrams spoils "20202020", Qwen's penalty of 1.05 shifts every logit). Beams
    end as soon as enough are finished and `<unk>` never stands in an answer, as in the official recipe of UniChart.

    Args:
        unknown: id of the token that no answer may hold, if there is one.
        settings: fields of the config that a user passed; they win.
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
