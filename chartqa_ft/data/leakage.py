"""Chart leakage: charts of the evaluation data that are in the training data too, as copies of any kind.

A model may have learned the answers about such a chart, so that its score says less about new charts.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..images.fingerprint_cache import read_fingerprints, write_fingerprints
from ..images.fingerprints import FINGERPRINT, fingerprint
from ..images.near import near_pairs
from ..images.opening import open_image
from .chart_groups import content_key, digest, has_chart, stored_key

__all__ = ["Leakage", "SharedChart", "find_leakage"]

Kind = Literal["bytes", "pixels", "near"]

_KINDS: dict[Kind, str] = {
    "bytes": "with the same bytes",
    "pixels": "with the same pixels",
    "near": "nearly the same (another format, quality, size or margin)",
}
_SHOWN = 3
"""Number of charts that a message names."""
_ROWS = 64
"""Rows whose stored images are in memory at a time."""
_WORTHWHILE = 200
"""Number of new fingerprints, of about 6 ms each, from which on the cache is written."""


@dataclass(frozen=True)
class SharedChart:
    """A chart of the evaluation data that is in the training data too."""

    evaluation: str
    """Its `chart_id` in the evaluation data, or its row there."""
    training: str
    """The same in the training data."""
    kind: Kind
    """`"bytes"`: the stored images are equal. `"pixels"`: the pictures are. `"near"`: they are nearly the same."""


@dataclass(frozen=True)
class Leakage:
    """What `find_leakage` has found."""

    charts: int
    """Number of different charts in the evaluation data."""
    questions: int
    """Number of evaluation questions about charts that are in the training data too."""
    shared: tuple[SharedChart, ...] = ()
    """These charts, those with the same bytes first."""
    unread: int = 0
    """Number of images that could not be decoded, and were not compared."""

    def __str__(self) -> str:
        if not self.shared:
            text = f"none of the {self.charts} evaluation charts is in the training data"
        else:
            counts = Counter(chart.kind for chart in self.shared)
            kinds = ", ".join(f"{counts[kind]} {text}" for kind, text in _KINDS.items() if counts[kind])
            names = [
                chart.evaluation if chart.evaluation == chart.training else f"{chart.evaluation} (as {chart.training})"
                for chart in self.shared[:_SHOWN]
            ]
            more = "" if len(self.shared) <= _SHOWN else f" and {len(self.shared) - _SHOWN} more"
            text = (
                f"{len(self.shared)} of {self.charts} evaluation charts, with {self.questions} questions, are in the "
                f"training data too ({kinds}): {', '.join(names)}{more}"
            )
        return f"{text}; {self.unread} images could not be read" if self.unread else text


@dataclass
class _Charts:
    """The different charts of a data set, by the digest of their stored content."""

    names: dict[bytes, str] = field(default_factory=dict)
    rows: Counter[bytes] = field(default_factory=Counter)
    prints: dict[bytes, Any] = field(default_factory=dict)
    unread: set[bytes] = field(default_factory=set)

    def collect(self, known: dict[bytes, Any], running: dict[bytes, Future], keys: Sequence[bytes]) -> None:
        """Wait for the fingerprints of some charts, and add them to `known`."""
        for key in keys:
            found = running.pop(key).result()
            if found is None:
                self.unread.add(key)
            else:
                known[key] = found

    def readable(self) -> list[bytes]:
        """Return the charts that have a fingerprint."""
        return [key for key in self.names if key not in self.unread]

    def table(self, keys: Sequence[bytes]) -> np.ndarray:
        """Return the fingerprints of some charts, shape (len(keys),)."""
        table: np.ndarray = np.zeros(len(keys), FINGERPRINT)
        for place, key in enumerate(keys):
            table[place] = self.prints[key]
        return table


def find_leakage(
    training: Any, evaluation: Any, *, cache: Path | None = None, threads: int | None = None, progress: bool = False
) -> Leakage:
    """Find the charts of the evaluation data that are in the training data too.

    Every chart is decoded once, in some 6 ms, and compared by its fingerprint: by its bytes, its pixels, and then by
    perceptual hashes and small gray pictures. These find copies in another format, quality (JPEG of 30 and above) or
    size (scaled by 0.25 to 2), in gray, and with other plain margins. Copies in other colors, and those that are cut
    or drawn on, are not found.

    Args:
        training: records with an `image` and perhaps a `chart_id`: a `datasets.Dataset`, whose images stay encoded, or
            a sequence of dicts.
        evaluation: likewise.
        cache: folder that keeps fingerprints for the next call; `None` keeps none.
        threads: number of threads that decode charts; `None`: one per processor, at most 8.
        progress: show a progress bar.

    Returns:
        The charts that both have. An image that cannot be decoded is counted, and not compared.

    Example:
        >>> from chartqa_ft import synthetic_chartqa
        >>> charts = synthetic_chartqa(4, seed=0)
        >>> found = find_leakage(charts, [{"image": charts[0]["image"].resize((192, 192)), "chart_id": "big"}])
        >>> [(chart.evaluation, chart.kind) for chart in found.shared], found.questions
        ([('big', 'near')], 1)
        >>> print(find_leakage([charts[0]], [charts[len(charts) - 1]]))
        none of the 1 evaluation charts is in the training data
    """
    known = read_fingerprints(cache)
    before = len(known)
    with ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1)) as pool:
        sides = [
            _charts_of(records, known, pool, f"charts of the {name} data" if progress else None)
            for records, name in ((training, "training"), (evaluation, "evaluation"))
        ]
    if cache is not None and len(known) - before >= _WORTHWHILE:
        used = {key: known.pop(key) for side in sides for key in side.readable() if key in known}
        write_fingerprints(cache, {**known, **used})
    return _compare(*sides)


def _compare(training: _Charts, evaluation: _Charts) -> Leakage:
    train_keys = training.readable()
    by_pixels = {training.prints[key]["pixels"].tobytes(): key for key in reversed(train_keys)}
    twins: dict[bytes, tuple[Kind, bytes]] = {}
    rest = []
    for key in evaluation.names:
        if key in training.names:
            twins[key] = ("bytes", key)
        elif key in evaluation.prints:
            twin = by_pixels.get(evaluation.prints[key]["pixels"].tobytes())
            if twin is None:
                rest.append(key)
            else:
                twins[key] = ("pixels", twin)
    for row, other in near_pairs(evaluation.table(rest), training.table(train_keys)):
        twins.setdefault(rest[row], ("near", train_keys[other]))
    shared = [SharedChart(evaluation.names[key], training.names[twin], kind) for key, (kind, twin) in twins.items()]
    return Leakage(
        charts=len(evaluation.names),
        questions=sum(evaluation.rows[key] for key in twins),
        shared=tuple(sorted(shared, key=lambda chart: list(_KINDS).index(chart.kind))),
        unread=len(training.unread) + len(evaluation.unread),
    )


def _charts_of(records: Any, known: dict[bytes, Any], pool: ThreadPoolExecutor, progress: str | None) -> _Charts:
    """Return the charts of a data set, and add their fingerprints to `known`."""
    charts = _Charts()
    stored = _stored(records)
    rows: Iterable[Any] = iter(lambda: list(islice(stored, _ROWS)), [])
    if progress:
        from tqdm.auto import tqdm

        rows = tqdm(rows, desc=progress, total=-(-len(records) // _ROWS), unit_scale=_ROWS, leave=False)
    running: dict[bytes, Future] = {}
    for some in rows:
        earlier = list(running)
        for row, (name, image) in some:
            key = _key(image)
            charts.names.setdefault(key, str(name) if has_chart(name) else f"row {row}")
            charts.rows[key] += 1
            if not (key in known or key in charts.unread or key in running):
                running[key] = pool.submit(_fingerprint, image)
        # While some charts are decoded, the next ones are read.
        charts.collect(known, running, earlier)
    charts.collect(known, running, list(running))
    charts.prints = {key: known[key] for key in charts.readable()}
    return charts


def _stored(records: Any) -> Iterator[tuple[int, tuple[Any, Any]]]:
    """Yield (row, (chart_id, image)) of every record; images of a `datasets.Dataset` as they are stored."""
    if hasattr(records, "select_columns"):
        named = "chart_id" in records.column_names
        table = records.select_columns(["image", *(["chart_id"] if named else [])]).with_format("arrow")
        for start in range(0, len(records), _ROWS):
            part = table[start : start + _ROWS]
            images = part["image"].to_pylist()
            names = part["chart_id"].to_pylist() if named else [None] * len(images)
            yield from enumerate(zip(names, images, strict=True), start)
        return
    for row in range(len(records)):
        record = records[row]
        yield row, (record.get("chart_id"), record["image"])


def _key(image: Any) -> bytes:
    """Return a digest of an image as it is stored."""
    key = content_key(stored_key(image))
    return key if isinstance(key, bytes) else digest([repr(key).encode("utf-8", "surrogatepass")])


def _fingerprint(image: Any) -> np.ndarray | None:
    try:
        return fingerprint(open_image(image))
    except Exception:  # decoders may raise anything; training itself names the record
        return None
