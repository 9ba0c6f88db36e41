"""Which rows show the same chart: those with one `chart_id` whose stored image is the same, found without decoding."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

logger = logging.getLogger(__name__)

CHUNK = 64
"""Rows whose stored images are read at a time."""


class _File(NamedTuple):
    """An image that stands in a file of its own; `size` in pixels where a loaded image tells it."""

    path: str
    size: tuple[int, int] | None = None


def chart_groups(records: Any) -> list[int] | None:
    """For every row the number of its chart, counted from 0 in the order of first rows.

    Rows share a number when they have the same `chart_id` *and* the same stored image, so that two data sets put
    together may use one id for different charts: these become different groups, and a warning says so. Rows without
    an id (`None` or "") are charts of their own. Only images of ids that several rows have are read, none is decoded:
    the cost is one pass over their bytes.

    Args:
        records: a `datasets.Dataset` or a list of records.

    Returns:
        The numbers, or `None` where the records do not say which chart they show.
    """
    ids = chart_ids(records)
    if ids is None:
        return None
    rows_of: dict[Any, list[int]] = defaultdict(list)
    for row, chart in enumerate(ids):
        if has_chart(chart):
            rows_of[chart].append(row)
    repeated = {chart: rows for chart, rows in rows_of.items() if len(rows) > 1}
    candidates = sorted(row for rows in repeated.values() for row in rows)
    images = dict(zip(candidates, map(stored_key, _stored_images(records, candidates)), strict=True))
    parts: dict[int, Hashable] = {}
    mixed = []
    for chart, rows in repeated.items():
        if len({images[row] for row in rows}) > 1:
            # Different files may hold the same picture, and one data set its bytes where another has a path.
            contents = {row: content_key(images[row]) for row in rows}
            parts.update(contents)
            if len(set(contents.values())) > 1:
                mixed.append(chart)
    if mixed:
        rows = repeated[mixed[0]]
        other = next(row for row in rows if parts[row] != parts[rows[0]])
        logger.warning(
            "%d chart_ids stand for more than one image, such as %r in rows %d and %d: their rows are taken as "
            "different charts. Make the ids of data sets different before you put them together.",
            len(mixed),
            mixed[0],
            rows[0],
            other,
        )
    numbers: dict[Hashable, int] = {}
    return [
        numbers.setdefault((chart, parts.get(row)) if has_chart(chart) else ("row", row, None), len(numbers))
        for row, chart in enumerate(ids)
    ]


def has_chart(chart_id: Any) -> bool:
    """Whether a `chart_id` names a chart: `None` and "" do not, and rows that have none share nothing."""
    return chart_id is not None and chart_id != ""


def chart_ids(records: Any) -> list[Any] | None:
    """The `chart_id` of every row without decoding one image, or `None` where no row has one."""
    columns = getattr(records, "column_names", None)
    if columns is not None:
        known = {"chart_id", "image"} <= set(columns)
        return list(records.select_columns(["chart_id"]).with_format(None)["chart_id"]) if known else None
    if isinstance(records, (list, tuple)) and any(has_chart(record.get("chart_id")) for record in records):
        return [record.get("chart_id") for record in records]
    return None


def _stored_images(records: Any, rows: Sequence[int]) -> Iterator[Any]:
    """The images of some rows as they are stored: of a `datasets.Dataset` the undecoded path or bytes."""
    if isinstance(records, (list, tuple)):
        yield from (records[row].get("image") for row in rows)
        return
    stored = records.select_columns(["image"]).with_format("arrow")
    for start in range(0, len(rows), CHUNK):
        yield from stored[list(rows[start : start + CHUNK])]["image"].to_pylist()


def stored_key(image: Any) -> Hashable:
    """Equal for equal stored images: a file by its path, bytes, arrays and loaded pictures by a digest."""
    if isinstance(image, Mapping) and ("bytes" in image or "path" in image):
        image = image.get("path") if image.get("bytes") is None else image["bytes"]
    if isinstance(image, (str, Path)):
        return _File(str(image))
    if isinstance(image, (bytes, bytearray, memoryview)):
        return digest([image])
    if getattr(image, "filename", ""):
        return _File(str(image.filename), image.size)
    if hasattr(image, "getpalette"):
        return image.mode, image.size, digest([image.tobytes(), bytes(image.getpalette() or [])])
    if hasattr(image, "tobytes"):
        return str(getattr(image, "shape", None)), digest([image.tobytes()])
    return digest([repr(image).encode("utf-8", "surrogatepass")])


def content_key(key: Hashable) -> Hashable:
    """A `stored_key` in which the content of a readable file takes the place of its path."""
    if isinstance(key, _File):
        try:
            content = digest([Path(key.path).read_bytes()])
        except OSError:
            return key
        return content if key.size is None else (content, key.size)
    return key


def digest(parts: Iterable[bytes]) -> bytes:
    """16 bytes that differ for different contents."""
    whole = blake2b(digest_size=16)
    for part in parts:
        whole.update(part)
    return whole.digest()
