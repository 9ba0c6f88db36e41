"""Draw charts with a model's answers."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from ..files import write_whole
from ..images.opening import open_image
from ..images.rgb import to_rgb
from ..printable import printable
from .fonts import Fonts
from .thumbnails import ChartImages

RIGHT, WRONG, INK = (20, 120, 60), (190, 40, 40), (30, 30, 30)
FIELDS = ("question", "answer", "prediction", "correct")
MARGIN = 12
_SMALL, _LARGE = (13, 18), (15, 21)
"""Size of a font, and the distance of its lines, in pixels."""
_LONGEST = 800
"""Characters of a text in the picture. A degenerate answer may have a million."""


def draw_answers(
    rows: Iterable[Mapping[str, Any]],
    path: str | Path,
    *,
    columns: int = 4,
    chart_size: int = 220,
    images: Any = None,
    first: str | None = None,
    count: int | None = None,
    font_path: str | os.PathLike[str] | None = None,
) -> Path:
    """Draw charts with question, prediction and answer below each, as one PNG.

    Long texts are wrapped. Texts may be in any script for which the machine has a font (see `fonts.Fonts`).

    Args:
        rows: dicts with `question`, `answer`, `prediction` and `correct`, such as those of `predictions.jsonl`, and
            `image` if `images` is not given. Predictions are green if `correct` is 1.0, red if it is less, and black
            if it is `None`, as for a question without an answer.
        path: the file to write. Its folder is created if it is missing.
        columns: the number of charts side by side.
        chart_size: width and height in pixels that each chart is fitted into.
        images: the charts of rows without `image`, as in `write_report`: a folder, a dict, or the evaluated records.
        first: `"mistakes"` draws wrong answers before right ones. By default the order is that of the rows.
        count: the largest number of rows to draw. If there are more, they are taken evenly from all of them; with
            `first="mistakes"` from the wrong ones, and from the others only if these do not suffice.
        font_path: a font file to draw the texts with.

    Returns:
        The path.

    Raises:
        TypeError: an argument is of a wrong type.
        ValueError: there are no rows, a row lacks a field or has no image, or a number is below 1.

    Example:
        >>> import tempfile
        >>> row = {"image": Image.new("RGB", (40, 30)), "question": "How many bars?", "answer": "3"}
        >>> path = Path(tempfile.mkdtemp()) / "answers.png"
        >>> Image.open(draw_answers([{**row, "prediction": "3", "correct": 1.0}], path, chart_size=60)).width
        84
    """
    needed = FIELDS if images is not None else ("image", *FIELDS)
    found = _checked(rows, needed)
    for name, number in (("columns", columns), ("chart_size", chart_size), ("count", 1 if count is None else count)):
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(f"{name} must be an integer of at least 1, got {number!r}")
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
    if first not in (None, "mistakes"):
        raise ValueError(f"first must be 'mistakes', or None for the order of the rows, got {first!r}")
    if not isinstance(path, (str, Path)):
        raise TypeError(f"path must be the path of the file to write, got {path!r}")
    chosen = _chosen(found, first, count)
    of_charts = ChartImages(images)
    charts = [_chart(row, of_charts) for row in chosen]
    texts = [_texts(row) for row in chosen]
    fonts = Fonts([text for one in texts for text, _, _ in one], font_path=font_path)
    cells = [
        [_Line(line, color, *size) for text, color, size in one for line in fonts.wrap(text, chart_size, size[0])]
        for one in texts
    ]
    bands = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    heights = [chart_size + 6 + max(sum(line.height for line in cell) for cell in band) + MARGIN for band in bands]
    width = chart_size + MARGIN
    sheet = Image.new("RGB", (min(columns, len(cells)) * width + MARGIN, sum(heights) + MARGIN), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (chart, cell) in enumerate(zip(charts, cells, strict=True)):
        x, y = MARGIN + number % columns * width, MARGIN + sum(heights[: number // columns])
        _paste(sheet, chart, (x, y), chart_size)
        pen.rectangle((x - 1, y - 1, x + chart_size, y + chart_size), outline=(210, 210, 210))
        below = y + chart_size + 6
        for line in cell:
            below += line.height
            fonts.draw(pen, (x, below - line.height // 4), line.text, line.size, line.color)
    path, file = Path(path), io.BytesIO()
    sheet.save(file, Image.registered_extensions().get(path.suffix.lower()) or "PNG")
    return write_whole(path, file.getvalue())


@dataclass(frozen=True)
class _Line:
    text: str
    color: tuple[int, int, int]
    size: int
    height: int


def _texts(row: Mapping[str, Any]) -> list[tuple[str, tuple[int, int, int], tuple[int, int]]]:
    """Return what stands below a chart: texts with their color and size."""
    known, right = row["correct"] is not None, row["correct"] == 1.0
    truth = row["answer"]
    truth = " or ".join(map(str, truth)) if isinstance(truth, (list, tuple)) else truth
    verdict = ("right" if right else f"answer: {_text(truth)}") if known else "no answer to compare"
    return [
        (_text(row["question"]), INK, _SMALL),
        (_text(row["prediction"]) or "(empty)", (RIGHT if right else WRONG) if known else INK, _LARGE),
        (verdict, INK, _SMALL),
    ]


def _text(value: Any) -> str:
    """Return a text on one line, with escapes for what is not printed as itself, of bounded length."""
    text = "" if value is None else str(value)
    more = f" ... ({len(text):,} characters)" if len(text) > _LONGEST else ""
    return printable(" ".join(text[:_LONGEST].split())) + more


def _chosen(rows: list[Mapping[str, Any]], first: str | None, count: int | None) -> list[Mapping[str, Any]]:
    if first is None:
        return _evenly(rows, count)
    wrong = [row for row in rows if row["correct"] is not None and row["correct"] < 1.0]
    others = [row for row in rows if row["correct"] is None or row["correct"] >= 1.0]
    chosen = _evenly(wrong, count)
    return chosen + _evenly(others, None if count is None else count - len(chosen))


def _evenly(rows: list[Mapping[str, Any]], count: int | None) -> list[Mapping[str, Any]]:
    if count is None or len(rows) <= count:
        return rows
    return [rows[number * len(rows) // count] for number in range(count)]


def _chart(row: Mapping[str, Any], images: ChartImages) -> Image.Image:
    image = row["image"] if row.get("image") is not None else images.find(row)
    if image is None:
        raise ValueError(f"images has no chart {row.get('chart_id')!r:.80} of row {row.get('index')!r:.20}")
    return to_rgb(image if isinstance(image, Image.Image) else open_image(image))


def _paste(sheet: Image.Image, chart: Image.Image, place: tuple[int, int], chart_size: int) -> None:
    """Paste a chart into a square, in its proportions."""
    scale = min(chart_size / chart.width, chart_size / chart.height)
    size = (max(1, round(chart.width * scale)), max(1, round(chart.height * scale)))
    chart = chart.resize(size, Image.Resampling.LANCZOS)
    sheet.paste(chart, (place[0] + (chart_size - chart.width) // 2, place[1] + (chart_size - chart.height) // 2))


def _checked(rows: Any, needed: Sequence[str]) -> list[Mapping[str, Any]]:
    if isinstance(rows, (str, bytes, Mapping)) or not isinstance(rows, Iterable):
        raise TypeError(f"rows must be a list of dicts, got {rows!r:.60}")
    found = list(rows)
    for number, row in enumerate(found):
        if not isinstance(row, Mapping):
            raise TypeError(f"rows[{number}] must be a dict, got {row!r:.60}")
        missing = [field for field in needed if field not in row]
        if missing:
            raise ValueError(f"rows[{number}] lacks {', '.join(missing)}")
    if not found:
        raise ValueError("there are no rows to draw")
    return found
