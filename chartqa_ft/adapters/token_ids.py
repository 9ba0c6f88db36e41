"""Which tokens end an answer and which ones no text may contain, as tokenizer, processor and config say."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from torch import nn

from .token_rows import as_list
from .wrappers import base_model

LOCATION = re.compile(r"<(?:loc_?|seg|patch_index_|bin_)\d+>")
"""Tokens for places in an image: PaliGemma, Florence-2, KOSMOS-2."""
_MARKUP = re.compile(r"[<\[].+[>\]]", re.DOTALL)
# Ids in configs that the tokenizer names too, or that stand for no text.
_PLAIN_IDS = ("eos", "pad", "bos", "unk", "sep", "start", "vocab")


def end_ids(generation_config: Any, tokenizer: Any) -> frozenset[int]:
    """Return the ids that end an answer: those of the generation config, and the EOS of the tokenizer.

    Raises:
        ValueError: There is none, or the ids of the generation config belong to another tokenizer: they lack its EOS
            and hold an ordinary token, at which every answer would end.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> model, processor = tiny_unichart("test")
        >>> end_ids(model.generation_config, processor.tokenizer)
        frozenset({2})
    """
    stored = as_list(generation_config.eos_token_id)
    own = as_list(getattr(tokenizer, "eos_token_id", None))
    if not stored and not own:
        raise ValueError("neither generation_config nor the tokenizer has an eos_token_id, so answers would never end")
    stale = [] if set(own) & set(stored) or not own else [i for i in stored if is_ordinary(tokenizer, i)]
    if stale:
        token = tokenizer.convert_ids_to_tokens(stale[0])
        raise ValueError(
            f"generation_config.eos_token_id={generation_config.eos_token_id} is that of another tokenizer: here "
            f"{stale[0]} is the ordinary token {token!r}, and every answer would end before it. Write "
            "model.generation_config.eos_token_id = processor.tokenizer.eos_token_id, and the same for pad_token_id, "
            "bos_token_id and decoder_start_token_id"
        )
    return frozenset(stored + own)


def check_end(tokenizer: Any, eos: int | None, ends: Iterable[int]) -> None:
    """Check that there is a token to learn as the end of an answer.

    Args:
        tokenizer: The tokenizer, whose EOS ends answers.
        eos: The token that the family puts after answers instead, if there is one.
        ends: The ids that end a generated answer.

    Raises:
        ValueError: There is none. It is what a tokenizer without its `tokenizer_config.json` looks like.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> tokenizer = tiny_unichart("test")[1].tokenizer
        >>> tokenizer.eos_token = None
        >>> check_end(tokenizer, None, {2})
        Traceback (most recent call last):
        ...
        ValueError: the tokenizer has no eos_token to learn as the end of answers: its tokenizer_config.json is \
missing or incomplete. Fetch or save the processor again, or set processor.tokenizer.eos_token, here perhaps to '</s>'
    """
    if eos is None and getattr(tokenizer, "eos_token_id", None) is None:
        ids = sorted(index for index in ends if 0 <= index < len(tokenizer))
        hint = f", here perhaps to {tokenizer.convert_ids_to_tokens(ids[0])!r}" if ids else ""
        raise ValueError(
            "the tokenizer has no eos_token to learn as the end of answers: its tokenizer_config.json is missing or "
            f"incomplete. Fetch or save the processor again, or set processor.tokenizer.eos_token{hint}"
        )


def padding_id(generation_config: Any, tokenizer: Any) -> int:
    """Return the id that pads answers. An ordinary token of this tokenizer is not used: answers would lose it.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> model, processor = tiny_unichart("test")
        >>> padding_id(model.generation_config, processor.tokenizer)
        1
    """
    stored = generation_config.pad_token_id
    if stored is not None and is_ordinary(tokenizer, stored):
        stored = None
    candidates = (tokenizer.pad_token_id, stored, tokenizer.eos_token_id, *as_list(generation_config.eos_token_id))
    return next(i for i in candidates if i is not None)


def is_ordinary(tokenizer: Any, token_id: int) -> bool:
    """Return whether an id is that of a piece of text, neither a special nor an added token.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> tokenizer = tiny_unichart("test")[1].tokenizer
        >>> is_ordinary(tokenizer, tokenizer.convert_tokens_to_ids("5")), is_ordinary(tokenizer, 2)
        (True, False)
    """
    if token_id in tokenizer.all_special_ids or token_id in getattr(tokenizer, "added_tokens_decoder", {}):
        return False
    return 0 <= token_id < len(tokenizer) and tokenizer.convert_ids_to_tokens(token_id) is not None


def control_tokens(model: nn.Module, processor: Any, tokenizer: Any) -> set[str]:
    """Return the tokens that neither a question nor an answer may contain.

    These are the special tokens, the placeholders of the processor (such as `processor.image_token`) and the task
    tokens that it replaces, the tokens that the config of the model names (such as `config.vision_start_token_id`),
    and those for places in an image. Other added tokens, such as `<think>` or those of `add_tokens`, are text.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> model, processor = tiny_unichart("test")
        >>> sorted(control_tokens(model, processor, processor.tokenizer))
        ['</s>', '<chartqa>', '<pad>', '<s>']
    """
    added = getattr(tokenizer, "added_tokens_decoder", {})
    found = {
        *getattr(tokenizer, "all_special_tokens", ()),
        *(token.content for token in added.values() if token.special),
    }
    for name, value in vars(processor).items():
        if name.endswith(("_token", "_tag")) and isinstance(value, str) and _MARKUP.fullmatch(value):
            found.add(value)
    found |= _task_tokens(processor)
    contents = {index: token.content for index, token in added.items()}
    found |= {contents[index] for index in _named_ids(base_model(model).config) if index in contents}
    found |= set(filter(LOCATION.fullmatch, contents.values()))
    return {token for token in found - {getattr(tokenizer, "unk_token", None)} if token.strip()}


def reads_places(processor: Any, tokenizer: Any) -> bool:
    """Return whether a model takes every text like `<loc_1>` (see `LOCATION`) for a place in an image.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> _, processor = tiny_unichart("test")
        >>> reads_places(processor, processor.tokenizer)
        False
    """
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    return bool(_task_tokens(processor)) or any(LOCATION.fullmatch(token.content) for token in added)


def _task_tokens(processor: Any) -> set[str]:
    """Return the task tokens of Florence-2, which its processor replaces by prompts, some with places."""
    tables = (value for name, value in vars(processor).items() if name.startswith("task_prompts"))
    return {token for table in tables if isinstance(table, dict) for token in table}


def _named_ids(config: Any) -> set[int]:
    """Return the token ids in a config and in the config of its text model, except EOS, BOS and the like."""
    ids: set[int] = set()
    for part in (config, config.get_text_config()):
        for name, value in vars(part).items():
            if name.endswith(("_token_id", "_token_index")) and not name.startswith(_PLAIN_IDS):
                ids.update(index for index in as_list(value) if isinstance(index, int))
    return ids


def check_embeddings(model: nn.Module, tokenizer: Any, used: set[int]) -> int | None:
    """Return the number of rows of the embeddings, or `None` if it is not known.

    Args:
        model: The model, wrapped or not.
        tokenizer: Its tokenizer.
        used: Ids that every batch holds.

    Raises:
        ValueError: One of the ids has no row, so that the first forward pass would fail.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> model, processor = tiny_unichart("test")
        >>> check_embeddings(model, processor.tokenizer, {2}) == len(processor.tokenizer)
        True
    """
    base = base_model(model)
    owner = base.decoder if base.config.model_type == "vision-encoder-decoder" else base
    try:
        layer = owner.get_input_embeddings()
        # Sharded weights are empty. IDEFICS has a second matrix for its own tokens.
        rows = getattr(layer, "num_embeddings", None) or layer.weight.shape[0]
        rows += getattr(layer, "num_additional_embeddings", None) or 0
    except (AttributeError, NotImplementedError):
        return None
    if not rows:
        return None
    missing = sorted(index for index in used if index >= rows)
    if missing:
        raise ValueError(
            f"token {tokenizer.convert_ids_to_tokens(missing[0])!r} has the id {missing[0]}, but the model has {rows} "
            "embeddings: call chartqa_ft.adapters.vocabulary.grow_vocabulary(model, processor) after adding tokens or "
            "replacing the tokenizer"
        )
    return rows
