"""Checks of what happens when in a training run: steps, warm-up, evaluations and saves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from transformers import EarlyStoppingCallback

from .arguments import RECIPE_WARMUP, ChartQATrainingArguments
from .check import CheckContext, Finding, register_check


def batches_per_epoch(rows: int, args: ChartQATrainingArguments, num_processes: int) -> int:
    """Return the number of batches that each rank gets in an epoch of a data set of `rows` records."""
    together = args.train_batch_size * num_processes
    return rows // together if args.dataloader_drop_last else -(-rows // together)


def steps_of_run(records: Any, args: ChartQATrainingArguments, num_processes: int) -> tuple[int | None, int | None]:
    """Return the optimizer steps of an epoch and of the whole run, `None` where they are not known beforehand."""
    per_epoch = None
    if hasattr(records, "__len__"):
        batches = batches_per_epoch(len(records), args, num_processes)
        per_epoch = -(-batches // args.gradient_accumulation_steps)
    if args.max_steps > 0:
        return per_epoch, args.max_steps
    if per_epoch is None:
        return None, None
    return per_epoch, math.ceil(args.num_train_epochs * per_epoch)


def settle_warmup(args: ChartQATrainingArguments, records: Any, num_processes: int) -> None:
    """Set `warmup_steps` for a run of few epochs, if the user did not: a tenth of the steps, and at most the recipe's.

    Whether an epoch has enough steps is known only with the training data.
    """
    _, total = steps_of_run(records, args, num_processes)
    if args.warmup_is_default and total:
        args.warmup_steps = total // 10 if total <= RECIPE_WARMUP else RECIPE_WARMUP


def as_choice(resume: str | bool | None) -> str | bool | None:
    """Return the argument `resume_from_checkpoint` as `train` takes it: from a command line, "True" is a str.

    Example:
        >>> as_choice("last"), as_choice("false"), as_choice("out/checkpoint-8")
        (True, None, 'out/checkpoint-8')
    """
    words = {"true": True, "last": True, "false": None, "none": None, "": None}
    return words.get(resume.lower(), resume) if isinstance(resume, str) else resume


@register_check("train")
def check_records(context: CheckContext) -> Iterator[Finding]:
    """Find training data from which no step can be made."""
    args, records = context.trainer.args, context.records
    if records is None:
        return  # get_train_dataloader says so
    if isinstance(records, Mapping):
        yield Finding(
            "train_dataset",
            "error",
            f"train_dataset is a dict of data sets ({', '.join(map(str, records))})",
            "pass one of them, such as dataset['train']",
        )
    elif not hasattr(records, "__len__"):
        return
    elif not len(records):
        yield Finding("train_dataset", "error", "train_dataset is empty", "load records to train on")
    elif not batches_per_epoch(len(records), args, args.world_size):
        together = args.train_batch_size * args.world_size
        yield Finding(
            "dataloader_drop_last",
            "error",
            f"dataloader_drop_last=True leaves no batch: the {len(records)} records are fewer than the {together} "
            "rows of a batch on all ranks",
            "leave it False, or choose a smaller per_device_train_batch_size",
        )


@register_check("evaluate", "predict")
def check_evaluated_records(context: CheckContext) -> Iterator[Finding]:
    """Find empty evaluation data."""
    parts = context.records if isinstance(context.records, Mapping) else {"": context.records}
    for name, records in parts.items():
        if hasattr(records, "__len__") and not isinstance(records, str) and not len(records):
            what = f"the evaluation data set {name!r}" if name else "the evaluation data set"
            yield Finding("eval_dataset", "error", f"{what} is empty", "load records to evaluate")


@register_check("train")
def check_eval_data_of_training(context: CheckContext) -> Iterator[Finding]:
    """Find evaluations during training for which there is no data, or an empty data set."""
    trainer = context.trainer
    if trainer.args.eval_strategy == "no" and not trainer.args.eval_on_start:
        return
    if trainer.eval_dataset is None:
        yield Finding(
            "eval_on_start" if trainer.args.eval_strategy == "no" else "eval_strategy",
            "error",
            "evaluations during training need an eval_dataset",
            "pass one, or set eval_strategy='no' and eval_on_start=False",
        )
    else:
        yield from check_evaluated_records(CheckContext(trainer, "evaluate", trainer.eval_dataset))


@register_check("train")
def check_schedule(context: CheckContext) -> Iterator[Finding]:
    """Find a warm-up or evaluations beyond the end of the run, and arguments that a strategy does not read."""
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
    if args.eval_strategy == "steps" and args.eval_steps is not None:
        every = math.ceil(total * args.eval_steps) if args.eval_steps < 1 else int(args.eval_steps)
        last: float = total // every * every
        unit = "steps"
        if not last:
            yield Finding(
                "eval_steps",
                "warning",  # the default of a script, in a run that is short on purpose
                f"eval_strategy='steps' with eval_steps={every} evaluates nothing within the {total} steps of the run",
                f"set eval_steps to {total} or less, or to a share below 1",
            )
            return
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
