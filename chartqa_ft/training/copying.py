"""Copies of what the user passes to a trainer, so that a second trainer gets what the first one got."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from transformers.trainer_pt_utils import AcceleratorConfig

Arguments = TypeVar("Arguments")


def own_copy(args: Arguments) -> Arguments:
    """Return a copy of training arguments that a trainer may change, with lists, dicts and configs of its own.

    Example:
        >>> from chartqa_ft import ChartQATrainingArguments
        >>> args = ChartQATrainingArguments(output_dir="out", use_cpu=True)
        >>> own = own_copy(args)
        >>> own.ddp_find_unused_parameters = False
        >>> args.ddp_find_unused_parameters is None
        True
    """
    own = copy.copy(args)
    for name, value in vars(args).items():
        if isinstance(value, (dict, list, set, AcceleratorConfig)):
            setattr(own, name, copy.deepcopy(value))
    return own


def same_processor(one: Any, other: Any) -> bool:
    """Return whether two processors make the same tensors: they are one object, or of one class with equal settings.

    Example:
        >>> import copy
        >>> from chartqa_ft import tiny_unichart
        >>> _, processor = tiny_unichart("test")
        >>> other = copy.deepcopy(processor)
        >>> same_processor(processor, other)
        True
        >>> other.image_processor.do_resize = False
        >>> same_processor(processor, other)
        False
    """
    return one is other or (type(one) is type(other) and _settings(one) == _settings(other))


def _settings(processor: Any) -> list[Any]:
    parts = [processor, getattr(processor, "image_processor", None), getattr(processor, "tokenizer", None)]
    found: list[Any] = []
    for part in parts:
        if hasattr(part, "get_vocab"):
            found += [part.get_vocab(), part.special_tokens_map, part.padding_side, part.model_max_length]
        elif hasattr(part, "to_dict"):
            found.append(part.to_dict())
        found.append(getattr(part, "chat_template", None))
    return found
