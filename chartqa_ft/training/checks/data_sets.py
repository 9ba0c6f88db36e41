"""Data sets: records of the right form, of which there are enough for the call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from ...batching.records import as_records, first_records, hinted_chart_ids, is_stream, readable
from ...data.chart_groups import has_chart
from ..schedule import batches_per_epoch
from .findings import CheckContext, Finding, register_check


def check_data_sets(train_dataset: Any, eval_dataset: Any) -> None:
    """Check that data sets have records of the right form, as far as this is known before they are read.

    Args:
        train_dataset: the training data; `None` for none.
        eval_dataset: the evaluation data, or a dict of them; `None` for none.

    Raises:
        TypeError: one is not a data set of dicts.
        ValueError: one lacks a column, holds several splits, or can be read only once.
    """
    if train_dataset is not None:
        as_records(train_dataset, "train_dataset", answers=True)
    parts = eval_dataset if isinstance(eval_dataset, dict) else {None: eval_dataset}
    if not parts:
        raise ValueError("eval_dataset is an empty dict: pass data sets by name, or leave it out")
    for name, part in parts.items():
        if part is None and name is not None:
            raise ValueError(f"eval_dataset[{name!r}] is None: pass a data set, or leave the name out")
        if part is not None:
            as_records(part, "eval_dataset" if name is None else f"eval_dataset[{name!r}]")


def named_part(eval_dataset: Any, name: str) -> Any:
    """Return the evaluation data set of a name.

    Raises:
        ValueError: there is none; the message lists the names.

    Example:
        >>> named_part({"val": []}, "test")
        Traceback (most recent call last):
        ...
        ValueError: there is no evaluation data set 'test', but val: pass one of these names, or records
    """
    parts = eval_dataset if isinstance(eval_dataset, dict) else {}
    if name not in parts:
        raise ValueError(
            f"there is no evaluation data set {name!r}, but {', '.join(map(str, parts)) or 'none with a name'}: pass "
            "one of these names, or records"
        )
    return parts[name]


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
    elif _is_empty(records, "train_dataset"):
        yield Finding("train_dataset", "error", "train_dataset is empty", "load records to train on")
    elif args.dataloader_drop_last:
        together = args.train_batch_size * args.world_size
        number = _number_of_stream(records, together) if is_stream(records) else len(records)
        if not batches_per_epoch(number, args, args.world_size):
            yield Finding(
                "dataloader_drop_last",
                "error",
                f"dataloader_drop_last=True leaves no batch: the {number} records are fewer than the {together} "
                "rows of a batch on all ranks",
                "leave it False, or choose a smaller per_device_train_batch_size",
            )


def _number_of_stream(records: Any, most: int) -> int:
    """Return the number of records of a stream, at most `most`, without decoding their images."""
    return sum(1 for _ in islice(readable(as_records(records, "train_dataset").stored()), most))


def _is_empty(records: Any, name: str) -> bool:
    """Return whether there are no records; of a stream, the first one is read."""
    if records is None or isinstance(records, str):
        return False
    if not is_stream(records) and not isinstance(records, type):
        return not len(records)
    return not first_records(as_records(records, name), 1)


@register_check("train")
def check_grouping(context: CheckContext) -> Iterator[Finding]:
    """Find training data whose questions `group_by_chart=True` cannot bring together."""
    if not context.trainer.args.group_by_chart or context.records is None or isinstance(context.records, Mapping):
        return
    records = as_records(context.records, "train_dataset")
    ids = hinted_chart_ids(records)
    if not any(map(has_chart, _first_ids(records) if ids is None else ids)):
        yield Finding(
            "group_by_chart",
            "error",
            "group_by_chart=True needs to know which questions share a chart, and train_dataset has no chart_id",
            "add a column chart_id, or leave group_by_chart unset",
        )
    elif ids is None and not is_stream(records):
        yield Finding(
            "group_by_chart",
            "warning",
            "group_by_chart=True cannot bring the questions of a chart together: the chart_id of a record in "
            "train_dataset is known only when it is read, so that only questions that meet in a batch share theirs",
            "pass a datasets.Dataset or a list of dicts, or put the questions of a chart one after another and set "
            "train_sampling_strategy='sequential'",
        )


def _first_ids(records: Any) -> list[Any]:
    return [record.get("chart_id") for record in first_records(records, 1)]


@register_check("evaluate", "predict")
def check_evaluated_records(context: CheckContext) -> Iterator[Finding]:
    """Find empty evaluation data."""
    argument = "test_dataset" if context.call == "predict" else "eval_dataset"
    parts = context.records if isinstance(context.records, Mapping) else {"": context.records}
    for name, records in parts.items():
        if _is_empty(records, argument):
            what = f"{argument}: the evaluation data set {name!r}" if name else f"{argument}: the evaluation data set"
            yield Finding(argument, "error", f"{what} is empty", "load records to evaluate")


@register_check("predict")
def check_answers_are_generated(context: CheckContext) -> Iterator[Finding]:
    """Find a `predict` that would return no answers."""
    if not context.trainer.args.predict_with_generate:
        yield Finding(
            "predict_with_generate",
            "error",
            "predict would return no answers with predict_with_generate=False",
            "set it to True, or call evaluate() for the loss alone",
        )


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
