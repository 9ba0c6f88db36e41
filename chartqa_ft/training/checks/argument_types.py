"""Types of the training arguments: every value must have the type that its field declares."""

from __future__ import annotations

import os
import types
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import cache
from multiprocessing.context import BaseContext
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
from transformers.trainer_pt_utils import AcceleratorConfig

from ...files import parse_json

_ALSO: dict[str, tuple[type, ...]] = {
    "accelerator_config": (AcceleratorConfig,),
    "chart_cache": (os.PathLike,),
    "dataloader_multiprocessing_context": (BaseContext,),
    "debug": (types.NoneType,),
    "freeze": (str,),
    "fsdp": (bool, list),
    "output_dir": (os.PathLike,),
    "resume_from_checkpoint": (os.PathLike, bool),
}
"""Field -> types that are used although the field does not declare them."""

_ELSEWHERE = ("metric_extract", "metric_variant", "metric_interval", "on_bad_text")
"""Fields whose values are checked one by one."""

_FILES = ("accelerator_config", "deepspeed", "fsdp_config")
"""Fields whose text is JSON or the path of a JSON file."""


def make_plain(args: Any) -> None:
    """Replace the numbers of NumPy in a dataclass by Python's, and 2.0 by 2 where only whole numbers are declared.

    JSON and all later checks know Python's numbers alone, and `range` and slices take no floats.

    Example:
        >>> from dataclasses import dataclass
        >>> import numpy as np
        >>> @dataclass
        ... class Arguments:
        ...     steps: int
        ...     beams: int = 1
        >>> args = Arguments(np.int64(3), 2.0)
        >>> make_plain(args)
        >>> args
        Arguments(steps=3, beams=2)
    """
    declared = _declared(type(args))  # type: ignore[arg-type]
    for field in fields(args):
        value = getattr(args, field.name)
        if isinstance(value, np.generic):
            value = value.item()
            setattr(args, field.name, value)
        parts = _parts(declared.get(field.name))
        if isinstance(value, float) and int in parts and float not in parts and value.is_integer():
            setattr(args, field.name, int(value))


def type_refusals(args: Any) -> Iterator[tuple[str, str]]:
    """Yield (argument, message) for each argument whose value is not of the declared type.

    2.0 counts as a whole number. Values of tokens are not shown.

    Args:
        args: `ChartQATrainingArguments`, or another dataclass.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Arguments:
        ...     steps: int = 1
        ...     names: list[str] | None = None
        >>> list(type_refusals(Arguments(steps="two", names=["a"])))
        [('steps', "steps must be a whole number, got 'two'")]
    """
    for name, hint in _declared(type(args)).items():  # type: ignore[arg-type]
        value = getattr(args, name)
        if name in _ELSEWHERE or isinstance(value, _ALSO.get(name, ())):
            continue
        if not _fits(value, hint):
            kinds = ", ".join(dict.fromkeys(_kinds(hint)))
            shown = f"a value of type {type(value).__name__}" if name.endswith("token") else repr(value)[:80]
            default = ": leave it out for the default" if value is None else ""
            yield name, f"{name} must be {' or '.join(kinds.rsplit(', ', 1))}, got {shown}{default}"
        elif isinstance(value, str) and _is_mapping(hint):
            message = _json_refusal(name, value)
            if message:
                yield name, message


@cache
def _declared(kind: type) -> dict[str, Any]:
    """Return the declared types of fields, without those that a user's subclass declares: they are its own affair."""
    found = {}
    for field in fields(kind):
        owner = next(base for base in kind.__mro__ if field.name in vars(base).get("__annotations__", {}))
        if owner.__module__.partition(".")[0] in ("transformers", __package__.partition(".")[0]):
            found[field.name] = get_type_hints(owner)[field.name]
    return found


def _json_refusal(name: str, text: str) -> str | None:
    """Return why a text is no dict of settings, or `None` if it is. As in transformers, JSON begins with a brace."""
    if not text.startswith("{"):
        return None if name in _FILES else f"{name} must be a dict, or JSON such as '{{\"name\": 1}}', got {text!r}"
    try:
        parse_json(text)
    except ValueError as error:
        return f"{name}={text!r} is not valid JSON ({error}): write it as '{{\"name\": 1}}'"
    return None


def _is_mapping(hint: Any) -> bool:
    return any(part is dict or get_origin(part) is dict for part in _parts(hint))


def _parts(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _fits(value: Any, hint: Any) -> bool:
    return any(_fits_one(value, part) for part in _parts(hint))


def _fits_one(value: Any, hint: Any) -> bool:
    if hint is Any:
        return True
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return any(value is choice or (value == choice and type(value) is type(choice)) for choice in inner)
    if origin is dict:
        return isinstance(value, Mapping)
    if origin is list:
        return isinstance(value, (list, tuple)) and all(_fits(item, inner[0]) for item in value)
    if hint is int:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and float(value).is_integer()
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, origin or hint)


def _kinds(hint: Any) -> Iterator[str]:
    """Yield the words for the types of a hint."""
    words = {
        bool: "True, False",
        int: "a whole number",
        float: "a number",
        str: "a str",
        dict: "a dict",
        list: "a list",
        type(None): "None",
    }
    parts = _parts(hint)
    for part in sorted(parts, key=lambda part: part is type(None)):
        origin, inner = get_origin(part), get_args(part)
        if origin is Literal:
            yield from map(repr, inner)
        elif origin is list:
            yield f"a list of {getattr(inner[0], '__name__', inner[0])}"
        elif (origin or part) in words:
            yield words[origin or part]
        elif not issubclass(part, str) or str not in parts:  # an enum of texts beside str
            yield f"a {part.__name__}"
