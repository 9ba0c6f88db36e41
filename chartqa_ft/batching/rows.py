"""Rows of a data set with the number and the chart of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from torch.utils.data import Dataset, IterableDataset

ROW_KEY = "chartqa_ft.row"
"""Under this key a record that comes from our loaders carries its `RowKey`; no column of a user is called so."""
CHART_KEY = "chartqa_ft.chart"
"""Under this key it carries the number of its chart, verified by `chart_groups`: equal numbers, the same image."""


class RowKey(NamedTuple):
    """What the sampler asks the dataset for. It carries the epoch, so that worker processes need no shared state."""

    row: int
    epoch: int
    counts: bool
    """False for a row that only fills up a batch: it is encoded without an answer and takes part in nothing."""


class KeyedRows(Dataset):
    """A map-style dataset of records that answers `RowKey`s: the record, plus the key itself under `ROW_KEY`.

    Args:
        records: a `datasets.Dataset` or a list of records.
        groups: for every row the number of its chart, from `chart_groups`: records carry it under `CHART_KEY`, and a
            batch decodes each chart once (a `datasets.Dataset` decodes an image at every access to its row).
        stored_images: hand out the images of a `datasets.Dataset` as they are stored, a dict of `bytes` and `path`
            that `open_image` takes, instead of decoding them; where a format, a transform or a mode is set for them,
            they come as that makes them.
    """

    def __init__(self, records: Any, *, groups: Sequence[int] | None = None, stored_images: bool = False):
        self.records, self.groups = records, groups
        self.decode: Callable[[Any], Any] | None = None
        """What makes a picture of a stored image that is not at hand."""
        feature = (getattr(records, "features", None) or {}).get("image")
        if stored_images and _decodes_plainly(records, feature):
            self.records = records = records.cast_column("image", replace(feature, decode=False))
            self.decode = feature.decode_example
        self.texts = None
        # A transform of the user's own may read the image, and is left to make its records whole.
        if groups is not None and hasattr(records, "remove_columns") and records.format["type"] != "custom":
            self.texts = records.remove_columns("image")

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: RowKey) -> dict[str, Any]:
        return self.opened({**self.records[key.row], **self.keys(key)})

    def opened(self, record: dict[str, Any]) -> dict[str, Any]:
        """A record whose image is here: one that is stored elsewhere (`https://`, `zip://`) is decoded from there."""
        image = record.get("image")
        if self.decode is not None and image is not None and image["bytes"] is None and "://" in (image["path"] or ""):
            record["image"] = self.decode(image)
        return record

    def keys(self, key: RowKey) -> dict[str, Any]:
        """What a record carries beside its own columns."""
        return {ROW_KEY: key} if self.groups is None else {ROW_KEY: key, CHART_KEY: self.groups[key.row]}

    def __getitems__(self, keys: list[RowKey]) -> list[dict[str, Any]]:
        if self.texts is None:
            return [self[key] for key in keys]
        columns = self.texts[[key.row for key in keys]]
        images: dict[int, Any] = {}
        records = []
        for key, *values in zip(keys, *columns.values(), strict=True):
            group = self.groups[key.row]
            if group not in images:
                images[group] = self.opened(self.records[key.row])["image"]
            records.append({**dict(zip(columns, values, strict=True)), "image": images[group], **self.keys(key)})
        return records


def _decodes_plainly(records: Any, feature: Any) -> bool:
    """Whether records decode their image column by themselves, and nothing else happens to it."""
    return (
        hasattr(records, "cast_column")
        and type(feature).__name__ == "Image"
        and feature.decode
        and feature.mode is None
        and records.format["type"] in (None, "python")
        and "image" in records.format["columns"]
    )


class KeyedStream(IterableDataset):
    """A stream of records with their `RowKey`s: the number in the stream is the row.

    The stream is filled up to a multiple of `round_size` with rows that count for nothing, so that every rank gets the
    same number of batches and no question counts twice.
    """

    def __init__(self, records: Any, round_size: int):
        self.records, self.round_size, self.epoch = records, round_size, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        if hasattr(self.records, "set_epoch"):
            self.records.set_epoch(epoch)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        epoch, first, number = self.epoch, None, 0
        for number, record in enumerate(self.records, start=1):
            first = record if first is None else first
            yield {**record, ROW_KEY: RowKey(number - 1, epoch, True)}
        for _ in range(-number % self.round_size):
            yield {**first, ROW_KEY: RowKey(0, epoch, False)}
