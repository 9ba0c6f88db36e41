"""Columns of a loaded dataset as they are stored: images that are not decoded, texts as they were written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from .columns import Columns

if TYPE_CHECKING:
    from datasets import Dataset, Features

ROWS_PER_READ = 32
"""Rows whose images are in memory at a time while they are checked."""
_VALUES_PER_READ = 10_000
"""Values of a column without images that are read at a time. `datasets` reads them one by one when a column is
iterated, which takes 30 microseconds each."""


def column_values(dataset: Dataset, name: str) -> Iterator[Any]:
    """Yield the values of a column without images, whatever the format of the data set is.

    Example:
        >>> from datasets import Dataset
        >>> list(column_values(Dataset.from_dict({"answer": ["3", None]}).with_format("torch"), "answer"))
        ['3', None]
    """
    column = dataset.with_format(None).select_columns([name])
    for start in range(0, len(column), _VALUES_PER_READ):
        yield from column[start : start + _VALUES_PER_READ][name]


def check_no_transform(dataset: Dataset, name: str) -> None:
    """Refuse a data set with a transform, for results that read the stored columns and would not have it.

    Raises:
        ValueError: `with_transform` or `set_transform` was called on it.

    Example:
        >>> from datasets import Dataset
        >>> check_no_transform(Dataset.from_dict({"answer": ["3"]}).with_transform(lambda rows: rows), "source")
        Traceback (most recent call last):
        ...
        ValueError: source has a transform, which the result would not have: apply it with .map, or call \
with_transform on the result
    """
    if dataset.format["type"] == "custom":
        raise ValueError(
            f"{name} has a transform, which the result would not have: apply it with .map, or call with_transform on "
            "the result"
        )


def rows_of(table: Any) -> list[dict[str, Any] | str]:
    """Return the rows of an Arrow table; a str in place of a row that Python cannot hold says why.

    Arrow does not check what a Parquet file says to be text, or the year of a date.
    """
    try:
        return table.to_pylist()
    except (ValueError, OverflowError) as error:
        if table.num_rows == 1:
            return [f"it cannot be read ({error})"]
    return [row for number in range(table.num_rows) for row in rows_of(table.slice(number, 1))]


def row_restorer(features: Features | None, columns: Columns) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a function that restores in a row what the storage of its texts changed.

    It replaces the number of a class by its name, and a 32-bit float by its shortest digits (0.1 is
    0.10000000149011612 in Python's 64 bits), also inside lists. The number -1 of no class becomes `None`.
    """
    read = [name for name in columns.used if name not in (columns.image, columns.source)]
    found = {name: _restorer((features or {}).get(name)) for name in read}
    changed = {name: restore for name, restore in found.items() if restore is not None}
    if not changed:
        return lambda raw: raw
    return lambda raw: {**raw, **{name: restore(raw[name]) for name, restore in changed.items()}}


def _restorer(feature: Any) -> Callable[[Any], Any] | None:
    """Return a function that restores a value of a feature; `None` if its storage changes nothing."""
    names, dtype = getattr(feature, "names", None), getattr(feature, "dtype", "")
    if names is not None:
        return lambda value: names[value] if value is not None and 0 <= value < len(names) else None
    if dtype in ("float16", "float32"):
        return partial(_shortest, dtype=dtype)
    if isinstance(feature, dict):
        parts = {name: restore for name, part in feature.items() if (restore := _restorer(part)) is not None}
        return partial(_restored_parts, restorers=parts) if parts else None
    if _is_list(feature):
        restore_item = _restorer(feature[0] if isinstance(feature, list) else feature.feature)
        return None if restore_item is None else partial(_restored_items, restore=restore_item)
    return None


def _shortest(value: float | None, dtype: str) -> float | None:
    import numpy as np

    return None if value is None else float(str(np.dtype(dtype).type(value)))


def _restored_items(values: Any, restore: Callable[[Any], Any]) -> Any:
    return [restore(value) for value in values] if isinstance(values, list) else values


def _restored_parts(value: Any, restorers: Mapping[str, Callable[[Any], Any]]) -> Any:
    if not isinstance(value, dict):
        return value
    return {**value, **{name: restore(value[name]) for name, restore in restorers.items() if name in value}}


def source_names(features: Features | None, columns: Columns) -> dict[str, Any]:
    """Return the names of the classes of the source column as an argument of `RecordReader`, `{}` if it has none."""
    feature = None if columns.source is None else (features or {}).get(columns.source)
    names = getattr(feature, "names", None)
    return {} if names is None else {"source_names": tuple(names)}


def holds_images(dataset: Dataset, column: str) -> bool:
    """Return whether the column holds the bytes of images rather than paths; decided by its first image."""
    for table in dataset.select_columns([column]).with_format("arrow").iter(batch_size=1):
        (row,) = rows_of(table)
        value = None if isinstance(row, str) else row[column]
        value = value[0] if isinstance(value, list) and value else value
        if value is not None and value != []:
            return isinstance(value, bytes) or (isinstance(value, dict) and value.get("bytes") is not None)
    return False


def single_images(images: Dataset, column: str) -> Dataset:
    """Turn a column of lists of one image into a column of images; `datasets` copies them into its cache."""
    from datasets import Features, Image

    if not _is_list(images.features[column]):
        return images
    features = Features({column: Image(decode=False)})

    def first(table: Any) -> Any:
        import pyarrow as pa

        rows = [(value or [None])[0] for value in table[column].to_pylist()]
        rows = [{"bytes": row, "path": None} if isinstance(row, bytes) else row for row in rows]
        return pa.Table.from_pylist([{column: row} for row in rows], features.arrow_schema)

    return (
        images.with_format("arrow")
        .map(first, batched=True, batch_size=ROWS_PER_READ, features=features)
        .with_format(None)
    )


def _is_list(feature: Any) -> bool:
    return isinstance(feature, list) or type(feature).__name__ in ("List", "LargeList", "Sequence")
