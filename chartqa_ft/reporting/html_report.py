"""Write a report for people: one HTML file with scores, examples, charts and mistakes, that needs no network."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import logging
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..files import written_whole
from ..metrics.accuracy import source_of
from ..metrics.comparison import compare_predictions
from ..metrics.intervals import mean, wilson_interval
from ..metrics.mistakes import (
    ANSWER_RULES,
    MISTAKE_RULES,
    QUESTION_RULES,
    answer_type,
    explain,
    question_type,
    read_number,
)
from ..metrics.predictions import read_predictions
from ..printable import printable
from .thumbnails import ChartImages, thumbnail

logger = logging.getLogger(__name__)

__all__ = ["write_report"]

Rows = str | os.PathLike[str] | Iterable[Mapping[str, Any]]

_FIELDS = [
    "index",
    "chart",
    "question",
    "answer",
    "prediction",
    "extracted",
    "correct",
    "why",
    "source",
    "question_type",
    "answer_type",
    "kind",
    "error",
    "numbers",
    "other_prediction",
    "other_correct",
    "other_why",
    "change",
]
_LONGEST = 2000
"""Characters of a text in the report. A degenerate answer may have a million."""


def write_report(
    predictions: Rows,
    path: str | os.PathLike[str],
    *,
    images: Any = None,
    other: Rows | None = None,
    names: Sequence[str] = ("A", "B"),
    title: str = "Answers to questions on charts",
    tables: Mapping[str, Sequence[Any]] | None = None,
    variant: str = "pix2struct",
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
            that cannot be opened is left out with a warning.
        other: a second run on the same questions, shown beside the first one with the difference and its interval.
        names: the names of the two runs.
        title: the title of the report.
        tables: the rows of the tables of charts by chart id, where they are known. They tell whether a wrong answer is
            another value of the same chart.
        variant: the variant of relaxed accuracy for the comparison. The scores of a single run are the verdicts in
            its rows.

    Returns:
        The path.

    Raises:
        TypeError: an argument is of a wrong type.
        ValueError: the predictions are damaged, or the two runs have not the same questions.
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
    rows = _rows("predictions", predictions)
    other_rows = None if other is None else _matched(rows, _rows("other", other))
    if isinstance(names, str) or len(names) != 2 or not all(isinstance(name, str) for name in names):
        raise TypeError(f"names must be two texts, the names of the runs, and is {names!r:.60}")
    charts = list(dict.fromkeys(str(row["chart_id"]) for row in rows if row.get("chart_id") is not None))
    pictures, sizes = _pictures(rows, charts, ChartImages(images))
    examples = _examples(
        rows, other_rows, {chart: number for number, chart in enumerate(charts)}, tables or {}, variant
    )
    runs = list(names) if other_rows is not None else [names[0]]
    data = {"fields": _FIELDS, "rows": examples, "names": charts, "sizes": sizes, "runs": runs}
    script, style = _part("page.js"), _part("page.css")
    n = len(rows)
    fields = {
        "policy": f"default-src 'none'; img-src data:; style-src 'sha256-{_digest(style)}'; "
        f"script-src 'sha256-{_digest(script)}'; base-uri 'none'; form-action 'none'",
        "version": html.escape(version("chartqa_ft")),
        "title": html.escape(_shown(title)),
        "summary": html.escape(f"{n:,} {'question' if n == 1 else 'questions'} on {len(charts):,} charts"),
        "scores": _scores(rows, other_rows, runs),
        "comparison": "" if other is None else _comparison(rows, other_rows or [], runs, variant),
        "tables": _mistakes(examples),
        "rules": _rules(),
        "style": style,
        "script": script,
        "data": _json(data),
        "charts": _json(pictures),
    }
    template = _part("page.html")
    with written_whole(Path(path)) as file:
        # Each field is filled in once, so that a title such as "{{data}}" stays a text.
        for number, piece in enumerate(template.split("{{")):
            name, _, rest = piece.partition("}}") if number else ("", "", piece)
            file.write(fields[name] + rest if number else rest)
    return Path(path)


def _rows(name: str, given: Rows) -> list[Mapping[str, Any]]:
    if isinstance(given, (str, os.PathLike)):
        return list(read_predictions(given))
    if isinstance(given, (Mapping, bytes)) or not isinstance(given, Iterable):
        raise TypeError(f"{name} is {given!r:.60}: pass the path of a predictions.jsonl, or its rows")
    rows = list(given)
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise TypeError(f"{name}[{number}] must be a dict, and is {row!r:.60}")
        missing = [key for key in ("question", "answer", "prediction", "correct") if key not in row]
        if missing:
            raise ValueError(f"{name}[{number}] lacks {', '.join(missing)}")
    if not rows:
        raise ValueError(f"{name} holds no rows: there is nothing to report")
    return [{"index": number, "chart_id": None, "source": None, **row} for number, row in enumerate(rows)]


def _matched(rows: list[Mapping[str, Any]], others: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows of the other run in the order of the first one."""
    by_index = {row["index"]: row for row in others}
    found = []
    for row in rows:
        there = by_index.get(row["index"])
        if there is None or there["question"] != row["question"]:
            asked = "" if there is None else f", where it is {there['question']!r:.80}"
            raise ValueError(
                f"other does not have the same questions: index {row['index']} is {row['question']!r:.80}{asked}"
            )
        found.append(there)
    if len(by_index) != len(rows):
        raise ValueError(
            f"other does not have the same questions: it has {len(by_index)}, predictions has {len(rows)}"
        )
    return found


def _pictures(
    rows: list[Mapping[str, Any]], charts: list[str], images: ChartImages
) -> tuple[list[str | None], list[tuple[int, int] | None]]:
    """Return each chart once, as WebP in base64, and its size; None for charts without a picture."""
    first: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        first.setdefault(str(row["chart_id"]), row)
    pictures: list[str | None] = []
    sizes: list[tuple[int, int] | None] = []
    failed: list[str] = []
    for chart in charts:
        image = images.find(first[chart])
        content: str | None = None
        size: tuple[int, int] | None = None
        if image is not None:
            try:
                encoded, size = thumbnail(image)
                content = base64.b64encode(encoded).decode("ascii")
            except (ValueError, OSError) as error:
                failed.append(f"{_shown(chart)} ({error})")
        pictures.append(content)
        sizes.append(size)
    if failed:
        logger.warning(
            "%d of %d charts cannot be opened and have no picture in the report, the first is %s",
            len(failed),
            len(charts),
            failed[0],
        )
    return pictures, sizes


def _examples(
    rows: list[Mapping[str, Any]],
    others: list[Mapping[str, Any]] | None,
    numbers: Mapping[str, int],
    tables: Mapping[str, Sequence[Any]],
    variant: str,
) -> list[list[Any]]:
    examples = []
    for position, row in enumerate(rows):
        table = tables.get(row["chart_id"], ()) if row["chart_id"] is not None else ()
        scored = row.get("extracted") if row.get("extracted") is not None else row["prediction"]
        found = explain(scored, row["answer"], row["correct"], table=table)
        answer = row["answer"]
        pair = (read_number(str(scored)), None if isinstance(answer, list) else read_number(str(answer)))
        values: dict[str, Any] = {
            "index": row["index"],
            "chart": None if row["chart_id"] is None else numbers[str(row["chart_id"])],
            "question": _shown(row["question"]),
            "answer": None
            if answer is None
            else _shown(" or ".join(map(str, answer)) if isinstance(answer, list) else answer),
            "prediction": _shown(row["prediction"]),
            "extracted": None if row.get("extracted") is None else _shown(row["extracted"]),
            "correct": row["correct"],
            "why": found.why,
            "source": None if row["source"] is None else _shown(row["source"]),
            "question_type": _shown(row.get("question_type") or question_type(row["question"])),
            "answer_type": answer_type(answer),
            "kind": found.kind,
            "error": found.error,
            "numbers": list(pair) if None not in pair else None,
        }
        if others is not None:
            there = others[position]
            text = there.get("extracted") if there.get("extracted") is not None else there["prediction"]
            values |= {
                "other_prediction": _shown(there["prediction"]),
                "other_correct": there["correct"],
                "other_why": explain(text, answer, there["correct"], table=table).why,
                "change": _change(row, there),
            }
        examples.append([_finite(values.get(name)) for name in _FIELDS])
    return examples


def _change(row: Mapping[str, Any], there: Mapping[str, Any]) -> str:
    a, b = row["correct"], there["correct"]
    if a is None or b is None:
        return "no answer"
    if a != b:
        return "better in the second" if b > a else "worse in the second"
    if row["prediction"] == there["prediction"]:
        return "same answer"
    return "other answer, same verdict"


def _scores(rows: list[Mapping[str, Any]], others: list[Mapping[str, Any]] | None, runs: Sequence[str]) -> str:
    tables = []
    for name, run in zip(runs, (rows, others), strict=False):
        if run is None:
            continue
        groups: dict[str, list[float]] = {}
        for row in run:
            if row["correct"] is not None:
                source = source_of(row.get("source"))
                if source is not None:
                    groups.setdefault(source, []).append(row["correct"])
        known = [row["correct"] for row in run if row["correct"] is not None]
        parts = [*sorted(groups.items(), key=lambda item: (item[0] not in ("human", "augmented"), item[0]))]
        lines = []
        for part, verdicts in (*(parts if len(parts) > 1 else ()), ("all questions", known)):
            if verdicts:
                low, high = wilson_interval(mean(verdicts), len(verdicts))
                lines.append(
                    [part, f"{100 * mean(verdicts):.2f}", f"{100 * low:.2f} - {100 * high:.2f}", f"{len(verdicts):,}"]
                )
        caption = name if len(runs) > 1 else ""
        tables.append(_table(["questions", "accuracy [%]", "95 % interval", "n"], lines, caption))
    return f'<div class="columns">{"".join(tables)}</div>'


def _comparison(
    rows: list[Mapping[str, Any]], others: list[Mapping[str, Any]], runs: Sequence[str], variant: str
) -> str:
    result = compare_predictions(list(map(dict, rows)), list(map(dict, others)), variant=variant)
    lines = []
    for part, numbers in (*result.get("by_source", {}).items(), ("all questions", result)):
        lines.append(
            [
                part,
                f"{100 * numbers['difference']:+.2f}",
                f"{100 * numbers['difference_ci_low']:+.2f} - {100 * numbers['difference_ci_high']:+.2f}",
                f"{numbers['p_value']:.3g}",
            ]
        )
    head = ["questions", "difference [points]", "95 % interval", "p"]
    caption = f"{runs[1]} minus {runs[0]}"
    return (
        '<section aria-labelledby="comparison"><h2 id="comparison">Comparison</h2>'
        f"{_table(head, lines, caption)}<p class='note'>Paired by question; scored by the variant "
        f"{html.escape(result['variant'])}. p is that of McNemar's exact test.</p></section>"
    )


def _mistakes(examples: list[list[Any]]) -> str:
    at = {name: number for number, name in enumerate(_FIELDS)}
    known = [row for row in examples if row[at["correct"]] is not None]
    wrong = [row for row in known if row[at["correct"]] < 1]
    kinds = Counter(row[at["kind"]] for row in wrong)
    lines = [
        [kind, f"{kinds[kind]:,}", f"{100 * kinds[kind] / len(wrong):.1f}"] for kind in MISTAKE_RULES if kinds[kind]
    ]
    tables = [_table(["kind of mistake", "n", "% of mistakes"], lines, "Kinds of mistakes")] if lines else []
    for name, caption in (("question_type", "Types of questions"), ("answer_type", "Types of answers")):
        groups: dict[str, list[float]] = {}
        for row in known:
            groups.setdefault(row[at[name]], []).append(row[at["correct"]])
        lines = [
            [group, f"{100 * mean(verdicts):.1f}", f"{len(verdicts):,}"]
            for group, verdicts in sorted(groups.items(), key=lambda item: -len(item[1]))
        ]
        tables.append(_table([name.replace("_", " "), "accuracy [%]", "n"], lines, caption))
    return "".join(tables)


def _rules() -> str:
    lists = []
    for caption, rules in (
        ("Types of questions", QUESTION_RULES),
        ("Types of answers", ANSWER_RULES),
        ("Kinds of mistakes", MISTAKE_RULES),
    ):
        items = "".join(f"<li>{html.escape(name)}: {html.escape(rule)}</li>" for name, rule in rules.items())
        lists.append(f"<p>{caption}. The first rule that fits decides.</p><ol>{items}</ol>")
    return "".join(lists)


def _table(head: list[str], lines: list[list[str]], caption: str = "") -> str:
    top = f"<caption>{html.escape(_shown(caption))}</caption>" if caption else ""
    cells = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(_shown(cell))}</td>' for cell in line)}</tr>" for line in lines)
    return f'<div class="scroll"><table>{top}<thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>'


def _shown(value: Any) -> str:
    """Return a text of bounded length, with escapes in place of characters that are not printed as themselves."""
    text = printable(value, lines=True)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ... ({len(text):,} characters)"


def _finite(value: Any) -> Any:
    """Return JSON's form of a number: rounded, and None for what is not finite."""
    if isinstance(value, list):
        rounded = [_finite(item) for item in value]
        return None if None in rounded else rounded
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


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
