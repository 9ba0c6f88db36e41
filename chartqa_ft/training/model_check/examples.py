"""The few questions that a model is checked on: of the user's own records, or on drawn charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from ...adapters.text import has_answer
from ...batching.records import as_records, first_records
from ...data.synthetic.drawing import draw_chart
from ...data.synthetic.questions import make_chart

__all__ = ["chosen_examples", "drawn_examples", "examples_on_one_chart"]

ROWS = 5
"""Number of questions that are compared."""
_READ = 40
"""Number of the user's records that are looked at."""
_SIZES = ((320, 224), (224, 320), (288, 288))
"""Width and height of the drawn charts, in pixels."""
_LONG = "Looking at all of the marks of this chart from left to right, how many of them are there altogether?"


def drawn_examples() -> list[dict[str, Any]]:
    """Return five questions on three drawn charts; charts, questions and answers differ in length and size.

    Example:
        >>> rows = drawn_examples()
        >>> [row["chart_id"][-1] for row in rows], rows[0]["image"].size, rows[2]["image"].size
        (['0', '0', '1', '1', '2'], (320, 224), (224, 320))
    """
    charts = [make_chart(0, number, kind) for number, kind in enumerate(("bar", "line", "pie"))]
    questions = [
        (0, f"How much is {charts[0].names[0]}?", str(charts[0].values[0])),
        (0, _LONG, str(len(charts[0].names))),
        (1, f"Is {charts[1].names[0]} larger than {charts[1].names[1]}?", "Yes"),
        (1, "Which color is largest?", charts[1].names[0]),
        (2, f"How much is {charts[2].names[0]}?", f"{charts[2].values[0]}.5 %"),
    ]
    pictures = [_on_canvas(draw_chart(chart, 224), size) for chart, size in zip(charts, _SIZES, strict=True)]
    return [
        {"image": pictures[number], "question": question, "answer": answer, "chart_id": f"drawn-{number}"}
        for number, question, answer in questions
    ]


def chosen_examples(records: Any) -> list[dict[str, Any]]:
    """Return up to five of the first records, with long and short questions and, if there are any, two on one chart.

    If all questions are equally long, the last one is asked once more, with a longer text.

    Args:
        records: A `datasets.Dataset`, a list, or a stream of records with answers.

    Raises:
        ValueError: There is no record with an answer, or the columns have other names.

    Example:
        >>> from chartqa_ft import synthetic_chartqa
        >>> rows = chosen_examples(synthetic_chartqa(3, seed=0))
        >>> len(rows), rows[0]["chart_id"] == rows[1]["chart_id"]
        (5, True)
    """
    found = [dict(row) for row in first_records(as_records(records, "records", answers=True), _READ)]
    found = [row for row in found if has_answer(row)]
    if not found:
        raise ValueError(f"none of the first {_READ} records has an answer: check_model needs some")
    chosen = [found.pop(0)]
    same = next((row for row in found if _chart(row) is not None and _chart(row) == _chart(chosen[0])), None)
    if same is not None:
        chosen.append(same)
    rest = sorted((row for row in found if row is not same), key=lambda row: len(str(row["question"])))
    charts = {_chart(row) for row in chosen}
    other_charts = [row for row in rest if _chart(row) is None or _chart(row) not in charts] or rest
    # From the shortest question to the longest.
    wanted = min(ROWS - len(chosen), len(other_charts))
    step = max(len(other_charts) - 1, 0) / max(wanted - 1, 1)
    chosen += [other_charts[round(number * step)] for number in range(wanted)]
    if len({len(str(row["question"])) for row in chosen}) == 1:  # rows of unequal length are to be compared
        chosen.append({**chosen[-1], "question": f"{chosen[-1]['question']} {_LONG}"})
    return chosen


def examples_on_one_chart(examples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return three rows, of which the first two ask about one chart, next to each other.

    Where no two records share a chart, the question of the second is asked about the chart of the first.

    Example:
        >>> rows = examples_on_one_chart(drawn_examples())
        >>> [row["chart_id"] for row in rows]
        ['shared', 'shared', 'other']
    """
    first = examples[0]
    second = next((row for row in examples[1:] if row["question"] != first["question"]), None)
    if second is None:
        second = {"question": f"{first['question']} {_LONG}", "answer": first["answer"]}
    last = next((row for row in examples[::-1] if row["image"] is not first["image"]), examples[-1])
    shared = {"image": first["image"], "chart_id": "shared"}
    texts = ("question", "answer")
    return [
        {**shared, **{name: first[name] for name in texts}},
        {**shared, **{name: second[name] for name in texts}},
        {"image": last["image"], "chart_id": "other", **{name: last[name] for name in texts}},
    ]


def _chart(row: Mapping[str, Any]) -> Any:
    return row.get("chart_id")


def _on_canvas(chart: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return a chart on a white canvas of another shape."""
    canvas = Image.new("RGB", size, "white")
    width, height = min(size[0], chart.width), min(size[1], chart.height)
    canvas.paste(chart.resize((width, height)), ((size[0] - width) // 2, (size[1] - height) // 2))
    return canvas
