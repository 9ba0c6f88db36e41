"""The number of steps of a training run, and the warm-up that depends on it."""

from __future__ import annotations

import math
from typing import Any

from ..batching.records import is_stream
from .arguments import ChartQATrainingArguments


def batches_per_epoch(rows: int, args: ChartQATrainingArguments, num_processes: int) -> int:
    """Return the number of batches that each rank gets in an epoch of a data set of `rows` records."""
    together = args.train_batch_size * num_processes
    return rows // together if args.dataloader_drop_last else -(-rows // together)


def steps_of_run(records: Any, args: ChartQATrainingArguments, num_processes: int) -> tuple[int | None, int | None]:
    """Return the optimizer steps of an epoch and of the whole run, `None` where they are not known beforehand."""
    per_epoch = None
    if records is not None and not is_stream(records):
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
        args.set_default_warmup(total)
