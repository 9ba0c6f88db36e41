"""Checks of an optimizer and a scheduler that the user created: they must hold the weights that are trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from .findings import CheckContext, Finding, register_check
from .optimizer_arguments import unread_settings

_NEW_OPTIMIZER = (
    "pass optimizer_cls_and_kwargs=(torch.optim.AdamW, {'lr': 1e-4}) in place of optimizers, or add the PEFT weights "
    "first (model = get_peft_model(model, config)), create the optimizer of the result and leave out peft_config"
)


def optimizer_findings(model: nn.Module, optimizer: Any, scheduler: Any) -> Iterator[Finding]:
    """Yield what is wrong with `optimizers=(optimizer, scheduler)` for the weights of a model.

    Args:
        model: the model that is trained, with its PEFT weights if it has any.
        optimizer: the optimizer; `None` if the trainer creates it.
        scheduler: the learning-rate schedule; `None` if the trainer creates it.

    Example:
        >>> import torch
        >>> model, other = nn.Linear(2, 2), nn.Linear(2, 2)
        >>> [finding.level for finding in optimizer_findings(model, torch.optim.SGD(model.parameters()), None)]
        []
        >>> [finding.level for finding in optimizer_findings(model, torch.optim.SGD(other.parameters()), None)]
        ['error']
    """
    if scheduler is not None:
        bound = getattr(scheduler, "optimizer", None)
        if optimizer is None or (bound is not None and bound is not getattr(optimizer, "optimizer", optimizer)):
            whose = "an optimizer that is not used" if optimizer is None else "another optimizer"
            yield Finding(
                "optimizers",
                "error",
                f"the scheduler in optimizers changes the learning rate of {whose}",
                "pass optimizers=(optimizer, scheduler) with the optimizer that the scheduler was created for",
            )
    if optimizer is None or not hasattr(optimizer, "param_groups"):
        return
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    trainable = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    peft = hasattr(model, "peft_config")
    foreign = len(held - set(names))
    if foreign:
        yield Finding(
            "optimizers",
            "error",
            f"{foreign} of the {len(held)} parameters of the optimizer in optimizers are not in the model",
            "create the optimizer of model.parameters(), of the very model that the trainer gets",
        )
    elif not held & trainable or (peft and trainable - held):
        missing = len(trainable - held)
        yield Finding(
            "optimizers",
            "error",
            f"the optimizer in optimizers lacks {missing} of the {len(trainable)} trainable parameters"
            + (" (it was created before the weights of peft_config were added)" if peft else ""),
            _NEW_OPTIMIZER if peft else "create the optimizer of the parameters whose requires_grad is True",
        )
    elif trainable - held:
        example = names[min(trainable - held, key=lambda key: names[key])]
        yield Finding(
            "optimizers",
            "warning",
            f"the optimizer in optimizers lacks {len(trainable - held)} of the {len(trainable)} trainable parameters, "
            f"such as {example}, which stay as they are",
            "set their requires_grad to False if this is meant: it saves memory",
        )


@register_check("train")
def check_optimizer(context: CheckContext) -> Iterator[Finding]:
    """Find an optimizer that does not hold the trainable weights, such as one from before PEFT weights were added."""
    trainer = context.trainer
    # Sharded models have other parameters than those that the optimizer was created for, until it is prepared.
    if trainer.args.uses_fsdp or trainer.args.uses_deepspeed or trainer.model_init is not None:
        return
    # A scheduler that is not the one passed was created by an earlier call of train(), and is created anew.
    given = trainer.lr_scheduler is trainer.own_parts["lr_scheduler"]
    yield from optimizer_findings(trainer.model, trainer.optimizer, trainer.lr_scheduler if given else None)


@register_check("train")
def check_unread_settings(context: CheckContext) -> Iterator[Finding]:
    """Find arguments of an optimizer beside one of the user that has other values."""
    trainer, args = context.trainer, context.trainer.args
    if args.uses_deepspeed:  # its configuration may read them
        return
    given = "optimizer_cls_and_kwargs" if trainer.own_parts["optimizer"] is None else "optimizers"
    unread = unread_settings(args, trainer.own_parts["optimizer"], trainer.optimizer_cls_and_kwargs)
    if unread:
        yield Finding(
            given,
            "warning",
            f"{', '.join(unread)} of the arguments would not be used, because {given} has other values",
            "set them there, or leave them out",
        )


@register_check("train")
def check_engine(context: CheckContext) -> Iterator[Finding]:
    """Find a model that DeepSpeed has prepared for evaluation alone, without an optimizer."""
    trainer = context.trainer
    prepared = trainer.is_deepspeed_enabled and trainer.deepspeed is not None
    if prepared and trainer.accelerator.deepspeed_engine_wrapped is None:
        yield Finding(
            "deepspeed",
            "error",
            "evaluate() or predict() before train() has prepared the model for DeepSpeed without an optimizer",
            "create a new trainer for the training; eval_on_start=True evaluates before the first step",
        )


@contextmanager
def explaining_optimizer(trainer: Any) -> Iterator[None]:
    """Name the arguments of the trainer in errors of an optimizer that is created within this context.

    Raises:
        ValueError: in place of a `TypeError` or `ValueError` of the optimizer.
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        own, args = trainer.optimizer_cls_and_kwargs, trainer.args
        if own is not None:
            what = f"optimizer_cls_and_kwargs=({getattr(own[0], '__name__', own[0])}, {own[1]!r})"
        else:
            what = f"optim={getattr(args.optim, 'value', args.optim)!r}"
            what += f" with optim_args={args.optim_args!r}" if args.optim_args else ""
        raise ValueError(f"{what} cannot be created ({type(error).__name__}: {error}): correct its values") from error
