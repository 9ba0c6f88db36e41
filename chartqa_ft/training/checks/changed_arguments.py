"""Arguments of a trainer that were changed after it was created: they take effect, or are refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..copying import own_copy
from .argument_values import refusals
from .findings import CheckContext, Finding, register_check

FIXED_ARGUMENTS = (
    *("freeze", "bf16", "fp16", "use_cpu", "accelerator_config", "generation_config", "report_to"),
    "neftune_noise_alpha",
)
"""Arguments that are read when the trainer or its arguments are created."""

BEST_ARGUMENTS = ("metric_for_best_model", "greater_is_better")
"""Arguments that are checked, and completed from each other, when the arguments and the trainer are created."""

MODEL_ARGUMENTS = ("activation_checkpointing", "chunk_encoder", "torch_compile", "torch_compile_mode")
"""Arguments that only the trials of a search, which needs `model_init`, read again."""


@register_check(first=True)
def check_values(context: CheckContext) -> Iterator[Finding]:
    """Find values that are refused when arguments are created, in arguments that were changed since then."""
    trainer = context.trainer
    earlier = set(_refused(trainer.made_with))
    changed = own_copy(trainer.args)
    for name in FIXED_ARGUMENTS:  # no value of them would have an effect
        setattr(changed, name, getattr(trainer.made_with, name))
    for message in dict.fromkeys(_refused(changed)):
        if message not in earlier:
            yield Finding("args", "error", message)


@register_check()
def check_changed_arguments(context: CheckContext) -> Iterator[Finding]:
    """Find arguments that were changed too late; those of the collators take effect."""
    trainer = context.trainer
    if trainer.args is not trainer.own_parts["args"]:
        return  # check_replaced_parts says so
    names = FIXED_ARGUMENTS if trainer.model_init is not None else (*FIXED_ARGUMENTS, *MODEL_ARGUMENTS)
    for name in names:
        if getattr(trainer.args, name) != getattr(trainer.made_with, name):
            yield Finding(
                name,
                "error",
                f"trainer.args.{name} was changed after the trainer was created, which has no effect",
                f"create a new trainer with ChartQATrainingArguments({name}=...)",
            )
    for name in BEST_ARGUMENTS:
        if getattr(trainer.args, name) != getattr(trainer.made_with, name):
            yield Finding(
                name,
                "error",
                f"trainer.args.{name} was changed after the trainer was created, when the metric and its direction "
                "were checked and completed",
                f"create a new trainer with ChartQATrainingArguments({name}=...)",
            )
    if trainer.data_collator is trainer.own_parts["data_collator"]:
        try:
            trainer._renew_collators()
        except ValueError as error:
            yield Finding("args", "error", str(error))


def _refused(args: Any) -> Iterator[str]:
    try:
        yield from refusals(args)
    except ValueError as error:  # an unknown variant of the metric
        yield str(error)
