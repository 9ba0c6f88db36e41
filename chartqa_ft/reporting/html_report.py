"""Write a report for people: one HTML file with scores, examples, charts and mistakes, that needs no network."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import logging
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..files import check_not_read, written_whole
from ..metrics.limits import INTERVALS
from .chart_files import ChartTables
from .report_rows import FIELDS, Rows, explained_rows, match_rows, read_rows, shown
from .report_tables import comparison, mistake_tables, rule_lists, score_tables, task_scores
from .task_rows import QA, of_qa, task_of
from .thumbnails import ChartImages, thumbnail

logger = logging.getLogger(__name__)

__all__ = ["write_report"]


def write_report(
    predictions: Rows,
    path: str | os.PathLike[str],
    *,
    images: Any = None,
    other: Rows | None = None,
    names: Sequence[str] = ("A", "B"),
    title: str = "Answers to questions on charts",
    tables: str | os.PathLike[str] | Mapping[str, Sequence[Any]] | None = None,
    variant: str | None = None,
    interval: str = "wilson",
) -> Path:
    """Write predictions as one HTML file with scores, mistakes and every example with its chart.

    The file loads nothing: pictures, style and script are inside, and a content security policy forbids the rest. All
    texts are escaped. Examples can be searched, sorted, and filtered by verdict, source, type of question and answer
    and kind of mistake.

    Args:
        predictions: the path of a `predictions.jsonl`, or its rows.
        path: the file to write. Its folder is created if it is missing.
        images: the charts: a folder of image files named by chart id, a dict from chart id to image, or records with
            `image` (and `chart_id`), such as those of `load_chartqa`. Without it the report has no pictures. A chart
            that cannot be opened, or is not in the folder, is left out with a warning.
        other: a second run on the same questions, shown beside the first one with the difference and its interval.
        names: the names of the two runs.
        title: the title of the report.
        tables: the tables of the charts, where they are known: a folder of CSV files named by chart id, or a dict from
            chart id to rows. They tell whether a wrong answer is another value of the same chart. By default the
            folder `tables` beside `images`, if there is one, as in the original layout of ChartQA.
        variant: a variant of relaxed accuracy that scores all rows again. By default the verdicts in the rows count.
        interval: the intervals of accuracies, as in `relaxed_accuracy`: `"wilson"`, `"bootstrap"` or `"clustered"`.

    Returns:
        The path.

    Raises:
        TypeError: an argument is of a wrong type.
        ValueError: the predictions are damaged, the two runs do not have the same questions or were scored in
            different ways, `interval` is unknown, or `path` is one of the files that are read.
        OSError: a file cannot be read or written.

    Example:
        >>> import tempfile
        >>> row = {"index": 0, "chart_id": "a.png", "question": "How many <b>bars</b>?", "answer": "3"}
        >>> row |= {"prediction": "4", "correct": 0.0, "source": "human"}
        >>> path = write_report([row], Path(tempfile.mkdtemp()) / "report.html")
        >>> text = path.read_text(encoding="utf-8")
        >>> "off by +33.3 %" in text, "<b>bars" in text
        (True, False)
    """
    if isinstance(names, str) or len(names) != 2 or not all(isinstance(name, str) for name in names):
        raise TypeError(f"names must be two texts, the names of the runs, and is {names!r:.60}")
    if interval not in INTERVALS:
        raise ValueError(f"interval must be one of {', '.join(INTERVALS)}, and is {interval!r:.60}")
    check_not_read(path, predictions, other)
    rows = read_rows("predictions", predictions, variant=variant)
    others = None if other is None else match_rows(rows, read_rows("other", other, variant=variant))
    charts = list(dict.fromkeys(str(row["chart_id"]) for row in rows if row["chart_id"] is not None))
    pictures, sizes = _pictures(rows, charts, ChartImages(images))
    numbers = {chart: number for number, chart in enumerate(charts)}
    of_charts = ChartTables(_tables_beside(images) if tables is None else tables)
    examples = explained_rows(rows, others, numbers, of_charts)
    both: list[Sequence[Mapping[str, Any]]] = [rows] if others is None else [rows, others]
    answers = of_qa(rows)
    runs = [shown(name) for name in (names if others is not None else names[:1])]
    script, style = _part("page.js"), _part("page.css")
    fields = {
        "policy": f"default-src 'none'; img-src data:; style-src 'sha256-{_digest(style)}'; "
        f"script-src 'sha256-{_digest(script)}'; base-uri 'none'; form-action 'none'",
        "version": html.escape(_version()),
        "title": html.escape(shown(title)),
        "summary": f"{_count(rows, 'question')} on {_count(charts, 'chart')}",
        "scores": (score_tables(list(map(of_qa, both)), runs, interval) if answers else "") + task_scores(both, runs),
        "comparison": "" if others is None or not answers else comparison(answers, of_qa(others), runs),
        "tables": mistake_tables([e for e, row in zip(examples, rows, strict=True) if task_of(row) == QA], runs),
        "rules": rule_lists(),
        "style": style,
        "script": script,
        "data": _json(
            {
                "fields": FIELDS,
                "rows": [list(row.values()) for row in examples],
                "names": [shown(chart) for chart in charts],
                "sizes": sizes,
                "runs": runs,
            }
        ),
        "charts": _json(pictures),
    }
    with written_whole(Path(path)) as file:
        # Each field is filled in once, so that a title such as "{{data}}" stays a text.
        for number, piece in enumerate(_part("page.html").split("{{")):
            name, _, rest = piece.partition("}}") if number else ("", "", piece)
            file.write(fields[name] + rest if number else rest)
    return Path(path)


def _tables_beside(images: Any) -> Path | None:
    beside = Path(images).resolve().parent / "tables" if isinstance(images, (str, Path)) else None
    return beside if beside is not None and beside.is_dir() else None


def _version() -> str:
    """Return the version of this package; nothing in a checkout that is not installed."""
    try:
        return version("chartqa_ft")
    except PackageNotFoundError:
        return ""


def _count(items: Sequence[Any], name: str) -> str:
    return f"{len(items):,} {name}{'s' * (len(items) != 1)}"


def _pictures(
    rows: Sequence[Mapping[str, Any]], charts: list[str], images: ChartImages
) -> tuple[list[str | None], list[tuple[int, int] | None]]:
    """Return each chart once, as WebP in base64, and its size; None for charts without a picture."""
    first: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        first.setdefault(str(row["chart_id"]), row)
    pictures: list[str | None] = []
    sizes: list[tuple[int, int] | None] = []
    failed: list[str] = []
    for chart in charts:
        content: str | None = None
        size: tuple[int, int] | None = None
        try:
            image = images.find(first[chart])  # a data set decodes it here
            if image is not None:
                encoded, size = thumbnail(image)
                content = base64.b64encode(encoded).decode("ascii")
        except (ValueError, OSError) as error:
            failed.append(f"{shown(chart)} ({error})")
        pictures.append(content)
        sizes.append(size)
    missing = sum(picture is None for picture in pictures) - len(failed)
    if missing and images.folder is not None:
        logger.warning("%d of %d charts are not in %s", missing, len(charts), images.folder)
    if failed:
        logger.warning(
            "%d of %d charts cannot be opened and have no picture in the report, the first is %s",
            len(failed),
            len(charts),
            failed[0],
        )
    return pictures, sizes


def _json(value: Any) -> str:
    """Return JSON that cannot end the script element that it stands in."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _part(name: str) -> str:
    return files(__package__).joinpath("page", name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
