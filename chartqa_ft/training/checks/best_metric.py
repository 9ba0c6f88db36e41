"""`metric_for_best_model`: a metric that the evaluations have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from ...adapters.tasks.registry import registered_tasks, task_named
from ...adapters.tasks.task import QA_NAME, Task
from ...adapters.text import has_answer
from ...batching.records import Records, as_records, column, has_answers, is_stream
from ...metrics.accuracy import relaxed_accuracy
from .findings import CheckContext, Finding, register_check
from .hooks import overridden
from .tasks import task_names

_OWN = ("loss", "relaxed_accuracy", "accuracy_lenient", "accuracy_strict_year")

_PARTS = re.compile(r"relaxed_accuracy_(human|augmented|mean_of_splits|(source|type)_\w+)(_ci_low|_ci_high)?")

_TIMES = ("runtime", "samples_per_second", "steps_per_second")
"""Measured by each process for itself: processes would choose different checkpoints."""

_TRIED = 4
"""References that a task scores to tell the names of its metrics."""

_SHARES = ["trailing_dot", "percent", "comma", "dollar", "empty", "unparsable_number", "decimal_comma", "extracted"]


def check_best_metric(name: str, eval_dataset: Any, own_metrics: bool) -> None:
    """Refuse a `metric_for_best_model` that no evaluation will have, before training begins.

    Args:
        name: name of the metric, with or without `eval_`.
        eval_dataset: the evaluation data of the trainer. For a dict, the name must say which data set is meant.
        own_metrics: whether there is a `compute_metrics`, which may add other names.

    Raises:
        ValueError: no evaluation has a metric of this name.

    Example:
        >>> check_best_metric("relaxed_acuracy", eval_dataset=None, own_metrics=False)
        Traceback (most recent call last):
        ...
        ValueError: no evaluation has metric_for_best_model='relaxed_acuracy': try 'relaxed_accuracy' or 'loss'
    """
    short = name.removeprefix("eval_")
    if short.endswith(_TIMES):
        raise ValueError(f"metric_for_best_model={name!r} is a time and says nothing of a model: try 'loss'")
    if isinstance(eval_dataset, dict):
        # "val" and "val_human": the longest name wins, unless only a shorter one leaves a metric.
        parts = sorted((key for key in eval_dataset if short.startswith(f"{key}_")), key=lambda key: -len(str(key)))
        if not parts:
            names = ", ".join(f"{key}_relaxed_accuracy" for key in eval_dataset)
            raise ValueError(f"metric_for_best_model={name!r} must say of which data set: {names}")
        metrics = [short.removeprefix(f"{part}_") for part in parts]
        of_parts = {part: [*task_names(eval_dataset[part]), *registered_tasks()] for part in parts}
        pairs = zip(parts, metrics, strict=True)
        if own_metrics or any(_is_metric(metric) or _is_of_task(metric, of_parts[part]) for part, metric in pairs):
            return
        raise ValueError(
            f"no evaluation has metric_for_best_model={name!r}: try '{parts[0]}_relaxed_accuracy' or '{parts[0]}_loss'"
        )
    tasks = [*task_names(eval_dataset), *registered_tasks()]
    if not _is_metric(short) and not own_metrics and not _is_of_task(short, tasks):
        raise ValueError(f"no evaluation has metric_for_best_model={name!r}: try 'relaxed_accuracy' or 'loss'")


def _is_metric(name: str) -> bool:
    return name in _OWN or _PARTS.fullmatch(name) is not None or name.removeprefix("share_") in _SHARES


def _is_of_task(name: str, tasks: Iterable[str]) -> bool:
    """Return whether a metric may be one of a task's; `check_metric_of_records` asks the task itself."""
    return any(name.startswith(f"{task}_") for task in tasks if task != QA_NAME)


@register_check("train")
def check_metric_of_records(context: CheckContext) -> Iterator[Finding]:
    """Find a `metric_for_best_model` that the evaluation data do not give: the accuracy of an absent source."""
    trainer, records = context.trainer, context.trainer.eval_dataset
    name = trainer.args.metric_for_best_model
    evaluates = trainer.args.eval_strategy != "no" or trainer.args.eval_on_start
    adds_metrics = any(overridden(trainer, hook) for hook in ("evaluate", "evaluation_loop"))
    if name is None or records is None or not evaluates or adds_metrics or trainer.compute_metrics is not None:
        return
    parts = {f"{part}_": data for part, data in records.items()} if isinstance(records, Mapping) else {"": records}
    short, given, known = name.removeprefix("eval_"), [], trainer.adapter.known_tasks()
    for prefix, data in parts.items():
        if not short.startswith(prefix):
            continue
        with trainer.evaluator.subset(data, training=True) as chosen:
            metrics = metrics_of_records(chosen, known)
        wanted = re.sub(r"_ci_(low|high)$", "", short.removeprefix(prefix))
        of_answers = not _PARTS.fullmatch(wanted) and not _is_of_task(wanted, known)
        if metrics is None or wanted in metrics or ("relaxed_accuracy" in metrics and of_answers):
            return
        given += [f"{prefix}{metric}" for metric in metrics]
    what = f"give only {', '.join(given)}" if given else "have no answers"
    yield Finding(
        "metric_for_best_model",
        "error",
        f"no evaluation has metric_for_best_model={name!r}: the records of eval_dataset {what}",
        "choose another metric, or load records with these sources",
    )


def metrics_of_records(data: Any, tasks: Mapping[str, Task] | None = None) -> list[str] | None:
    """Return the loss and the accuracies that an evaluation of records has, or `None` if this needs all their charts.

    Args:
        data: a data set.
        tasks: known tasks by name; `None` uses the registered ones. Those of the records add all their metrics.

    Example:
        >>> metrics_of_records([{"image": "a.png", "question": "Red?", "answer": "3", "source": "human"}])
        ['loss', 'relaxed_accuracy', 'relaxed_accuracy_human']
    """
    if is_stream(data) or isinstance(records := as_records(data), Records):
        return None
    if not has_answers(records):
        return []
    answers = column(records, "answer")
    answered = [has_answer({"answer": answer}) for answer in answers]
    names = column(records, "task")
    given: list[str] = []
    for name in dict.fromkeys(name or QA_NAME for name, use in zip(names, answered, strict=True) if use):
        if name != QA_NAME:
            rows = (a for a, task, use in zip(answers, names, answered, strict=True) if use and task == name)
            given += _metrics_of_task(task_named(name, tasks), [str(answer) for answer in islice(rows, _TRIED)])
    answered = [use and (name or QA_NAME) == QA_NAME for name, use in zip(names, answered, strict=True)]
    if not any(answered):
        return ["loss", *given]
    columns = {name: column(records, name) for name in ("source", "question_type")}
    chosen = {name: [v for v, use in zip(values, answered, strict=True) if use] for name, values in columns.items()}
    kinds = chosen["question_type"]
    zeros = ["0"] * sum(answered)
    scores = relaxed_accuracy(
        predictions=zeros,
        references=zeros,
        sources=[source or "unknown" for source in chosen["source"]],
        question_types=kinds if any(kind is not None for kind in kinds) else None,
        diagnostics=False,
    )
    accuracies = [name for name in scores if name.startswith("relaxed_accuracy") and _is_accuracy(name)]
    return ["loss", *accuracies, *given]


def _metrics_of_task(task: Task, references: list[str]) -> list[str]:
    """Return the names of the metrics of a task, found by scoring empty answers to some references."""
    scores = task.score([""] * len(references), references)
    return [f"{task.name}_{name}" for name in ("loss", *scores)]


def _is_accuracy(name: str) -> bool:
    return not name.endswith(("_ci_low", "_ci_high", "_confidence"))
