"""Settings of generation: what a user passes to `generate`, and what the model's own settings become."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn
from transformers import GenerationConfig, GenerationMixin

from .argument_checks import check_count, check_switch

OWN_ARGUMENTS = ("max_length", "num_return_sequences", "return_dict_in_generate", "generation_config", "inputs")
"""Arguments of `model.generate` that would change the shape or the type of its result."""

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
}
"""Settings of plain greedy or beam search, without sampling or penalties."""

_SAMPLING: dict[str, tuple[float | None, ...]] = {
    "temperature": (None, 1.0),
    "top_p": (None, 1.0),
    "top_k": (None, 0),
    "min_p": (None, 0.0),
    "typical_p": (None, 1.0),
    "top_h": (None,),
    "epsilon_cutoff": (None, 0.0),
    "eta_cutoff": (None, 0.0),
}
"""Settings that only sampling reads, with the values that change nothing."""


def check_lengths(max_new_tokens: Any, num_beams: Any, settings: Mapping[str, Any]) -> tuple[int, int]:
    """Return `max_new_tokens` and `num_beams` as ints, after checking them and the `min_new_tokens` beside them.

    Args:
        max_new_tokens: longest answer in tokens.
        num_beams: number of beams.
        settings: what a user passed to `generate` besides.

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number is out of range.

    Example:
        >>> check_lengths(8, 1, {"min_new_tokens": 50})
        Traceback (most recent call last):
        ...
        ValueError: min_new_tokens=50 is more than max_new_tokens=8: lower it, or raise max_new_tokens
    """
    tokens, beams = check_count("max_new_tokens", max_new_tokens), check_count("num_beams", num_beams)
    shortest = settings.get("min_new_tokens")
    if shortest is not None and check_count("min_new_tokens", shortest, least=0) > tokens:
        raise ValueError(
            f"min_new_tokens={shortest} is more than max_new_tokens={tokens}: lower it, or raise max_new_tokens"
        )
    return tokens, beams


def split_settings(model: nn.Module, kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a user's arguments of `generate` into settings of generation and other arguments.

    Args:
        model: an unwrapped model.
        kwargs: what the user passed.

    Returns:
        (fields of the generation config, arguments of `model.generate`)

    Raises:
        TypeError: `model.generate` does not know an argument, or it is of a wrong type.
        ValueError: an argument would change the shape or the type of the result, or would have no effect.

    Example:
        >>> from chartqa_ft.models.tiny import tiny_unichart
        >>> model, _ = tiny_unichart()
        >>> split_settings(model, {"length_penalty": 2.0, "logits_processor": None})
        ({'length_penalty': 2.0}, {'logits_processor': None})
    """
    for name in OWN_ARGUMENTS:
        neutral = (1,) if name == "num_return_sequences" else (None, False)
        if name in kwargs and kwargs[name] not in neutral:
            raise ValueError(
                f"generate() takes no {name}={kwargs[name]!r}: every question gets one answer, as token ids of at "
                "most max_new_tokens; pass settings one by one"
            )
    # A model with its own `generate` (KOSMOS-2) forwards arguments that it does not name.
    known = {*inspect.signature(GenerationMixin.generate).parameters, *inspect.signature(model.generate).parameters}
    fields = GenerationConfig().to_dict()
    unknown = sorted(set(kwargs) - set(known) - set(fields))
    if unknown:
        raise TypeError(
            f"generate() got unknown arguments: {', '.join(unknown)}. Known are the fields of "
            "transformers.GenerationConfig, such as num_beams, and what model.generate takes, such as logits_processor"
        )
    settings = {name: value for name, value in kwargs.items() if name not in known and name not in OWN_ARGUMENTS}
    _check_values(settings | {name: kwargs[name] for name in kwargs if name in _LISTS})
    return settings, {name: value for name, value in kwargs.items() if name in known and name not in OWN_ARGUMENTS}


_LISTS = ("logits_processor", "stopping_criteria")


def _check_values(settings: Mapping[str, Any]) -> None:
    sample = settings.get("do_sample")
    if sample is not None and not isinstance(sample, bool):
        raise TypeError(f"do_sample must be True or False, got {sample!r}")
    for name in ("use_cache", "renormalize_logits", "remove_invalid_values"):
        check_switch(name, settings.get(name), or_none=True)
    for name, neutral in _SAMPLING.items():
        value = settings.get(name)
        if value not in neutral and not sample:
            raise ValueError(
                f"{name}={value!r} has no effect without sampling: pass do_sample=True as well, or omit it"
            )
    for name in _LISTS:
        value = settings.get(name)
        if value is not None and not (isinstance(value, list) and all(callable(item) for item in value)):
            raise TypeError(f"{name} must be a list of functions, got {value!r}")
    low, high = settings.get("min_new_tokens"), settings.get("max_new_tokens")
    if low is not None and high is not None and low > high:
        raise ValueError(f"min_new_tokens={low} is more than max_new_tokens={high}")


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
    _check_values({"max_new_tokens": max_new_tokens, **settings})
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
