"""What a report shows of the answers of tasks beside short ones: their scores, and tables beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..metrics.tables import parse_table
from ..printable import printable

QA = "qa"
_MOST_ROWS, _MOST_COLUMNS, _LONGEST_CELL = 60, 12, 200

MEASURES = {"table": "RMS F1", "summary": "ROUGE-L", "open_qa": "ROUGE-L"}
"""Task -> the score of one row in a file of predictions."""


def task_of(row: Mapping[str, Any]) -> str:
    """Return the task of a row of a `predictions.jsonl`; rows without one are short answers.

    Example:
        >>> task_of({"task": "table"}), task_of({})
        ('table', 'qa')
    """
    return str(row.get("task") or QA)


def of_qa(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows of short answers."""
    return [row for row in rows if task_of(row) == QA]


def why(row: Mapping[str, Any]) -> str:
    """Return what the verdict on a row of another task says.

    Example:
        >>> why({"task": "table", "correct": 0.5})
        'RMS F1 50.00 %'
    """
    if row["correct"] is None:
        return "there is no answer to compare with"
    return f"{MEASURES.get(task_of(row), 'score')} {100 * row['correct']:.2f} %"


def grids(row: Mapping[str, Any]) -> list[list[list[str]]] | None:
    """Return the cells of the predicted and of the right table of a row, `None` for rows of other tasks.

    Example:
        >>> grids({"task": "table", "prediction": "a | b & 1 | 2", "answer": "a,b\\n1,3"})
        [[['a', 'b'], ['1', '2']], [['a', 'b'], ['1', '3']]]
    """
    if task_of(row) != "table":
        return None
    return [_cells(row["prediction"]), _cells(row["answer"])]


def _cells(text: Any) -> list[list[str]]:
    try:
        table = parse_table(str(text or ""))
    except ValueError:  # too large
        return []
    rows = [table.header, *table.rows][:_MOST_ROWS]
    return [[printable(cell[:_LONGEST_CELL]) for cell in cells[:_MOST_COLUMNS]] for cells in rows if cells]
