"""Check what a user passes to `generate`: settings that fail, change nothing, or change what is returned."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import (
    ExponentialDecayLengthPenalty,
    GenerationConfig,
    GenerationMixin,
    LogitsProcessor,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
)

from .argument_checks import check_count, check_switch
from .compat import is_legacy

_ADVICE = "every question gets one answer, as token ids of at most max_new_tokens; pass settings one by one"
_FROM_THE_HUB = "transformers runs it only with code from the Hub"
_BY_THE_MODEL = "a prompt begins as the model says: set it in model.generation_config before the adapter is created"
_NOT_RETURNED = "only the ids of answers are returned"

_REFUSED: dict[str, str] = {
    **dict.fromkeys(("max_length", "num_return_sequences", "return_dict_in_generate"), _ADVICE),
    **dict.fromkeys(("generation_config", "inputs"), _ADVICE),
    "min_length": "it counts the prompt and its padding: pass min_new_tokens",
    "token_healing": "it would change the end of the prompt",
    **dict.fromkeys(("constraints", "force_words_ids", "dola_layers", "penalty_alpha"), _FROM_THE_HUB),
    **dict.fromkeys(("num_beam_groups", "diversity_penalty"), _FROM_THE_HUB),
    **dict.fromkeys(("assistant_early_exit", "use_mtp"), "no model that reads charts has it"),
    **dict.fromkeys(("decoder_start_token_id", "bos_token_id"), _BY_THE_MODEL),
    **dict.fromkeys(("output_scores", "output_logits", "output_attentions", "output_hidden_states"), _NOT_RETURNED),
}
"""Arguments that are not taken, and why."""
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "num_return_sequences": (1, None),
    "num_beam_groups": (1, None),
    "diversity_penalty": (0.0, None),
    "penalty_alpha": (0.0, None),
}
"""Values of these arguments that change nothing, where they are not `None`, `False` or 0; of ids, the model's own."""

SAMPLING: dict[str, tuple[float | None, ...]] = {
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
_KEPT = (
    *("bad_words_ids", "suppress_tokens", "begin_suppress_tokens", "sequence_bias", "stop_strings"),
    *("exponential_decay_length_penalty", "cache_implementation"),
)
"""Settings of a checkpoint with which its answers are generated; see also `generation_settings.PLAIN`."""
_ASSISTED = ("assistant_model", "prompt_lookup_num_tokens")
_LISTS = ("logits_processor", "stopping_criteria")
_INPUTS = ("_ids", "_mask", "_values", "embeds", "_patches")
"""Ends of the names of model inputs. The batch holds these."""


def check_arguments(model: Any, kwargs: Mapping[str, Any]) -> frozenset[str]:
    """Check a user's arguments of `generate`, and return the names of those that `model.generate` takes.

    Args:
        model: An unwrapped model.
        kwargs: What the user passed.

    Raises:
        TypeError: `model.generate` does not know an argument, or it is of a wrong type.
        ValueError: An argument would change the shape or the type of the result, cannot work, or would have no effect.

    Example:
        >>> from chartqa_ft.models.tiny import tiny_unichart
        >>> check_arguments(tiny_unichart()[0], {"min_length": 3})
        Traceback (most recent call last):
        ...
        ValueError: generate() takes no min_length=3: it counts the prompt and its padding: pass min_new_tokens
    """
    own, config = model.generation_config, model.config
    for name, why in _REFUSED.items():
        neutral = (None, getattr(own, name, None)) if name.endswith("_token_id") else _NEUTRAL.get(name, (None, False))
        if name in kwargs and not _is_one_of(kwargs[name], neutral):
            raise ValueError(f"generate() takes no {name}={kwargs[name]!r}: {why}")
    check_for_model(model, kwargs)
    if kwargs.get("forced_bos_token_id") is not None and (
        not config.is_encoder_decoder or config.model_type == "vision-encoder-decoder"
    ):
        raise ValueError("forced_bos_token_id has no effect: the prompt has the first token of the decoder already")
    if kwargs.get("stop_strings") is not None and (kwargs.get("num_beams") or 1) > 1 and is_legacy(config):
        raise ValueError(
            "the beam search of transformers 4.28.1, with which this checkpoint answers, has no stop_strings: answer "
            "with num_beams=1, or load the checkpoint with compat=False"
        )
    if kwargs.get("assistant_model") is not None and config.model_type == "vision-encoder-decoder":
        raise ValueError("assistant_model does not work with the separate encoder of this model: leave it out")
    # A model with its own `generate` (KOSMOS-2) forwards arguments that it does not name.
    known = _names(GenerationMixin.generate) | {n for n in _names(model.generate) if not n.endswith(_INPUTS)}
    fields = GenerationConfig().to_dict()
    unknown = sorted(set(kwargs) - known - set(fields))
    if unknown:
        raise TypeError(
            f"generate() got unknown arguments: {', '.join(unknown)}. Known are the fields of "
            "transformers.GenerationConfig, such as num_beams, and what model.generate takes, such as logits_processor"
        )
    check_values({name: value for name, value in kwargs.items() if name not in known or name in _LISTS})
    allowed = kwargs.get("prefix_allowed_tokens_fn")
    if allowed is not None and not callable(allowed):
        raise TypeError(f"prefix_allowed_tokens_fn must be a function, got {allowed!r}")
    return frozenset(known)


def check_for_model(model: Any, settings: Mapping[str, Any]) -> None:
    """Check settings of a user, or of a checkpoint, that a model cannot have.

    Raises:
        ValueError: It cannot have one; the message names it.

    Example:
        >>> from chartqa_ft.models.tiny import tiny_unichart
        >>> check_for_model(tiny_unichart()[0], {"guidance_scale": 2.0})
        Traceback (most recent call last):
        ...
        ValueError: guidance_scale=2.0 needs a decoder-only model, and this is an encoder-decoder: leave it out
    """
    scale = settings.get("guidance_scale")
    if scale not in (None, 1, 1.0) and model.config.is_encoder_decoder:
        raise ValueError(
            f"guidance_scale={scale!r} needs a decoder-only model, and this is an encoder-decoder: leave it out"
        )


def check_own_settings(model: Any) -> None:
    """Check that a model's own generation config has no setting with which every answer would fail.

    Args:
        model: An unwrapped model.

    Raises:
        ValueError: It has one; the message names it.

    Example:
        >>> from chartqa_ft.models.tiny import tiny_unichart
        >>> model, _ = tiny_unichart()
        >>> model.generation_config.force_words_ids = [[5]]
        >>> check_own_settings(model)
        Traceback (most recent call last):
        ...
        ValueError: model.generation_config has force_words_ids=[[5]]: transformers runs it only with code from the \
Hub. Set model.generation_config.force_words_ids = None
    """
    own = vars(model.generation_config)
    for name in ("token_healing", "constraints", "force_words_ids"):
        if not _is_one_of(own.get(name), (None, False)):
            raise ValueError(
                f"model.generation_config has {name}={own[name]!r}: {_REFUSED[name]}. Set "
                f"model.generation_config.{name} = None"
            )
    try:
        check_for_model(model, own)
        check_values({name: own.get(name) for name in _KEPT})
    except (TypeError, ValueError) as error:
        raise type(error)(f"model.generation_config: {error}") from error


def check_rows(rows: int, settings: Mapping[str, Any], *, name: str = "batch_size") -> None:
    """Check that settings with which transformers answers one row at a time come with batches of one row.

    Args:
        rows: Number of rows of a batch.
        settings: Fields of the generation config and arguments of `model.generate`.
        name: Name of the argument that sets the number of rows.

    Raises:
        ValueError: They do not.

    Example:
        >>> check_rows(8, {"prompt_lookup_num_tokens": 3})
        Traceback (most recent call last):
        ...
        ValueError: prompt_lookup_num_tokens answers one question at a time: set batch_size=1, or leave it out
    """
    for setting in _ASSISTED:
        if rows > 1 and settings.get(setting) is not None:
            raise ValueError(f"{setting} answers one question at a time: set {name}=1, or leave it out")


def check_values(settings: Mapping[str, Any]) -> None:
    """Check the types of settings, and that each is read.

    Raises:
        TypeError: One is of a wrong type.
        ValueError: One is out of range, or would have no effect.

    Example:
        >>> check_values({"bad_words_ids": 5})
        Traceback (most recent call last):
        ...
        TypeError: bad_words_ids=5 cannot be used (Value after * must be an iterable, not int)
    """
    sample = settings.get("do_sample")
    if sample is not None and not isinstance(sample, bool):
        raise TypeError(f"do_sample must be True or False, got {sample!r}")
    for name in ("use_cache", "renormalize_logits", "remove_invalid_values"):
        check_switch(name, settings.get(name), or_none=True)
    for name, neutral in SAMPLING.items():
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
    stop = settings.get("stop_strings")
    texts = [stop] if isinstance(stop, str) else stop
    if texts is not None and not (
        isinstance(texts, (list, tuple)) and texts and all(isinstance(text, str) and text for text in texts)
    ):
        raise TypeError(f"stop_strings must be a text or a list of texts that are not empty, got {stop!r}")
    for name, attempt in _TRIED.items():
        value = settings.get(name)
        if value is None or value in (SAMPLING.get(name) or _UNREAD.get(name, ())):
            continue
        try:
            attempt(value)
        except Exception as error:  # of any type, such as that of arithmetic with a text
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{name}={value!r} cannot be used ({error})") from error


_UNREAD: dict[str, tuple[Any, ...]] = {
    "no_repeat_ngram_size": (0,),
    "repetition_penalty": (1.0,),
    "bad_words_ids": ([],),
}
"""Values with which a setting is not read."""
_END = torch.tensor([0])
_TRIED: dict[str, Callable[[Any], LogitsProcessor | GenerationConfig | float]] = {
    "bad_words_ids": lambda value: NoBadWordsLogitsProcessor([*value]),
    "suppress_tokens": SuppressTokensLogitsProcessor,
    "begin_suppress_tokens": lambda value: SuppressTokensAtBeginLogitsProcessor(value, 1),
    "sequence_bias": SequenceBiasLogitsProcessor,
    "no_repeat_ngram_size": NoRepeatNGramLogitsProcessor,
    "repetition_penalty": RepetitionPenaltyLogitsProcessor,
    "exponential_decay_length_penalty": lambda value: ExponentialDecayLengthPenalty(value, _END, 1),
    "temperature": TemperatureLogitsWarper,
    "length_penalty": lambda value: 2.0**value,
    "early_stopping": lambda value: GenerationConfig(num_beams=2, early_stopping=value),
    "cache_implementation": lambda value: GenerationConfig(cache_implementation=value),
}
"""What upstream makes of a setting in the first call, tried before."""


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


def _names(function: Callable[..., Any]) -> set[str]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD and p.name != "self"}


def _is_one_of(value: Any, neutral: tuple[Any, ...]) -> bool:
    """Return whether a value equals one of some plain values; an array, for instance, does not."""
    return any(value is one or (isinstance(value, (bool, int, float)) and value == one) for one in neutral)
