"""Images of records: those that are missing, found without opening a file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets

from ...adapters.pixels import unchanged
from ...adapters.text import describe
from ...data.stored_columns import holds_images
from .findings import CheckContext, Finding, register_check

_SHOWN = 3
"""Number of records that a message names."""
_ROWS_PER_READ = 10_000
_DESCRIBED = ("chart_id", "question")
_ARGUMENTS = {"train": "train_dataset", "evaluate": "eval_dataset", "predict": "test_dataset"}


@register_check()
def check_image_files(context: CheckContext) -> Iterator[Finding]:
    """Find records without an image, or whose image is the path of a file that is not there.

    An evaluation reads its records only after many steps. Only lists and data sets that store paths are looked at.
    """
    trainer, name = context.trainer, _ARGUMENTS[context.call]
    if not unchanged(trainer.adapter, ("encode", "image")):
        return
    given = [(name, context.records)]
    if context.call == "train" and (trainer.args.eval_strategy != "no" or trainer.args.eval_on_start):
        given.append(("eval_dataset", trainer.eval_dataset))
    for argument, data in given:
        parts = data if isinstance(data, Mapping) else {"": data}
        for part, records in parts.items():
            missing = missing_images(records)
            if not missing:
                continue
            shown = "; ".join(f"row {row}: {what}" for row, what in missing[:_SHOWN])
            more = f"; and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
            where = f"{argument}[{part!r}]" if part else argument
            yield Finding(
                argument,
                "error",
                f"{where}: {len(missing)} of {len(records)} records have no image: {shown}{more}",
                "correct the paths, or leave the records out",
            )


def missing_images(records: Any) -> list[tuple[int, str]]:
    """Return the rows whose image is missing, each with what is wrong.

    Args:
        records: a data set. Of those that are neither a list nor a `datasets.Dataset` with paths, nothing is known
            before they are read.

    Example:
        >>> missing_images([{"chart_id": "a", "image": "a.png", "question": "How much?"}])
        [(0, "record (chart_id='a', question='How much?'): the file a.png does not exist")]
    """
    known: dict[str, bool] = {}
    missing = []
    for row, image, record in _images(records):
        inside = image.get("path") if isinstance(image, Mapping) and image.get("bytes") is None else image
        if inside is None:
            missing.append((row, f"{describe(record)} has no image"))
        elif isinstance(inside, (str, Path)) and "://" not in str(inside):
            path = str(inside)
            if path not in known:
                known[path] = os.path.exists(path)
            if not known[path]:
                missing.append((row, f"{describe(record)}: the file {path} does not exist"))
    return missing


def _images(records: Any) -> Iterator[tuple[int, Any, Mapping[str, Any]]]:
    """Yield the number, the stored image and what names the record of each row, where this reads no image."""
    if isinstance(records, (list, tuple)):
        yield from _of_list(records)
    elif isinstance(records, datasets.Dataset) and records.format["type"] != "custom":
        columns = records.column_names
        if "image" not in columns or holds_images(records, "image"):
            return
        stored = records.select_columns([name for name in ("image", *_DESCRIBED) if name in columns])
        for start, table in zip(
            range(0, len(records), _ROWS_PER_READ),
            stored.with_format("arrow").iter(batch_size=_ROWS_PER_READ),
            strict=True,
        ):
            for row, record in enumerate(table.to_pylist(), start=start):
                yield row, record["image"], record


def _of_list(records: Sequence[Any]) -> Iterator[tuple[int, Any, Mapping[str, Any]]]:
    for row, record in enumerate(records):
        if isinstance(record, Mapping) and "image" in record:
            yield row, record["image"], record
