"""The rows of a report: predictions of one or two runs, read, matched and explained."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..metrics.accuracy import per_example_correctness, source_of
from ..metrics.mistakes import Explanation, answer_type, explain, question_type, read_number
from ..metrics.notation import find_notation
from ..metrics.predictions import is_blank, read_predictions
from ..printable import printable
from .chart_files import ChartTables
from .task_rows import QA, grids, of_qa, task_of
from .task_rows import why as task_why

Rows = str | os.PathLike[str] | Iterable[Mapping[str, Any]]
"""The path of a `predictions.jsonl`, or its rows."""

FIELDS = [
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
    "grids",
    "other_prediction",
    "other_correct",
    "other_why",
    "other_kind",
    "change",
]
"""What the page knows about a row, in this order."""
_NEEDED = ("question", "answer", "prediction", "correct")
_SAME = ("chart_id", "answer")
"""Fields in which the rows of two runs agree, beside the question, if both have them."""
_LONGEST = 2000
"""Characters of a text in the report. A degenerate answer may have a million."""


def read_rows(name: str, given: Rows, *, variant: str | None = None) -> list[dict[str, Any]]:
    """Return the rows of a run, checked, each with all fields of `predictions.jsonl`.

    Args:
        name: the name of the argument, for messages.
        given: the path of a `predictions.jsonl`, or its rows. Rows without `index` are numbered.
        variant: a variant of relaxed accuracy that scores the rows again; `None` keeps their verdicts.

    Raises:
        TypeError: `given` or a row is of a wrong type.
        ValueError: there are no rows, a row lacks a field, or its verdict is not a number from 0 to 1.

    Example:
        >>> row = {"question": "How many bars?", "answer": "3", "prediction": "4", "correct": False}
        >>> read_rows("predictions", [row])[0]["correct"]
        0.0
    """
    if isinstance(given, (str, os.PathLike)):
        rows = read_predictions(given)
    elif isinstance(given, (Mapping, bytes)) or not isinstance(given, Iterable):
        raise TypeError(f"{name} is {given!r:.60}: pass the path of a predictions.jsonl, or its rows")
    else:
        rows = [_checked(f"{name}[{number}]", number, row) for number, row in enumerate(given)]
    if not rows:
        raise ValueError(f"{name} holds no rows: there is nothing to report")
    return rows if variant is None else _scored(rows, variant)


def _checked(name: str, number: int, row: Any) -> dict[str, Any]:
    if not isinstance(row, Mapping):
        raise TypeError(f"{name} must be a dict, and is {row!r:.60}")
    missing = [key for key in _NEEDED if key not in row]
    if missing:
        raise ValueError(f"{name} lacks {', '.join(missing)}")
    correct = row["correct"]
    if correct is not None:
        try:
            correct = float(correct)
        except (TypeError, ValueError):
            correct = math.nan
        if not 0 <= correct <= 1:
            raise ValueError(f"{name}: correct must be a number from 0 to 1, or None, and is {row['correct']!r:.60}")
    return {"index": number, "chart_id": None, "source": None, **row, "correct": correct}


def _scored(rows: list[dict[str, Any]], variant: str) -> list[dict[str, Any]]:
    known = [row for row in rows if not is_blank(row["answer"]) and task_of(row) == QA]
    extra: dict[str, list[Any]] = {}
    for key, argument in (("year_flags", "year_flags"), ("question_type", "question_types")):
        if any(row.get(key) is not None for row in known):
            extra[argument] = [row.get(key) for row in known]
    verdicts = per_example_correctness(
        predictions=[scored_text(row) for row in known],
        references=[row["answer"] for row in known],
        variant=variant,
        year_flags=extra.get("year_flags"),
        question_types=extra.get("question_types"),
    )
    numbers = iter(verdicts)
    return [
        row if task_of(row) != QA else {**row, "correct": None if is_blank(row["answer"]) else next(numbers)}
        for row in rows
    ]


def scored_text(row: Mapping[str, Any]) -> Any:
    """Return the answer that was scored: the extracted one, or the whole prediction."""
    return row["extracted"] if row.get("extracted") is not None else row["prediction"]


def match_rows(rows: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows of a second run in the order of the first one, by `index`.

    Raises:
        ValueError: the runs do not have the same questions, their answers were scored in different ways, or an index
            occurs twice.
    """
    by_index = {_key("other", row): row for row in others}
    if len(by_index) < len(others) or len({_key("predictions", row) for row in rows}) < len(rows):
        raise ValueError("an index occurs twice, so that the questions of the two runs cannot be matched")
    found = []
    for row in rows:
        there = by_index.get(row["index"])
        if there is None or there["question"] != row["question"]:
            asked = "" if there is None else f", where it is {printable(there['question'])!r:.80}"
            raise ValueError(
                f"other does not have the same questions: index {row['index']} is "
                f"{printable(row['question'])!r:.80}{asked}"
            )
        for key in _SAME:
            mine, theirs = row.get(key), there.get(key)
            if mine != theirs and not is_blank(mine) and not is_blank(theirs):
                raise ValueError(
                    f"other does not have the same questions: the {key} of index {row['index']} is "
                    f"{printable(mine)!r:.80}, where it is {printable(theirs)!r:.80}"
                )
        _check_same_rule(row, there)
        found.append(there)
    if len(by_index) != len(rows):
        raise ValueError(
            f"other does not have the same questions: it has {len(by_index)}, predictions has {len(rows)}"
        )
    return found


def _check_same_rule(row: Mapping[str, Any], there: Mapping[str, Any]) -> None:
    """Check that two answers to one question were scored in the same way, as far as they show it."""
    if task_of(row) != task_of(there):
        raise ValueError(
            f"index {row['index']} is of the task {task_of(row)!r} in predictions, and of {task_of(there)!r} in "
            "other: the two runs cannot be compared"
        )
    if task_of(row) != QA:
        return
    if (row.get("extracted") is None) != (there.get("extracted") is None):
        raise ValueError(
            f"the answer of index {row['index']} was extracted in one of the two runs only, so that their scores "
            "cannot be compared: evaluate both with the same metric_extract"
        )
    verdicts = row["correct"], there["correct"]
    if None not in verdicts and scored_text(row) == scored_text(there) and verdicts[0] != verdicts[1]:
        raise ValueError(
            f"index {row['index']} has the same answer in both runs, and the verdicts {verdicts[0]:g} and "
            f"{verdicts[1]:g}: they were scored in different ways. Pass variant=, to score both again"
        )


def _key(name: str, row: Mapping[str, Any]) -> Any:
    try:
        hash(row["index"])
    except TypeError:
        raise TypeError(f"{name}: an index is {row['index']!r:.60}, and must be a number") from None
    return row["index"]


def explained_rows(
    rows: Sequence[Mapping[str, Any]],
    others: Sequence[Mapping[str, Any]] | None,
    charts: Mapping[str, int],
    tables: ChartTables,
) -> list[dict[str, Any]]:
    """Return what a report shows of each row, with the keys of `FIELDS`: texts that can be shown, and types.

    Args:
        rows: the rows of the first run.
        others: those of the second run, in the same order.
        charts: the number of each chart by its id.
        tables: the tables of the charts.
    """
    labels = [row["answer"] for row in of_qa(rows) if not is_blank(row["answer"])]
    texts = [[str(item) for item in label] if isinstance(label, list) else str(label) for label in labels]
    comma = find_notation(texts).mark == "comma"
    found = []
    for position, row in enumerate(rows):
        chart, answer = row["chart_id"], row["answer"]
        table = tables.find(chart)

        if task_of(row) != QA:
            second = others[position] if others is not None else None
            found.append(_of_task(row, second, None if chart is None else charts[str(chart)]))
            continue

        def why(one: Mapping[str, Any], answer: Any = answer, table: list[Any] = table) -> Explanation:
            return explain(scored_text(one), answer, one["correct"], table=table, decimal_comma=comma)

        here = why(row)
        values: dict[str, Any] = {
            "index": row["index"] if isinstance(row["index"], int) else shown(row["index"]),
            "chart": None if chart is None else charts[str(chart)],
            "question": shown(row["question"]),
            "answer": None if is_blank(answer) else shown(_in_one(answer)),
            "prediction": shown(row["prediction"]),
            "extracted": None if row.get("extracted") is None else shown(row["extracted"]),
            "correct": row["correct"],
            "why": here.why,
            "source": None if source_of(row["source"]) is None else shown(source_of(row["source"])),
            "question_type": shown(row.get("question_type") or question_type(row["question"])),
            "answer_type": answer_type(answer, decimal_comma=comma),
            "kind": here.kind,
            "error": here.error,
            "numbers": _numbers(scored_text(row), answer, comma),
        }
        if others is not None:
            there = others[position]
            other = why(there)
            values |= {
                "other_prediction": shown(there["prediction"]),
                "other_correct": there["correct"],
                "other_why": other.why,
                "other_kind": other.kind,
                "change": _change(row, there),
            }
        found.append({name: _finite(values.get(name)) for name in FIELDS})
    return found


def _of_task(row: Mapping[str, Any], other: Mapping[str, Any] | None, chart: int | None) -> dict[str, Any]:
    """Return what a report shows of a row of another task than short answers."""
    values: dict[str, Any] = {
        "index": row["index"] if isinstance(row["index"], int) else shown(row["index"]),
        "chart": chart,
        "question": shown(row["question"] or f"({task_of(row)})"),
        "answer": None if is_blank(row["answer"]) else shown(row["answer"]),
        "prediction": shown(row["prediction"]),
        "correct": row["correct"],
        "why": task_why(row),
        "source": None if source_of(row["source"]) is None else shown(source_of(row["source"])),
        "question_type": shown(task_of(row)),
        "grids": grids(row),
    }
    if other is not None:
        values |= {
            "other_prediction": shown(other["prediction"]),
            "other_correct": other["correct"],
            "other_why": task_why(other),
            "change": _change(row, other),
        }
    return {name: values[name] if name == "grids" else _finite(values.get(name)) for name in FIELDS}


def _numbers(prediction: Any, answer: Any, comma: bool) -> list[float] | None:
    """Return predicted number and answer, or None if one of them is no number."""
    if isinstance(answer, list) or is_blank(answer):
        return None
    p, t = (read_number(str(text), decimal_comma=comma) for text in (prediction, answer))
    return None if p is None or t is None else [p, t]


def _in_one(answer: Any) -> str:
    return " or ".join(map(str, answer)) if isinstance(answer, list) else str(answer)


def _change(row: Mapping[str, Any], there: Mapping[str, Any]) -> str:
    a, b = row["correct"], there["correct"]
    if a is None or b is None:
        return "no answer"
    if a != b:
        return "better in the second" if b > a else "worse in the second"
    return "same answer" if row["prediction"] == there["prediction"] else "other answer, same verdict"


def shown(value: Any) -> str:
    """Return a text of bounded length, with escapes in place of characters that are not printed as themselves.

    Example:
        >>> shown("a\\x1b[2J\\u202eb")
        'a\\\\x1b[2J\\\\u202eb'
    """
    text = "" if value is None else str(value)
    if len(text) <= _LONGEST:
        return printable(text, lines=True)
    return f"{printable(text[:_LONGEST], lines=True)} ... ({len(text):,} characters)"


def _finite(value: Any) -> Any:
    """Return JSON's form of a number: rounded, and None for what is not finite."""
    if isinstance(value, list):
        rounded = [_finite(item) for item in value]
        return None if None in rounded else rounded
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
