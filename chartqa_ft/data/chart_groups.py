"""Which rows show the same chart: those with the same `chart_id` and the same stored image. No image is decoded."""

from __future__ import annotations

import logging
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from ..files import read_regular
from ..images.bombs import MAX_FILE_BYTES
from .stored_columns import column_values

logger = logging.getLogger(__name__)

_ROWS_PER_READ = 64
"""Rows whose stored images are in memory at a time."""


class _File(NamedTuple):
    """An image that is a file of its own; `size` in pixels (width, height), if a loaded image has it."""

    path: str
    size: tuple[int, int] | None = None


def chart_groups(records: Any) -> list[int] | None:
    """Number the charts of records, from 0 in the order of their first rows.

    Rows share a number if they have the same `chart_id` *and* the same stored image. Concatenated datasets may thus
    use one id for different charts: these become different groups, and a warning says so. A row without an id (`None`
    or "") is a chart of its own. Images are read only for ids that several rows have, and never decoded: the cost is
    one pass over their bytes.

    Args:
        records: A `datasets.Dataset` or a list of records.

    Returns:
        The number of the chart for every row, or `None` if the records do not have the columns to tell.

    Example:
        >>> chart_groups([{"chart_id": name, "image": b"..."} for name in ("a", "b", "a", "")])
        [0, 1, 0, 2]
    """
    found = stored_charts(records)
    return None if found is None else found.numbers


class StoredCharts(NamedTuple):
    """The charts of records as they are stored."""

    numbers: list[int]
    """The number of the chart for every row; see `chart_groups`."""
    by_content: frozenset[int]
    """Rows that belong to their chart because several files had equal content when they were compared, which a later
    change of one of the files ends."""


def stored_charts(records: Any) -> StoredCharts | None:
    """Return the charts of records, or `None` if the records do not have the columns to tell; see `chart_groups`.

    Example:
        >>> stored_charts([{"chart_id": "a", "image": b"..."}] * 2)
        StoredCharts(numbers=[0, 0], by_content=frozenset())
    """
    ids = chart_ids(records)
    if ids is None:
        return None
    for row, chart in enumerate(ids):
        check_chart_id(chart, f"row {row}")
    groups = group_rows(ids)
    repeated = [rows for rows in groups if len(rows) > 1]
    images = _keys_of_images(records, repeated)
    contents: dict[int, Hashable] = {}
    ambiguous = []
    for rows in repeated:
        if len({images[row] for row in rows}) > 1:
            # Different files may hold the same image, and one dataset may hold its bytes where another has a path.
            contents.update({row: content_key(images[row]) for row in rows})
            if len({contents[row] for row in rows}) > 1:
                ambiguous.append(rows)
    if ambiguous:
        rows = ambiguous[0]
        other = next(row for row in rows if contents[row] != contents[rows[0]])
        logger.warning(
            "%d chart_ids stand for more than one image, such as %r in rows %d and %d: their rows are treated as "
            "different charts. Make the ids unique before concatenating datasets.",
            len(ambiguous),
            ids[rows[0]],
            rows[0],
            other,
        )
    if not contents:
        of_rows = [0] * len(ids)
        for number, rows in enumerate(groups):
            for row in rows:
                of_rows[row] = number
        return StoredCharts(of_rows, frozenset())
    numbers: dict[Hashable, int] = {}
    return StoredCharts(
        [
            numbers.setdefault((chart, contents.get(row)) if has_chart(chart) else ("row", row, None), len(numbers))
            for row, chart in enumerate(ids)
        ],
        frozenset(row for row in contents if isinstance(images[row], _File)),
    )


def group_rows(charts: Iterable[Any]) -> list[Sequence[int]]:
    """Return the rows of each chart, in the order of their first rows; a row without an id is a chart of its own.

    Consecutive rows are stored as a `range`, which takes less memory than a list and is not tracked by the garbage
    collector.

    Args:
        charts: The id or number of the chart for every row.

    Example:
        >>> group_rows(["a", "a", "b", None, "b", None])
        [range(0, 2), [2, 4], range(3, 4), range(5, 6)]
    """
    groups: list[Sequence[int]] = []
    place: dict[Any, int] = {}
    for row, chart in enumerate(charts):
        found = place.setdefault(chart, len(groups)) if has_chart(chart) else len(groups)
        if found == len(groups):
            groups.append(range(row, row + 1))
            continue
        rows = groups[found]
        if isinstance(rows, list):
            rows.append(row)
        else:
            groups[found] = range(rows[0], row + 1) if rows[-1] == row - 1 else [*rows, row]
    return groups


def has_chart(chart_id: Any) -> bool:
    """Return whether a `chart_id` names a chart; `None` and "" do not, and rows without an id share nothing."""
    return chart_id is not None and chart_id != ""


def check_chart_id(chart_id: Any, where: str) -> None:
    """Check that a `chart_id` can be compared with others.

    Raises:
        TypeError: It is a list, a dict or another mutable object; the message names the record.

    Example:
        >>> check_chart_id(["a.png"], "row 3")
        Traceback (most recent call last):
        ...
        TypeError: row 3: chart_id must be text or a number, got the list ['a.png']
    """
    try:
        hash(chart_id)
    except TypeError:
        raise TypeError(
            f"{where}: chart_id must be text or a number, got the {type(chart_id).__name__} {chart_id!r}"
        ) from None


def chart_ids(records: Any) -> list[Any] | None:
    """Return the `chart_id` of every row without decoding an image, or `None` if no row has one."""
    columns = getattr(records, "column_names", None)
    if columns is not None:
        known = {"chart_id", "image"} <= set(columns)
        return list(column_values(records, "chart_id")) if known else None
    if isinstance(records, (list, tuple)) and any(has_chart(record.get("chart_id")) for record in records):
        return [record.get("chart_id") for record in records]
    return None


def _keys_of_images(records: Any, charts: Collection[Sequence[int]]) -> dict[int, Hashable]:
    """Return a key of the stored image of each row, equal for equal images of a chart.

    The bytes or paths of rows that follow one another are compared, which is ten times faster than a digest, and keeps
    nothing in memory; such rows get the number of the first one as their key.

    Args:
        records: As in `stored_charts`.
        charts: The rows of each chart, in ascending order.
    """
    keys: dict[int, Hashable] = {}
    last_row = {rows[0]: rows[-1] for rows in charts if rows[-1] - rows[0] == len(rows) - 1}
    candidates = sorted(row for rows in charts for row in rows)
    start, last, first = 0, -1, None
    for row, stored in zip(candidates, _stored_images(records, candidates), strict=True):
        image = _inside(stored)
        if row in last_row:
            start, last, first = row, last_row[row], image if type(image) in (bytes, str) else None
        if first is not None and row <= last:
            if image == first:
                keys[row] = start
                continue
            keys.update(dict.fromkeys(range(start, row), stored_key(first)))
            first = None
        keys[row] = stored_key(image)
    return keys


def _stored_images(records: Any, rows: Sequence[int]) -> Iterator[Any]:
    """Yield the images of some rows as they are stored; for a `datasets.Dataset` the undecoded path or bytes."""
    if isinstance(records, (list, tuple)):
        yield from (records[row].get("image") for row in rows)
        return
    stored = records.select_columns(["image"]).with_format("arrow")
    for start in range(0, len(rows), _ROWS_PER_READ):
        yield from stored[list(rows[start : start + _ROWS_PER_READ])]["image"].to_pylist()


def _inside(image: Any) -> Any:
    """Return what a stored image holds: its bytes, or the path of its file."""
    if isinstance(image, Mapping) and ("bytes" in image or "path" in image):
        return image.get("path") if image.get("bytes") is None else image["bytes"]
    return image


def stored_key(image: Any) -> Hashable:
    """Return a key that is equal for equal stored images: a file's path, a digest of bytes, arrays and PIL images."""
    image = _inside(image)
    if isinstance(image, (str, Path)):
        return _File(str(image))
    if isinstance(image, (bytes, bytearray, memoryview)):
        return digest([bytes(image)])
    if getattr(image, "filename", "") and not getattr(image, "is_animated", False):
        return _File(str(image.filename), image.size)
    if hasattr(image, "getpalette"):
        return image.mode, image.size, digest([image.tobytes(), bytes(image.getpalette() or [])])
    if hasattr(image, "tobytes"):
        return str(getattr(image, "shape", None)), digest([image.tobytes()])
    return digest([repr(image).encode("utf-8", "surrogatepass")])


def content_key(key: Hashable) -> Hashable:
    """Return a `stored_key` with the path of a readable file replaced by a digest of its content."""
    if isinstance(key, _File):
        try:
            content = digest([read_regular(key.path, MAX_FILE_BYTES)])
        except OSError:
            return key
        return content if key.size is None else (content, key.size)
    return key


def digest(parts: Iterable[bytes]) -> bytes:
    """Return a digest of some bytes, 16 bytes long."""
    hasher = blake2b(digest_size=16)
    for part in parts:
        hasher.update(part)
    return hasher.digest()
