"""Load the data and the model that the arguments of a script describe."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from huggingface_hub.errors import HFValidationError
from torch import nn
from transformers import set_seed

from ..adapters import Adapter, adapter_for
from ..data.chartqapro import with_chartqapro_prompts
from ..data.load import load_chartqa
from ..data.mixing import mix_datasets
from ..data.record_errors import RecordError
from ..data.split_names import local_splits
from ..data.splitting import stratified_subset
from ..models.load import load_checkpoint
from ..printable import printable_errors
from ..training.arguments import ChartQATrainingArguments
from .arguments import DataArguments, DatasetArguments, EvalDataArguments, MixedDataArguments, ModelArguments
from .held_out import split_by_file
from .parsing import parse_mapping

logger = logging.getLogger(__name__)

__all__ = ["load_eval_records", "load_model", "load_records", "load_single_split", "load_split", "naming"]


@printable_errors()
def load_split(
    script: DatasetArguments,
    split: str,
    *,
    source: str | None = None,
    max_samples: int | None = None,
    seed: int = 0,
) -> Dataset:
    """Return the records of one split of a script's data set.

    Args:
        script: Which data set to read, and how.
        split: Name of the split, or an expression such as `"test[:100]"`.
        source: Another data set to read in the same way; `None`: `dataset_name` of the script.
        max_samples: Draw this many records, human and augmented in proportion. `None`: all of them.
        seed: Seed of the draw.

    Raises:
        ValueError: See `load_chartqa`, which raises errors of other types too.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from chartqa_ft import synthetic_chartqa
        >>> from chartqa_ft.scripts import DatasetArguments
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "charts.parquet")
        ...     _ = synthetic_chartqa(2, seed=0).to_parquet(file)
        ...     records = load_split(DatasetArguments(dataset_name=str(file)), "train", max_samples=3)
        >>> len(records)
        3
    """
    source = script.dataset_name if source is None else source
    with _explained(script, source, script.dataset_revision):
        records = load_chartqa(source, split=split, revision=script.dataset_revision, **_reading(script))
    style = getattr(script, "chartqapro_prompts", None)
    if style is not None:
        records = with_chartqapro_prompts(records, style=style)
    return records if max_samples is None else stratified_subset(records, max_samples, seed=seed)


@printable_errors()
def load_single_split(script: DatasetArguments, source: str, revision: str | None = None) -> Dataset:
    """Return all records of a file, or of a data set with one split.

    Args:
        script: How to read it.
        source: The file or data set.
        revision: Branch, tag or commit of a data set on the Hub.

    Raises:
        ValueError: It has several splits; see `load_chartqa`, which raises errors of other types too.
    """
    with _explained(script, source, revision):
        loaded = load_chartqa(source, revision=revision, **_reading(script))
    if len(loaded) > 1:
        raise ValueError(f"{source} has several splits ({', '.join(loaded)}): use --dataset_name with a single file")
    return next(iter(loaded.values()))


def load_eval_records(script: EvalDataArguments, *, seed: int = 0) -> tuple[Dataset, str]:
    """Return the records that an evaluation asks, and what they are called.

    A file or folder whose names say nothing about splits is taken whole, whatever `eval_split` says, or the part of it
    that `eval_split` selects ("test[:100]"). With `split_file`, only questions on its charts are asked.

    Args:
        script: Which data set to read, and how. Without splits, `eval_split` becomes the part alone: "" or "[:100]".
        seed: Seed of the draw of `max_eval_samples`.

    Raises:
        ValueError: See `load_chartqa`, which raises errors of other types too.
    """
    source = Path(script.dataset_name).expanduser()
    split, asked = script.eval_split, f"{script.eval_split} of {script.dataset_name}"
    found = local_splits(source, script.task) if source.exists() else None
    if found is not None and not found.are_named:
        bounds = script.eval_split.partition("[")[1:]
        asked = f"{''.join(bounds)} of {script.dataset_name}" if bounds[0] else script.dataset_name
        script.eval_split = "".join(bounds)
        split = f"{found.names[0]}{script.eval_split}"
    records = load_split(script, split)
    if script.split_file:
        records = split_by_file(records, script.split_file, script.dataset_name, training=False)[1]
        asked = f"the held-out charts of {asked}"
    if script.max_eval_samples is not None:
        records = stratified_subset(records, script.max_eval_samples, seed=seed)
    return records, asked


def load_records(script: DataArguments, args: ChartQATrainingArguments) -> tuple[Dataset, Dataset]:
    """Return the records to train on and the records to evaluate on.

    Args:
        script: Which data set to read, and which splits.
            With `split_file`, both come from `train_split`. Several data sets are mixed to train on, without the
            charts of the evaluation.
        args: `seed` decides which records `max_train_samples` and `max_eval_samples` draw. With `on_error="skip"` of
            `script`, `on_bad_text` becomes "skip" too.

    Raises:
        ValueError: See `load_chartqa`, which raises errors of other types too.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from chartqa_ft import synthetic_chartqa
        >>> from chartqa_ft.scripts import DataArguments
        >>> args = ChartQATrainingArguments(output_dir="out", use_cpu=True)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "charts.parquet")
        ...     _ = synthetic_chartqa(2, seed=0).to_parquet(file)
        ...     script = DataArguments(dataset_name=str(file), train_split="train[2:]", eval_split="train[:2]")
        ...     train, evaluation = load_records(script, args)
        >>> len(evaluation)
        2
    """
    skip_bad_texts(script, args)
    with args.main_process_first(desc="loading data"):
        if script.split_file:
            records = load_split(script, script.train_split)
            train, evaluation = split_by_file(records, script.split_file, script.dataset_name)
        else:
            train, evaluation = load_split(script, script.train_split), load_split(script, script.eval_split)
        most = script.max_train_samples
        if script.other_datasets:
            others = {name: load_split(script, script.train_split, source=name) for name in script.other_datasets}
            train = mixed(script, train, others, without=evaluation, n=most, seed=args.seed)
        elif most is not None:
            train = stratified_subset(train, most, seed=args.seed)
        if script.max_eval_samples is not None:
            evaluation = stratified_subset(evaluation, script.max_eval_samples, seed=args.seed)
    return train, evaluation


def skip_bad_texts(script: DatasetArguments, args: ChartQATrainingArguments) -> None:
    """Set `on_bad_text` to "skip" with `on_error="skip"`: both are records that cannot be used."""
    if script.on_error == "skip":
        args.on_bad_text = "skip"


def mixed(
    script: MixedDataArguments,
    train: Dataset,
    others: Mapping[str, Dataset],
    *,
    without: Dataset,
    n: int | None = None,
    seed: int = 0,
) -> Dataset:
    """Return the mixture of a script's data sets to train on.

    Args:
        script: Its weights.
        train: The records of the first data set.
        others: Name -> records of each other data set.
        without: The records of the evaluation, whose charts are left out.
        n: Number of questions of the mixture; `None`: every chart comes at least once.
        seed: Seed of the draw and of the order.

    Raises:
        ValueError: No chart of a data set is left.
    """
    parts = {script.dataset_name: train, **others}
    return mix_datasets(parts, script.dataset_weights, n=n, seed=seed, without=without)


def _reading(script: DatasetArguments) -> dict[str, Any]:
    """Return how `load_chartqa` has to read the data of a script."""
    columns = parse_mapping(script.column_map)
    return {
        "image_dir": script.image_dir,
        "column_map": columns,
        "on_error": script.on_error,
        "require_answers": script.require_answers,
        "task": script.task,
    }


@contextmanager
def _explained(script: DatasetArguments, source: str, revision: str | None) -> Iterator[None]:
    """Number an invalid record as a spreadsheet does, and name arguments as on the command line."""
    if revision is not None and Path(source).expanduser().exists():
        raise ValueError(f"--dataset_revision is for data sets on the Hub, and {source} is a local path: leave it out")
    try:
        yield
    except RecordError as error:
        if not Path(source).is_file():
            raise
        row = f"row {error.index + 2}" if source.lower().endswith((".csv", ".tsv")) else f"record {error.index + 1}"
        advice = "Fix it (see --image_dir for charts), or skip such rows with --on_error skip"
        if error.reason == "no answer":
            advice += ", or ask questions without an answer with --require_answers False"
        if script.on_error == "skip":
            advice = "No record is left: see --image_dir for charts, and --column_map for columns"
        raise ValueError(f"{source}, {row}: {error.reason}: {error.cause}. {advice}") from error


@printable_errors()
def load_model(
    script: ModelArguments,
    args: ChartQATrainingArguments,
    *,
    frozen: bool = False,
    **model_arguments: Any,
) -> tuple[nn.Module, Any, Adapter]:
    """Return model, processor and adapter, as `load_checkpoint` does, ready for training.

    The random number generators are seeded with `args.seed` first, so that new weights, LoRA weights included, depend
    on this seed alone.

    Args:
        script: Which model to load, and the size of its inputs.
        args: Arguments of the training; `precision` is that of frozen weights.
        frozen: Whether the model's own weights stay frozen, as with LoRA. They are then loaded in the precision of the
            forward pass. Otherwise they are float32, whatever the checkpoint stores, because most updates would be
            rounded away in 16 bits; and PEFT weights in the checkpoint are merged.
        **model_arguments: For `from_pretrained`, for example those that `quantized_loading` returns.

    Raises:
        OSError: The checkpoint cannot be loaded.
        ValueError: An argument does not apply to the model.

    Example:
        >>> import tempfile
        >>> from chartqa_ft import tiny_unichart
        >>> from chartqa_ft.scripts import ModelArguments
        >>> args = ChartQATrainingArguments(output_dir="out", use_cpu=True)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for part in tiny_unichart("test"):
        ...         _ = part.save_pretrained(folder)
        ...     model, processor, adapter = load_model(ModelArguments(folder, max_length=64), args)
        >>> adapter.max_length
        64
    """
    set_seed(args.seed)
    computed = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(args.precision, torch.float32)
    costs = {name: getattr(script, name) for name in ("image_size", "max_pixels", "max_tiles", "max_patches")}
    with naming(script.model_name_or_path):
        model, processor, _ = load_checkpoint(
            script.model_name_or_path,
            revision=script.model_revision,
            merge=not frozen,
            trainable=frozen,
            prompt=script.prompt,
            system_prompt=script.system_prompt,
            prompts=parse_mapping(script.prompts, "prompts"),
            image_cost={name: value for name, value in costs.items() if value is not None},
            compat=None if script.compat else False,
            **{"dtype": computed if frozen else torch.float32, **model_arguments},
        )
    if args.activation_checkpointing and not model.supports_gradient_checkpointing:
        logger.info("%s does not support activation checkpointing: it is turned off", type(model).__name__)
        args.activation_checkpointing = args.gradient_checkpointing = False
    lengths: dict[str, Any] = {} if script.max_length is None else {"max_length": script.max_length}
    return model, processor, adapter_for(model, processor, on_long_answer=script.on_long_answer, **lengths)


@contextmanager
def naming(what: str | Path) -> Iterator[None]:
    """Add what was being loaded to errors of files and of the Hub whose message does not say it.

    Raises:
        OSError: Such an error was raised.

    Example:
        >>> with naming("out/checkpoint-5"):
        ...     raise OSError("the header is too short")
        Traceback (most recent call last):
        OSError: out/checkpoint-5 cannot be loaded: the header is too short
    """
    try:
        yield
    except (OSError, json.JSONDecodeError, HFValidationError) as error:
        if str(what) in str(error):
            raise
        raise OSError(f"{what} cannot be loaded: {error}") from error
