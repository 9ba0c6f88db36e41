"""Arguments of an optimizer that transformers creates: those that the chosen one does not read are refused."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

_ADAM = ("adam_beta1", "adam_beta2", "adam_epsilon")


def _switch(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0", "yes", "no"):
        raise ValueError(text)
    return text.lower() in ("true", "1", "yes")


def _on(text: str) -> bool:
    # transformers takes any text for True, "false" included.
    if text.lower() not in ("true", "1", "yes"):
        raise ValueError(text)
    return True


def _numbers(*names: str) -> dict[str, Callable[[str], Any]]:
    return dict.fromkeys(names, float)


_Types = dict[str, Callable[[str], Any]]

_ADEMAMIX: _Types = {**_numbers("beta1", "beta2", "beta3", "alpha", "eps"), "t_alpha": int, "t_beta3": int}
_GALORE: _Types = {"rank": int, "update_proj_gap": int, "scale": float, "proj_type": str}
_TORCHAO: _Types = {"block_size": int, "bf16_stochastic_round": _switch}
_ANYPRECISION: _Types = dict.fromkeys(("momentum_dtype", "variance_dtype", "compensation_buffer_dtype"), str)

OPTIM_ARGS: dict[str, _Types | None] = {
    "sgd": {**_numbers("momentum", "dampening", "weight_decay"), "nesterov": _switch},
    "adagrad": _numbers("lr_decay", "weight_decay", "eps"),
    "rmsprop": {**_numbers("momentum", "alpha", "eps", "weight_decay"), "centered": _switch},
    "rmsprop_bnb": None,
    "rmsprop_bnb_8bit": None,
    "rmsprop_bnb_32bit": None,
    "ademamix": _ADEMAMIX,
    "ademamix_8bit": _ADEMAMIX,
    "paged_ademamix_32bit": _ADEMAMIX,
    "paged_ademamix_8bit": _ADEMAMIX,
    "adamw_anyprecision": {"use_kahan_summation": _switch, **_ANYPRECISION},
    "galore_adamw": _GALORE,
    "galore_adamw_8bit": _GALORE,
    "galore_adafactor": _GALORE,
    "galore_adamw_layerwise": _GALORE,
    "galore_adamw_8bit_layerwise": _GALORE,
    "galore_adafactor_layerwise": _GALORE,
    "apollo_adamw": {**_GALORE, "proj": str, "scale_type": str},
    "apollo_adamw_layerwise": {**_GALORE, "proj": str, "scale_type": str},
    "grokadamw": _numbers("alpha_init", "lamb", "gamma", "grokking_signal_decay_rate", "gradient_clipping"),
    "adamw_torch_4bit": _TORCHAO,
    "adamw_torch_8bit": _TORCHAO,
    "schedule_free_radam": _numbers("weight_lr_power", "r"),
    "schedule_free_adamw": _numbers("weight_lr_power", "r"),
    "schedule_free_sgd": _numbers("weight_lr_power", "r"),
    "stable_adamw": {"max_lr": float, "kahan_sum": _on, "decouple_lr": _on},
}
"""Optimizer -> the names that transformers reads in `optim_args`, with the type of each (`trainer_optimizer.py`).

`None`: all are passed on to the optimizer. Optimizers that are not listed read none.
"""

TARGETS = ("galore_", "apollo_")
"""Beginnings of the names of optimizers that read `optim_target_modules`."""

UNREAD = {
    **dict.fromkeys(
        ("sgd", "adagrad", "rmsprop", "adafactor", "galore_", "lomo", "adalomo", "grokadamw", "schedule_free_sgd"),
        _ADAM,
    ),
    **dict.fromkeys(("lion_", "paged_lion_"), ("adam_epsilon",)),
}
"""Beginning of the name of an optimizer -> the arguments that transformers does not pass to it."""

_CHOICES = ("optim", "optim_args", "optim_target_modules")
_SETTINGS = ("learning_rate", *_ADAM)
_SCHEDULE = ("lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps")


def unread_arguments(optimizer: Any, cls_and_kwargs: Any, scheduler: Any = None) -> tuple[str, ...]:
    """Return the arguments that transformers does not read beside an optimizer or a schedule of the user.

    Args:
        optimizer: that of `optimizers=(optimizer, ...)`, if any.
        cls_and_kwargs: `optimizer_cls_and_kwargs`, if any. Its groups of parameters have the `weight_decay` of the
            arguments.
        scheduler: that of `optimizers=(optimizer, scheduler)`, if any.

    Example:
        >>> unread_arguments(None, (dict, {}))[3:]
        ('learning_rate', 'adam_beta1', 'adam_beta2', 'adam_epsilon')
        >>> unread_arguments(None, None)
        ()
    """
    schedule = () if scheduler is None else _SCHEDULE
    if optimizer is not None:
        return (*_CHOICES, *_SETTINGS, "weight_decay", *schedule)
    return () if cls_and_kwargs is None else (*_CHOICES, *_SETTINGS)


def optimizer_settings(args: Any) -> dict[str, Any]:
    """Return the arguments that an optimizer is created with, to be compared with those of a later training.

    Args:
        args: `ChartQATrainingArguments`.

    Example:
        >>> from chartqa_ft import ChartQATrainingArguments
        >>> args = ChartQATrainingArguments(output_dir="out", use_cpu=True, learning_rate=1e-4)
        >>> optimizer_settings(args)["learning_rate"]
        0.0001
    """
    names = (*_CHOICES, *_SETTINGS, "weight_decay", "learning_rates")
    return {name: copy.copy(getattr(args, name)) for name in names}


def own_optimizer_name(optimizer: Any, cls_and_kwargs: Any, scheduler: Any = None) -> str | None:
    """Return the names of the classes of the user's optimizer and schedule, `None` if there is no such optimizer.

    Args:
        optimizer: that of `optimizers=(optimizer, ...)`, if any.
        cls_and_kwargs: `optimizer_cls_and_kwargs`, if any.
        scheduler: that of `optimizers=(optimizer, scheduler)`, if any.

    Example:
        >>> own_optimizer_name(None, (dict, {})), own_optimizer_name({}, None, []), own_optimizer_name(None, None)
        ('dict', 'dict with list', None)
    """
    if optimizer is None:
        return None if cls_and_kwargs is None else getattr(cls_and_kwargs[0], "__name__", str(cls_and_kwargs[0]))
    return " with ".join(type(part).__name__ for part in (optimizer, scheduler) if part is not None)


def own_optimizer_refusals(args: Any, optimizer: Any, cls_and_kwargs: Any) -> Iterator[str]:
    """Yield why a choice of an optimizer is refused beside an optimizer of the user, one message each.

    Args:
        args: `ChartQATrainingArguments`.
        optimizer: that of `optimizers=(optimizer, ...)`, if any.
        cls_and_kwargs: `optimizer_cls_and_kwargs`, if any.
    """
    given = "optimizer_cls_and_kwargs" if optimizer is None else "optimizers=(optimizer, ...)"
    for name, value in _changed(args, unread_arguments(optimizer, cls_and_kwargs)):
        if name in _CHOICES:
            yield f"{name}={value!r} would not be used with {given}: leave one of them out"


def unread_settings(args: Any, optimizer: Any, cls_and_kwargs: Any) -> list[str]:
    """Return the settings of an optimizer that the arguments have beside one of the user, which has other values.

    A learning rate that the user has read from the arguments is no contradiction.

    Args:
        args: `ChartQATrainingArguments`.
        optimizer: that of `optimizers=(optimizer, ...)`, if any.
        cls_and_kwargs: `optimizer_cls_and_kwargs`, if any.

    Example:
        >>> import torch
        >>> from chartqa_ft import ChartQATrainingArguments
        >>> args = ChartQATrainingArguments(output_dir="out", use_cpu=True, learning_rate=1e-3, adam_beta2=0.98)
        >>> unread_settings(args, torch.optim.AdamW([torch.zeros(1)], lr=1e-3), None)
        ['adam_beta2=0.98']
    """
    groups = getattr(optimizer, "param_groups", None) or [{} if cls_and_kwargs is None else cls_and_kwargs[1]]
    return [
        f"{name}={value!r}"
        for name, value in _changed(args, unread_arguments(optimizer, cls_and_kwargs))
        if name not in _CHOICES and not any(_has(group, name, value) for group in groups)
    ]


def _changed(args: Any, names: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Yield the arguments that have another value than their default, with that value."""
    for name in names:
        value = getattr(args, name)
        value = getattr(value, "value", value)
        if value != type(args).__dataclass_fields__[name].default:
            yield name, value


def _has(settings: Mapping[str, Any], name: str, value: Any) -> bool:
    """Return whether a group of parameters has a value for an argument of transformers."""
    first, second = [*(settings.get("betas") or ()), None, None][:2]
    own = {
        "learning_rate": settings.get("initial_lr", settings.get("lr")),  # a schedule changes lr
        "weight_decay": settings.get("weight_decay"),
        "adam_beta1": first,
        "adam_beta2": second,
        "adam_epsilon": settings.get("eps"),
    }
    return bool(own[name] == value)


def optimizer_argument_refusals(args: Any) -> Iterator[str]:
    """Yield why arguments of the optimizer are refused, one message each.

    Args:
        args: `ChartQATrainingArguments`.

    Example:
        >>> from types import SimpleNamespace
        >>> chosen = {"optim": "adamw_torch", "optim_args": "momentum=0.9", "optim_target_modules": None}
        >>> next(optimizer_argument_refusals(SimpleNamespace(**chosen)))
        "optim_args='momentum=0.9' would not be used: optim='adamw_torch' reads none. Leave it out"
    """
    optim = str(getattr(args.optim, "value", args.optim))
    if args.optim_target_modules is not None and not optim.startswith(TARGETS):
        yield (
            f"optim_target_modules={args.optim_target_modules!r} would not be used: only the optimizers galore_... "
            f"and apollo_... read it, and optim is {optim!r}. Leave it out"
        )
    for name in next((names for start, names in UNREAD.items() if optim.startswith(start)), ()):
        if getattr(args, name) != type(args).__dataclass_fields__[name].default:
            yield f"{name}={getattr(args, name)!r} would not be used with optim={optim!r}: leave it out"
    if args.optim_args:
        yield from _optim_args(optim, args.optim_args)


_WORDS: dict[Callable[[str], Any], str] = {
    float: "a number",
    int: "a whole number",
    _on: "true, or be left out",
}


def _optim_args(optim: str, text: str) -> Iterator[str]:
    read = OPTIM_ARGS.get(optim, {})
    if read == {}:
        yield f"optim_args={text!r} would not be used: optim={optim!r} reads none. Leave it out"
        return
    seen = set()
    for part in text.replace(" ", "").split(","):
        name, equals, value = part.partition("=")
        if not name or not equals or not value or "=" in value:
            yield f"optim_args={text!r} has {part!r}: write name=value, separated by commas"
        elif name in seen:
            yield f"optim_args={text!r} has {name} twice: leave one of them out"
        elif read is not None and name not in read:
            yield f"optim_args={text!r} has {name}, which optim={optim!r} does not read, but {', '.join(read)}"
        elif read is not None:
            try:
                read[name](value)
            except ValueError:
                kind = _WORDS.get(read[name], "true or false")
                yield f"optim_args={text!r}: {name} must be {kind}, got {value!r}"
        seen.add(name)
