"""Draw charts with a model's answers."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from ..images.rgb import to_rgb

RIGHT, WRONG, INK = (20, 120, 60), (190, 40, 40), (30, 30, 30)


def draw_answers(
    rows: Sequence[Mapping[str, Any]], path: str | Path, *, columns: int = 4, chart_size: int = 220
) -> Path:
    """Draw charts with question, prediction and answer below each, as one PNG.

    Args:
        rows: dicts with `image`, `question`, `answer`, `prediction` and `correct`. Predictions are green if `correct`
            is 1.0, else red.
        path: the file to write. Its folder is created if it is missing.
        columns: the number of charts side by side.
        chart_size: width and height in pixels that each chart is fitted into.

    Returns:
        The path.

    Raises:
        ValueError: there are no rows.

    Example:
        >>> import tempfile
        >>> row = {"image": Image.new("RGB", (40, 30)), "question": "How many bars?", "answer": "3"}
        >>> path = Path(tempfile.mkdtemp()) / "answers.png"
        >>> Image.open(draw_answers([{**row, "prediction": "3", "correct": 1.0}], path, chart_size=60)).size
        (84, 168)
    """
    if not rows:
        raise ValueError("there are no rows to draw")
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
        right = row["correct"] == 1.0
        answer = textwrap.shorten(_printable(row["prediction"]) or "(empty)", 26, placeholder="...")
        pen.text((x, below), answer, fill=RIGHT if right else WRONG, font=bold)
        truth = textwrap.shorten(_printable(row["answer"]), 22, placeholder="...")
        pen.text((x, below + 20), "right" if right else f"wrong: {truth}", fill=INK, font=font)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return path


def _printable(text: Any) -> str:
    """Return text that any font can lay out, with lone surrogates replaced."""
    return str(text).encode("utf-8", "replace").decode("utf-8")
