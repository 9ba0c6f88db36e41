"""Checks of a model before training: what the trainer would leave out is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ...adapters import base_model
from ...models.origin import origin_of
from ...models.peft_state import check_mergeable, check_peft_state
from ..arguments import ChartQATrainingArguments
from .findings import CheckContext, Finding, register_check

_NOT_IN_FLOAT64 = ("kosmos-2",)
"""Families whose masks are made in float32 from the smallest number of the model's dtype."""


def check_training_model(model: nn.Module, args: ChartQATrainingArguments) -> None:
    """Refuse a model of which not all would be trained, saved or evaluated.

    Args:
        model: the model of the trainer, with its PEFT weights if it has any.
        args: the training arguments.

    Raises:
        ValueError: the message names what would be left out and what to do.
    """
    check_peft_state(model)
    if args.push_merged:
        check_mergeable(model)
    check_router_loss(model)
    check_dtypes(model, args)


def check_router_loss(model: nn.Module) -> None:
    """Refuse a mixture of experts whose config asks for the auxiliary loss of its routers.

    The loss of the trainer is that of the answer tokens. Upstream would add the load balancing loss to it.

    Raises:
        ValueError: `output_router_logits` is set in a config.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> check_router_loss(tiny_unichart("test", image_size=64, window_size=4)[0])
    """
    for name, config in _configs(base_model(model).config):
        if getattr(config, "output_router_logits", False):
            raise ValueError(
                f"{name}.output_router_logits=True asks for the auxiliary loss of the routers, which is not part of "
                f"the loss here: set model.{name}.output_router_logits = False"
            )


def check_dtypes(model: nn.Module, args: ChartQATrainingArguments) -> None:
    """Refuse dtypes in which the model or its training fails.

    Raises:
        ValueError: a trainable weight is in float16 and `fp16` is set, so that its gradients cannot be unscaled; or a
            model is in float64 and its code is not made for that.

    Example:
        >>> check_dtypes(nn.Linear(2, 2), ChartQATrainingArguments(output_dir="out", report_to="none"))
    """
    family = getattr(getattr(base_model(model), "config", None), "model_type", None)
    if family in _NOT_IN_FLOAT64 and base_model(model).dtype == torch.float64:
        raise ValueError(
            f"the code of {family} in transformers fails in float64: use dtype=torch.float32 or torch.bfloat16"
        )
    if not args.fp16:
        return
    for name, weight in model.named_parameters():
        if weight.requires_grad and weight.dtype == torch.float16:
            raise ValueError(
                f"{name} is trained in float16, and fp16=True cannot unscale its gradients: load the model with "
                "dtype=torch.float32; fp16 then computes in 16 bits and updates in 32"
            )


def _configs(config: Any, name: str = "config") -> Iterator[tuple[str, Any]]:
    """Yield a config and its nested ones, each with its name as an attribute of the model."""
    yield name, config
    for part in getattr(config, "sub_configs", {}):
        inner = getattr(config, part, None)
        if hasattr(inner, "sub_configs"):
            yield from _configs(inner, f"{name}.{part}")


@register_check("train")
def check_base_config(context: CheckContext) -> Iterator[Finding]:
    """Find a config of the base model that PEFT weights are trained for, and that their checkpoint would not have."""
    model = context.trainer.model
    origin = origin_of(model)
    if origin is not None and origin.changed and hasattr(model, "peft_config"):
        yield Finding(
            "model",
            "error",
            f"the base model was loaded with {', '.join(origin.changed)}, which differs from its checkpoint "
            f"{origin.name}, and which a PEFT checkpoint does not store",
            "save the model and its processor to a folder first (save_pretrained), and train from there",
        )


@register_check("train")
def check_trainable(context: CheckContext) -> Iterator[Finding]:
    """Find a model of which nothing would be trained, and weights that would be trained in 16 bits."""
    model = context.trainer.model
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    narrow = {parameter.dtype for parameter in trained if parameter.dtype in (torch.bfloat16, torch.float16)}
    if narrow:
        yield Finding(
            "model",
            "warning",
            f"weights are trained in {' and '.join(sorted(map(_short, narrow)))}, where most updates of a fine-tuning "
            "are rounded away",
            "load the model with dtype=torch.float32 and leave the 16 bits to mixed precision",
        )
    if trained:
        return
    if context.trainer.args.freeze:
        yield Finding(
            "freeze",
            "error",
            f"freeze={list(context.trainer.args.freeze)!r} leaves no weight to train",
            "leave out the parts to train"
            + (
                "; PEFT weights are in the language model, unless vision=True of default_lora_config adds some"
                if hasattr(model, "peft_config")
                else ", and call model.requires_grad_(True) if all weights were frozen before"
            ),
        )
    elif hasattr(model, "peft_config"):
        yield Finding(
            "model",
            "error",
            "none of the PEFT weights is trainable",
            "load them with load_checkpoint(..., trainable=True), or with merge=True and a new peft_config",
        )
    else:
        yield Finding(
            "model",
            "error",
            "none of the model's weights is trainable: requires_grad is False for all of them",
            "call model.requires_grad_(True), or pass peft_config=default_lora_config(model)",
        )


@contextmanager
def explaining_dtypes(model: nn.Module) -> Iterator[None]:
    """Name the dtypes of a model in errors within this context that come from weights of several ones.

    Some models convert between their parts, so that only the first batch shows which do not.

    Raises:
        ValueError: in place of a `RuntimeError` about dtypes.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2).bfloat16(), nn.Linear(2, 2))
        >>> with explaining_dtypes(model):
        ...     model(torch.zeros(1, 2, dtype=torch.bfloat16))
        Traceback (most recent call last):
        ...
        ValueError: the model has weights in bfloat16 (such as 0.weight) and float32 (such as 1.weight), which it \
does not convert (mat1 and mat2 must have the same dtype, but got BFloat16 and Float): load it in one dtype, such as \
dtype=torch.float32, or use bf16=True
    """
    try:
        yield
    except RuntimeError as error:
        found: dict[torch.dtype, str] = {}
        for name, weight in model.named_parameters():
            if weight.is_floating_point():
                found.setdefault(weight.dtype, name)
        about_types = any(word in str(error) for word in ("dtype", "scalar type", "Input type"))
        if len(found) < 2 or not about_types:
            raise
        shown = " and ".join(f"{_short(kind)} (such as {name})" for kind, name in found.items())
        raise ValueError(
            f"the model has weights in {shown}, which it does not convert ({error}): load it in one dtype, such as "
            "dtype=torch.float32, or use bf16=True"
        ) from error


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
