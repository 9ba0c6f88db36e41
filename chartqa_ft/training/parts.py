"""`freeze` and `learning_rates`: which parts of a model are trained, and each at which rate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from ..files import parse_json
from ..models.parts import PARTS, check_parts, model_parts

__all__ = ["as_rates", "check_rates", "logged_rates", "part_refusals", "parts_line", "set_rates"]

_KEY = "part"
"""The entry of an optimizer's parameter group that names its part."""


def as_rates(value: Mapping[str, Any] | str | None) -> dict[str, float] | None:
    """Return learning rates that may be given as JSON, with numbers that YAML reads as text; `None` for none.

    Raises:
        ValueError: The JSON is damaged, or a rate is no number.

    Example:
        >>> as_rates('{"vision": 1e-5}'), as_rates({"vision": "1e-5"}), as_rates({})
        ({'vision': 1e-05}, {'vision': 1e-05}, None)
    """
    given = parse_json(value) if isinstance(value, str) else value
    return {name: float(rate) for name, rate in given.items()} if given else None


def part_refusals(args: Any) -> Iterator[str]:
    """Yield what is wrong with `freeze` and `learning_rates`, whatever the model is.

    Args:
        args: `ChartQATrainingArguments`.
    """
    frozen = [args.freeze] if isinstance(args.freeze, str) else list(args.freeze or ())
    try:
        rates = parse_json(args.learning_rates) if isinstance(args.learning_rates, str) else args.learning_rates or {}
    except ValueError:
        return  # the check of types says so
    for argument, names in (("freeze", frozen), ("learning_rates", rates)):
        for name in names:
            if name not in PARTS:
                yield f"{argument} has {name!r}, which is no part of a model: the parts are {', '.join(PARTS)}"
    for name, rate in rates.items():
        try:
            good = not isinstance(rate, bool) and math.isfinite(float(rate)) and float(rate) >= 0
        except (TypeError, ValueError, OverflowError):
            good = False
        if not good:
            yield f"learning_rates[{name!r}] must be a number of at least 0, got {rate!r}"
        if name in frozen:
            yield f"{name} is in freeze and in learning_rates: leave it out of one of them"
    if set(frozen) >= set(PARTS):
        yield "freeze has all parts, so that nothing would be trained: leave out those to train"


def check_rates(model: nn.Module, args: Any, optimizer: Any = None) -> None:
    """Check that the learning rates of `args` can be used for a model.

    Args:
        model: The model of the trainer, with its PEFT weights and after parts were frozen.
        args: `ChartQATrainingArguments`.
        optimizer: The optimizer that the trainer was given; `None` if it creates one.

    Raises:
        ValueError: The model lacks a part, none of the weights of a part is trained, or the optimizer has learning
            rates of its own.
    """
    rates = as_rates(args.learning_rates)
    if rates is None:
        return
    if optimizer is not None:
        raise ValueError(
            "learning_rates would not be used with optimizers=(optimizer, ...): give the optimizer parameter groups "
            "of your own, or pass optimizer_cls_and_kwargs in place of it"
        )
    if _creates_optimizer(getattr(args, "deepspeed_plugin", None)):
        raise ValueError(
            "learning_rates would not be used: the configuration of DeepSpeed has an optimizer of its own. Leave its "
            '"optimizer" section out, so that the optimizer of the arguments is used, or leave learning_rates out'
        )
    check_parts(model, rates, "learning_rates")
    parts = model_parts(model)
    idle = [name for name in rates if not any(weight.requires_grad for weight in parts[name])]
    if idle:
        add = " (vision=True of default_lora_config adds LoRA to the vision tower)" if "vision" in idle else ""
        advice = f"none of its weights is trained: leave it out{add if hasattr(model, 'peft_config') else ''}"
        raise ValueError(f"learning_rates has {', '.join(map(repr, idle))}, but {advice}")


def _creates_optimizer(plugin: Any) -> bool:
    """Return whether DeepSpeed creates the optimizer, from its plugin of accelerate."""
    config = getattr(getattr(plugin, "hf_ds_config", None), "config", None) or {}
    return "optimizer" in config


def set_rates(optimizer: Any, model: nn.Module, rates: Mapping[str, float]) -> None:
    """Split the parameter groups of a new optimizer by part, and give each part its learning rate.

    The other settings of a group, such as its weight decay, stay as they are. Groups without a rate of their own come
    first, because upstream logs the learning rate of the first group.

    Args:
        optimizer: The optimizer, before its first step and without a schedule.
        model: The model whose parameters it has.
        rates: Part -> learning rate.

    Raises:
        ValueError: The optimizer has no parameter groups with the parameters of the model.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> model, _ = tiny_unichart("test", image_size=64, window_size=4)
        >>> optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.1)
        >>> set_rates(optimizer, model, {"vision": 1e-5})
        >>> [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
        [(5e-05, 0.1), (1e-05, 0.1)]
    """
    part_of = {id(weight): name for name, weights in model_parts(model).items() for weight in weights}
    groups = optimizer.param_groups if isinstance(optimizer, torch.optim.Optimizer) else []
    held = {id(weight) for group in groups for weight in group["params"]}
    if not {id(weight) for weight in model.parameters() if weight.requires_grad} <= held:
        raise ValueError(
            f"learning_rates would not be used by {type(optimizer).__name__}, which has no parameter groups of the "
            "model: leave learning_rates out, or use another optimizer, such as optim='adamw_torch'"
        )
    split: list[dict[str, Any]] = []
    for group in groups:
        by_part: dict[str, list[nn.Parameter]] = {}
        for weight in group["params"]:
            part = part_of.get(id(weight), "")
            by_part.setdefault(part if part in rates else "", []).append(weight)
        for part, weights in by_part.items():
            own = {"lr": rates[part], _KEY: part} if part else {}
            split.append({**group, "params": weights, **own})
    optimizer.param_groups[:] = sorted(split, key=lambda group: _KEY in group)


def logged_rates(optimizer: Any) -> dict[str, float]:
    """Return the current learning rates of parts that have their own, as they are logged.

    Example:
        >>> optimizer = torch.optim.SGD([{"params": [torch.zeros(1)], "part": "vision"}], lr=0.1)
        >>> logged_rates(optimizer)
        {'learning_rate_vision': 0.1}
    """
    groups = getattr(optimizer, "param_groups", ())
    return {f"learning_rate_{group[_KEY]}": float(group["lr"]) for group in groups if _KEY in group}


def parts_line(model: nn.Module, args: Any, own_optimizer: Any = None) -> str | None:
    """Return which parts are trained, and each at which learning rate; `None` without `freeze` and `learning_rates`.

    Args:
        model: The model of the trainer.
        args: `ChartQATrainingArguments`.
        own_optimizer: `optimizer_cls_and_kwargs` of the trainer, whose `lr` replaces `learning_rate`.

    Example:
        >>> from types import SimpleNamespace
        >>> from chartqa_ft import tiny_unichart
        >>> model, _ = tiny_unichart("test", image_size=64, window_size=4)
        >>> args = SimpleNamespace(freeze=["vision"], learning_rates=None, learning_rate=5e-5)
        >>> _ = model.encoder.requires_grad_(False)
        >>> parts_line(model, args)
        'parts: vision is frozen; language has 40,992 parameters to train at learning rate 5e-05'
    """
    rates = as_rates(args.learning_rates) or {}
    if not (args.freeze or rates):
        return None
    default = args.learning_rate if own_optimizer is None else own_optimizer[1].get("lr")
    facts = []
    for name, weights in model_parts(model).items():
        trained = sum(weight.numel() for weight in weights if weight.requires_grad)
        rate = rates.get(name, default)
        at = "" if rate is None else f" at learning rate {rate:g}"
        facts.append(f"{name} has {trained:,} parameters to train{at}" if trained else f"{name} is frozen")
    return f"parts: {'; '.join(facts)}"
