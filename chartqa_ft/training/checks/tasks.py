"""Tasks beside `qa`: those of the records are known and can be asked for, and their arguments are used."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import datasets

from ...adapters.tasks.task import QA_NAME
from ...batching.records import as_records
from ...files import parse_json
from .findings import CheckContext, Finding, register_check
from .hooks import replaces_loss


def task_names(data: Any) -> list[str]:
    """Return the tasks that the records of a data set name, as far as that is known without their pictures.

    Example:
        >>> chart = {"image": "a.png", "question": "Red?", "answer": "3"}
        >>> task_names([chart, {"image": "a.png", "task": "table", "answer": "a | b"}])
        ['table']
    """
    if isinstance(data, Mapping):
        return list(dict.fromkeys(name for part in data.values() for name in task_names(part)))
    if isinstance(data, datasets.Dataset) and data.format["type"] != "custom":
        found = data.unique("task") if "task" in data.column_names else []
    elif type(data) in (list, tuple):
        found = list(dict.fromkeys(record.get("task") for record in as_records(data)))
    else:
        return []
    return [name for name in found if name]


def task_refusals(args: Any) -> Iterator[str]:
    """Yield what is wrong with the arguments of tasks.

    Args:
        args: `ChartQATrainingArguments`.
    """
    for name in ("task_weights", "task_max_new_tokens"):
        value = getattr(args, name)
        given = _parsed(value)
        if not isinstance(given, Mapping):
            continue
        for task, number in given.items():
            is_number = isinstance(number, (int, float)) and not isinstance(number, bool) and math.isfinite(number)
            if name == "task_weights" and not (is_number and number >= 0):
                yield f"{name}[{task!r}] must be a number of at least 0, got {number!r}"
            if name == "task_max_new_tokens" and not (is_number and number >= 1 and number == int(number)):
                yield f"{name}[{task!r}] must be a whole number of at least 1, got {number!r}"
            if name == "task_max_new_tokens" and task == QA_NAME:
                yield f"{name} has 'qa': set generation_max_new_tokens"
    if args.task_max_new_tokens and not args.predict_with_generate:
        yield "task_max_new_tokens is not used with predict_with_generate=False: leave one of them out"


def _parsed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return parse_json(value)
    except ValueError:
        return None  # the check of types says so


@register_check()
def check_tasks(context: CheckContext) -> Iterator[Finding]:
    """Find tasks of records and arguments that there are not, or that the model cannot be asked for."""
    trainer, adapter = context.trainer, context.trainer.adapter
    data = [context.records]
    if context.call == "train" and (trainer.args.eval_strategy != "no" or trainer.args.eval_on_start):
        data.append(trainer.eval_dataset)
    for name in dict.fromkeys(name for part in data for name in task_names(part)):
        try:
            adapter.bound_task(name)
        except (ValueError, ImportError) as error:
            message, _, advice = str(error).partition(": ")
            yield Finding("task", "error", message, advice)
    if adapter.task != QA_NAME and context.records is not None and not task_names(context.records):
        yield Finding(
            "task",
            "warning",
            f"the records name no task, and are taken for {adapter.task!r}, the task of this checkpoint",
            "for short answers load them with load_chartqa(..., task='qa'), or the model with task='qa'",
        )
    for argument in ("task_weights", "task_max_new_tokens"):
        unknown = [name for name in getattr(trainer.args, argument) or {} if name not in adapter.known_tasks()]
        if unknown:
            known = ", ".join(adapter.known_tasks())
            message = f"{argument} has {', '.join(map(repr, unknown))}, and the tasks are {known}"
            yield Finding(argument, "error", message, "correct the name, or register the task first")
    if trainer.args.task_weights and replaces_loss(trainer):
        message = "task_weights would not be used by the own compute_loss"
        yield Finding("task_weights", "error", message, "leave it out, or weight the losses there")
