"""Check models, processors, prompts, counts, switches and records that are given to this room or to those above it."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from .wrappers import base_model

_LOAD = "load it with chartqa_ft.load_checkpoint, or with AutoModelForImageTextToText.from_pretrained"


def check_model(model: Any) -> None:
    """Check that `model` is a loaded model of transformers that generates, wrapped or not.

    Raises:
        TypeError: It is not; the message says what to pass.

    Example:
        >>> check_model("out/checkpoint-10")
        Traceback (most recent call last):
        ...
        TypeError: model must be a loaded model, got 'out/checkpoint-10': load it with chartqa_ft.load_checkpoint, or \
with AutoModelForImageTextToText.from_pretrained
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a loaded model, got {shown(model)}: {_LOAD}")
    inner = base_model(model)
    kind = type(inner).__name__
    if getattr(getattr(inner, "config", None), "model_type", None) is None:
        raise TypeError(f"model must be a model of transformers with a config, got {kind}: {_LOAD}")
    if getattr(inner, "generation_config", None) is None:
        raise TypeError(f"model must be the whole model, which generates answers, got the part {kind}: {_LOAD}")


def check_processor(processor: Any) -> None:
    """Check that `processor` has a tokenizer and an image processor.

    Raises:
        TypeError: It lacks one of them, or is a class; the message says what to pass.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> check_processor(tiny_unichart("test")[1].tokenizer)
        Traceback (most recent call last):
        ...
        TypeError: processor is a tokenizer (...): pass AutoProcessor.from_pretrained(...), which has a tokenizer \
and an image_processor
    """
    advice = "pass AutoProcessor.from_pretrained(...), which has a tokenizer and an image_processor"
    if isinstance(processor, type):
        raise TypeError(f"processor is the class {processor.__name__}: {advice}")
    if not isinstance(processor, (str, bytes)) and processor is not None:
        has_tokenizer = getattr(processor, "tokenizer", None) is not None
        has_images = getattr(processor, "image_processor", None) is not None
        if has_tokenizer and has_images:
            return
        if has_tokenizer or hasattr(processor, "convert_tokens_to_ids"):
            what = "has no image_processor" if has_tokenizer else "is a tokenizer"
            raise TypeError(f"processor {what} ({type(processor).__name__}): {advice}")
        if has_images or hasattr(processor, "image_mean"):
            what = "has no tokenizer" if has_images else "is an image processor"
            raise TypeError(f"processor {what} ({type(processor).__name__}): {advice}")
    raise TypeError(f"processor must be the processor of the model, got {shown(processor)}: {advice}")


def check_prompt(prompt: Any) -> str:
    """Return a prompt template after checking it.

    Raises:
        TypeError: It is not a str.
        ValueError: It has no field `{question}`.

    Example:
        >>> check_prompt(["{question}"])
        Traceback (most recent call last):
        ...
        TypeError: prompt must be a str with the field {question}, got ['{question}']
    """
    if not isinstance(prompt, str):
        raise TypeError(f"prompt must be a str with the field {{question}}, got {prompt!r}")
    if "{question}" not in prompt:
        raise ValueError(f"the prompt {prompt!r} has no field {{question}}, so the model would never see the question")
    return prompt


def check_count(name: str, value: Any, *, least: int = 1, or_none: bool = False) -> int:
    """Return a number of tokens, beams and the like as an `int`, after checking it. Other libraries' integers count.

    Args:
        name: Name of the argument, for the error message.
        value: The argument.
        least: The smallest value allowed.
        or_none: Whether `None` is allowed, for the error message; the caller handles it.

    Raises:
        TypeError: It is not an integer.
        ValueError: It is smaller than `least`.

    Example:
        >>> check_count("num_beams", 1.5)
        Traceback (most recent call last):
        ...
        TypeError: num_beams must be an int of at least 1, got 1.5
    """
    expected = f"{name} must be an int of at least {least}{' or None' if or_none else ''}, got {value!r}"
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(expected) from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    return number


def check_switch(name: str, value: Any, *, or_none: bool = False) -> None:
    """Check that `value` is True or False: any other object, such as the text "no", would count as one of them.

    Raises:
        TypeError: It is not.

    Example:
        >>> check_switch("merge", "no")
        Traceback (most recent call last):
        ...
        TypeError: merge must be True or False, got 'no'
    """
    if not isinstance(value, bool) and not (or_none and value is None):
        raise TypeError(f"{name} must be True{', False or None' if or_none else ' or False'}, got {value!r}")


def check_records(examples: Any) -> None:
    """Check that `examples` is a list (or another sequence) of records.

    Raises:
        TypeError: It is one record, a dict of columns or no sequence, or an item is not a record.
        ValueError: It is empty.

    Example:
        >>> check_records({"image": None, "question": "How much is red?"})
        Traceback (most recent call last):
        ...
        TypeError: examples must be a list of records, got one dict with the keys 'image', 'question': pass [record] \
for one record, and [dataset[i] for i in rows] for rows of a data set
    """
    if isinstance(examples, Mapping):
        keys = ", ".join(repr(key) for key in list(examples)[:6])
        raise TypeError(
            f"examples must be a list of records, got one dict with the keys {keys}: pass [record] for one record, "
            "and [dataset[i] for i in rows] for rows of a data set"
        )
    is_sequence = isinstance(examples, Sequence) or (hasattr(examples, "__len__") and hasattr(examples, "__getitem__"))
    if not is_sequence or isinstance(examples, (str, bytes)):
        raise TypeError(f"examples must be a list of records, got {shown(examples)}")
    if len(examples) == 0:
        raise ValueError("examples is an empty batch: pass at least one record")
    for position, example in enumerate(examples):
        if not isinstance(example, Mapping):
            raise TypeError(
                f"examples[{position}] must be a record, a dict with image and question, got {shown(example)}"
            )


def shown(value: Any) -> str:
    """Return a value for an error message: a class by its name, a large object by its type.

    Example:
        >>> shown(None), shown(dict), shown({"image": None})
        ('None', 'the class dict', 'a dict')
    """
    if isinstance(value, type):
        return f"the class {value.__name__}"
    is_short = value is None or (isinstance(value, (str, int, float)) and len(repr(value)) < 100)
    return repr(value) if is_short else f"a {type(value).__name__}"
