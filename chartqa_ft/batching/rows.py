"""Rows of a dataset with a key: the number of the row, its epoch and its chart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import datasets
from torch.utils.data import Dataset

from .records import as_records, decodes_plainly, opened, unreadable, with_content

ROW_KEY = "chartqa_ft.row"
"""The key under which a record from our loaders carries its `RowKey`; no user's column has this name."""
CHART_KEY = "chartqa_ft.chart"
"""The key of its chart's number, verified by `stored_charts`: equal numbers mean the same stored image, which nothing
changes on its way to the model."""


class RowKey(NamedTuple):
    """A row that the sampler requests. It includes the epoch, so that worker processes need no shared state."""

    row: int
    epoch: int
    counts: bool
    """False for a row that only fills up a batch: it is encoded without an answer, and ignored everywhere else."""


class KeyedRows(Dataset):
    """A map-style dataset of records that is indexed by `RowKey` and adds the key under `ROW_KEY`.

    Args:
        records: Map-style records, as `as_records` takes them.
        groups: The number of the chart for every row, from `stored_charts`, or `None` for a row whose picture is known
            only when it is read. Records carry it under `CHART_KEY`, and a batch decodes each chart once (a
            `datasets.Dataset` decodes an image at every access to its row).
        stored_images: Return the images of a `datasets.Dataset` as they are stored, a dict of `bytes` and `path` that
            `open_image` takes, instead of decoding them. If the dataset has a transform or an image mode, images are
            returned as these define them. Images are never decoded by `datasets`, which opens files of any format.
    """

    def __init__(
        self, records: Any, *, groups: Sequence[int | None] | None = None, stored_images: bool = False
    ) -> None:
        self.records = records = as_records(records)
        self.groups = groups
        self.open: Callable[[Any], Any] | None = None
        """Makes the image of a record of what is stored, if `datasets` does not."""
        feature = (getattr(records, "features", None) or {}).get("image")
        if isinstance(records, datasets.Dataset) and decodes_plainly(feature):
            self.records = records = records.cast_column("image", replace(feature, decode=False))
            self.open = with_content if stored_images else opened
        self.texts = None
        if groups is not None and isinstance(records, datasets.Dataset):
            self.texts = records.remove_columns("image")

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: RowKey) -> dict[str, Any]:
        return {**self.read(key.row), **self.keys(key)}

    def __getitems__(self, keys: list[RowKey]) -> list[dict[str, Any]]:
        if self.texts is None or self.groups is None:
            return [self[key] for key in keys]
        columns = self.texts[[key.row for key in keys]]
        images: dict[int, Any] = {}
        records = []
        for key, *values in zip(keys, *columns.values(), strict=True):
            group = self.groups[key.row]
            image = images.get(group) if group is not None else None
            if image is None:
                image = self.read(key.row)["image"]
            if group is not None:
                images[group] = image
            records.append({**dict(zip(columns, values, strict=True)), "image": image, **self.keys(key)})
        return records

    def read(self, row: int) -> dict[str, Any]:
        """Return a record.

        Raises:
            ValueError: It cannot be read, because its image is damaged, for instance; the message names the record.
        """
        try:
            record = {**self.records[row]}
            if self.open is not None:
                record["image"] = self.open(record["image"])
            return record
        except Exception as error:  # decoders and users' transforms may raise anything
            raise unreadable(self.records, row, error) from error

    def keys(self, key: RowKey) -> dict[str, Any]:
        """Return the keys that a record carries in addition to its columns."""
        group = None if self.groups is None else self.groups[key.row]
        return {ROW_KEY: key} if group is None else {ROW_KEY: key, CHART_KEY: group}
