"""What `trainer.check()` tells about a training: data, steps, a batch as text, image tokens, leakage, cost of a step.

Everything is a `Finding`: facts have the level "info", leakage is a warning. Nothing here stops a run but a batch that
cannot be read.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import datasets
import torch

from ...batching.records import Records, as_records, hinted_chart_ids, is_stream, read_row
from ...data.leakage import find_leakage
from ..checks.findings import Finding
from ..schedule import steps_of_run
from .batch_text import batch_as_text
from .measuring import MeasuredStep, measure_step, refuse_measuring
from .unchanged import kept_random_states

__all__ = ["describe_run", "find_leaks", "measured_step", "preflight"]

COST_SAMPLE = 16
"""Number of charts whose image tokens are counted."""


def preflight(
    trainer: Any, *, leakage: bool = True, measure: bool = False, step: MeasuredStep | None = None
) -> Iterator[Finding]:
    """Yield what a training of `trainer` would do. It changes neither the trainer nor any random state.

    Args:
        trainer: a `ChartQATrainer`.
        leakage: compare the charts of the training and the evaluation data, on the main process.
        measure: measure the time and memory of a step.
        step: the measured step, if it is known already.

    Yields:
        Findings: an error if a batch cannot be read; a warning for charts that are in both data sets, and for a step
        that does not fit into memory.
    """
    if trainer.train_dataset is None:
        return
    with kept_random_states():
        yield Finding("train_dataset", "info", describe_run(trainer))
        try:
            batch, seconds = first_batch(trainer)
        except ValueError as error:
            yield Finding("train_dataset", "error", f"the first batch cannot be read: {error}")
            return
        text = batch_as_text(trainer.adapter, batch)
        yield Finding("train_dataset", "info", f"the first batch, with the tokens of the loss in >> <<:\n{text}")
        yield from _image_tokens(trainer)
        if leakage and trainer.is_world_process_zero():
            yield from find_leaks(trainer)
        if measure or step is not None:
            yield from _cost(trainer, batch, seconds, step)


def describe_run(trainer: Any) -> str:
    """Return the sizes of the data sets, the steps and the effective batch of a training in one line."""
    args, processes = trainer.args, trainer.args.world_size
    parts = [f"{_size(trainer.train_dataset)} to train on"]
    for name, records in _evaluated(trainer):
        parts.append(f"{_size(records)} to evaluate" + (f" ({name})" if name else ""))
    per_epoch, total = steps_of_run(trainer.train_dataset, args, processes)
    rows = args.train_batch_size * args.gradient_accumulation_steps * processes
    steps = "an unknown number of steps" if total is None else _count(total, "step")
    epochs = f" ({total / per_epoch:.3g} epochs)" if total and per_epoch else ""
    return (
        f"{'; '.join(parts)}; {steps}{epochs} of {rows} questions ({args.train_batch_size} per device x "
        f"{args.gradient_accumulation_steps} accumulated x {processes} process{'es' * (processes > 1)})"
    )


def _size(records: Any) -> str:
    if is_stream(records):
        return "a stream"
    charts = hinted_chart_ids(as_records(records))
    about = "" if charts is None else f" on {_count(len(set(charts)), 'chart')}"
    return f"{_count(len(records), 'question')}{about}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _evaluated(trainer: Any) -> list[tuple[str, Any]]:
    """Return the evaluation data sets by name; "" for one without a name."""
    given = trainer.eval_dataset
    if given is None:
        return []
    return [(str(name), part) for name, part in given.items()] if isinstance(given, Mapping) else [("", given)]


def first_batch(trainer: Any) -> tuple[dict[str, Any], float]:
    """Return the first training batch of the first rank, read in this process, and the seconds that this took.

    Raises:
        ValueError: a record cannot be read or encoded; the message names it.
    """
    loader = trainer._loader(as_records(trainer.train_dataset, "train_dataset", answers=True), "train", training=True)
    truncated = trainer.adapter.cut_answers
    began = time.perf_counter()
    if is_stream(loader.dataset):
        batch = next(iter(loader))
    else:
        batch = loader.collate_fn(loader.dataset.__getitems__(next(iter(loader.batch_sampler))))
    trainer.adapter.cut_answers = truncated  # the training will count its own
    return batch, time.perf_counter() - began


def _image_tokens(trainer: Any) -> Iterator[Finding]:
    records, adapter = as_records(trainer.train_dataset), trainer.adapter
    if is_stream(records):
        return
    number = min(COST_SAMPLE, len(records))
    counts: list[int] = []
    for row in sorted({place * len(records) // number for place in range(number)}):
        found = adapter.image_tokens(adapter.encode([read_row(records, row)], with_answers=False))
        if not found:
            return
        counts += found
    text = f"{counts[0]}" if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)} (median {median(counts):g})"
    yield Finding("image_tokens", "info", f"a chart takes {text} image tokens, of {len(counts)} records")


def find_leaks(trainer: Any) -> Iterator[Finding]:
    """Yield a warning for every evaluation data set with charts that are in the training data too."""
    training = _stored(trainer.train_dataset)
    for name, given in _evaluated(trainer):
        what = f"eval_dataset[{name!r}]" if name else "eval_dataset"
        evaluation = _stored(given)
        if training is None or evaluation is None:
            yield Finding(what, "info", f"{what}: its charts are not compared with the training data, one is a stream")
            continue
        found = find_leakage(
            training, evaluation, cache=_cache_folder(trainer.args), progress=not trainer.args.disable_tqdm
        )
        if found.shared:
            advice = "leave them out of one of the two, because the score is to tell about new charts"
            yield Finding(what, "warning", f"{what}: {found}", advice)
        else:
            yield Finding(what, "info", f"{what}: {found}")


def _stored(data: Any) -> Any:
    """Return the records as they are stored, without a transform, or `None` for a stream."""
    records = as_records(data)
    if is_stream(records):
        return None
    if (
        isinstance(records, Records)
        and isinstance(records.data, datasets.Dataset)
        and "image" in records.data.features
    ):
        return records.data.with_format(None)
    return records


def _cache_folder(args: Any) -> Path | None:
    """Return the folder of the chart cache, in which fingerprints are kept too."""
    if args.chart_cache == "off":
        return None
    if args.chart_cache != "auto":
        return Path(args.chart_cache).expanduser().absolute()
    from huggingface_hub.constants import HF_HOME

    return Path(HF_HOME) / "chartqa_ft" / "charts"


def measured_step(trainer: Any) -> MeasuredStep | None:
    """Return the cost of a step, `None` where it cannot be measured: the training itself will say why."""
    if trainer.train_dataset is None or refuse_measuring(trainer):
        return None
    with kept_random_states():
        try:
            return _measure(trainer, *first_batch(trainer))
        except (ValueError, torch.OutOfMemoryError):
            return None


def _measure(trainer: Any, batch: Mapping[str, Any], seconds: float) -> MeasuredStep:
    _, total = steps_of_run(trainer.train_dataset, trainer.args, trainer.args.world_size)
    return measure_step(trainer, batch, read_seconds=seconds, steps=total)


def _cost(trainer: Any, batch: Mapping[str, Any], seconds: float, step: MeasuredStep | None) -> Iterator[Finding]:
    reason = refuse_measuring(trainer)
    if reason:
        yield Finding("step", "info", f"no step was measured: {reason}")
        return
    try:
        step = step or _measure(trainer, batch, seconds)
    except torch.OutOfMemoryError as error:
        yield Finding(
            "per_device_train_batch_size",
            "warning",
            f"a batch of {len(batch['rows'])} questions does not fit into the memory of the GPU ({error})",
            "lower per_device_train_batch_size and raise gradient_accumulation_steps, lower the image tokens of a "
            "chart (set_image_cost), set activation_checkpointing=True, or train LoRA weights",
        )
        return
    yield Finding("step", "info", str(step))
    end = step.end(datetime.now())
    if end:
        yield Finding("max_steps", "info", end)
