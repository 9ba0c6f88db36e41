"""Draw charts with a model's answers."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from ..files import write_whole
from ..images.rgb import to_rgb

RIGHT, WRONG, INK = (20, 120, 60), (190, 40, 40), (30, 30, 30)
FIELDS = ("image", "question", "answer", "prediction", "correct")


def draw_answers(
    rows: Sequence[Mapping[str, Any]], path: str | Path, *, columns: int = 4, chart_size: int = 220
) -> Path:
    """Draw charts with question, prediction and answer below each, as one PNG.

    Args:
        rows: dicts with `image`, `question`, `answer`, `prediction` and `correct`. Predictions are green if `correct`
            is 1.0, red if it is less, and black if it is `None`, as for a question without an answer.
        path: the file to write. Its folder is created if it is missing.
        columns: the number of charts side by side.
        chart_size: width and height in pixels that each chart is fitted into.

    Returns:
        The path.

    Raises:
        TypeError: an argument is of a wrong type.
        ValueError: there are no rows, a row lacks a field, or a number is below 1.

    Example:
        >>> import tempfile
        >>> row = {"image": Image.new("RGB", (40, 30)), "question": "How many bars?", "answer": "3"}
        >>> path = Path(tempfile.mkdtemp()) / "answers.png"
        >>> Image.open(draw_answers([{**row, "prediction": "3", "correct": 1.0}], path, chart_size=60)).size
        (84, 168)
    """
    rows = _checked(rows)
    for name, number in (("columns", columns), ("chart_size", chart_size)):
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(f"{name} must be an integer of at least 1, got {number!r}")
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
    if not isinstance(path, (str, Path)):
        raise TypeError(f"path must be the path of the file to write, got {path!r}")
    font, bold = ImageFont.load_default(13), ImageFont.load_default(15)
    margin, text_height = 12, 84
    width, height = chart_size + margin, chart_size + text_height + margin
    lines = -(-len(rows) // columns)
    sheet = Image.new("RGB", (min(columns, len(rows)) * width + margin, lines * height + margin), "white")
    pen = ImageDraw.Draw(sheet)
    for number, row in enumerate(rows):
        x, y = margin + number % columns * width, margin + number // columns * height
        chart = to_rgb(row["image"])
        scale = min(chart_size / chart.width, chart_size / chart.height)
        size = (max(1, round(chart.width * scale)), max(1, round(chart.height * scale)))
        chart = chart.resize(size, Image.Resampling.LANCZOS)
        sheet.paste(chart, (x + (chart_size - chart.width) // 2, y + (chart_size - chart.height) // 2))
        pen.rectangle((x - 1, y - 1, x + chart_size, y + chart_size), outline=(210, 210, 210))
        question = textwrap.shorten(_printable(row["question"]), 64, placeholder="...")
        wrapped = textwrap.wrap(question, 32)[:2]
        pen.multiline_text((x, y + chart_size + 6), "\n".join(wrapped), fill=INK, font=font)
        below = y + chart_size + 42
        known, right = row["correct"] is not None, row["correct"] == 1.0
        answer = textwrap.shorten(_printable(row["prediction"]) or "(empty)", 26, placeholder="...")
        pen.text((x, below), answer, fill=(RIGHT if right else WRONG) if known else INK, font=bold)
        truth = textwrap.shorten(_printable(row["answer"]), 22, placeholder="...")
        verdict = ("right" if right else f"wrong: {truth}") if known else "no answer to compare"
        pen.text((x, below + 20), verdict, fill=INK, font=font)
    path, file = Path(path), io.BytesIO()
    sheet.save(file, Image.registered_extensions().get(path.suffix.lower()) or "PNG")
    return write_whole(path, file.getvalue())


def _checked(rows: Any) -> list[Mapping[str, Any]]:
    if isinstance(rows, (str, bytes, Mapping)) or not isinstance(rows, Iterable):
        raise TypeError(f"rows must be a list of dicts, got {rows!r:.60}")
    found = list(rows)
    for number, row in enumerate(found):
        if not isinstance(row, Mapping):
            raise TypeError(f"rows[{number}] must be a dict, got {row!r:.60}")
        missing = [field for field in FIELDS if field not in row]
        if missing:
            raise ValueError(f"rows[{number}] lacks {', '.join(missing)}")
    if not found:
        raise ValueError("there are no rows to draw")
    return found


def _printable(text: Any) -> str:
    """Return text that any font can lay out, with lone surrogates replaced."""
    return str(text).encode("utf-8", "replace").decode("utf-8")
