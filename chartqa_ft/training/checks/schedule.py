"""What happens when in a training run: warm-up, evaluations and saves."""

from __future__ import annotations

import math
from collections.abc import Iterator

from transformers import EarlyStoppingCallback

from ..arguments import ChartQATrainingArguments
from ..schedule import steps_of_run
from .findings import CheckContext, Finding, register_check


@register_check("train")
def check_schedule(context: CheckContext) -> Iterator[Finding]:
    """Find a warm-up or an `eval_delay` beyond the end of the run, and arguments that a strategy does not read."""
    trainer, args = context.trainer, context.trainer.args
    per_epoch, total = steps_of_run(context.records, args, args.world_size)
    if args.learning_rate == 0 and trainer.optimizer is None and trainer.optimizer_cls_and_kwargs is None:
        yield Finding("learning_rate", "warning", "learning_rate=0 trains nothing", "choose one, such as 5e-5")
    for strategy, name in (("eval_strategy", "eval_steps"), ("save_strategy", "save_steps")):
        default = type(args).__dataclass_fields__[name].default
        if getattr(args, strategy) != "steps" and getattr(args, name) not in (None, default):
            chosen = getattr(getattr(args, strategy), "value", getattr(args, strategy))
            yield Finding(
                name,
                "warning",
                f"{name}={getattr(args, name)} is not used with {strategy}={chosen!r}",
                f"set {strategy}='steps', or leave it out",
            )
    if not total:
        return
    if not args.warmup_is_default and args.warmup_steps > total and trainer.own_parts["lr_scheduler"] is None:
        yield Finding(
            "warmup_steps",
            "error",
            f"warmup_steps={args.warmup_steps:g} does not end within the {total} steps of the run, so that the "
            f"learning rate never reaches {args.learning_rate:g}",
            f"choose fewer than {total} steps, or a share below 1",
        )
    yield from _evaluations(args, per_epoch, total)


def _evaluations(args: ChartQATrainingArguments, per_epoch: int | None, total: int) -> Iterator[Finding]:
    if args.eval_strategy == "steps":
        last, unit = float(total), "steps"  # upstream also evaluates after the last step
        every = args.eval_steps if args.eval_steps and args.eval_steps >= 1 else 1
        if every > total >= args.eval_delay:
            yield Finding(
                "eval_steps",
                "warning",  # the default of a script, in a run that is short on purpose
                f"eval_strategy='steps' with eval_steps={every:g} evaluates only after the last of the {total} steps",
                f"set eval_steps to less than {total}, or to a share below 1, to evaluate earlier",
            )
    elif args.eval_strategy == "epoch":
        last = total / per_epoch if per_epoch else math.inf
        unit = "epochs"
    else:
        return
    if args.eval_delay > last:
        yield Finding(
            "eval_delay",
            "error",
            f"eval_delay={args.eval_delay:g} lies beyond the last evaluation, after {last:g} {unit}",
            "choose a shorter delay",
        )


@register_check("train")
def check_early_stopping(context: CheckContext) -> Iterator[Finding]:
    """Find an `EarlyStoppingCallback` that has nothing to look at."""
    trainer = context.trainer
    if not any(isinstance(callback, EarlyStoppingCallback) for callback in trainer.callback_handler.callbacks):
        return
    if trainer.args.eval_strategy == "no" or trainer.args.metric_for_best_model is None:
        yield Finding(
            "callbacks",
            "error",
            "EarlyStoppingCallback needs evaluations and a metric",
            "set eval_strategy and metric_for_best_model='relaxed_accuracy'",
        )
