"""Charts on disk for the benchmarks: the real test split where it is at hand, else drawn ones in the same layout."""

from __future__ import annotations

import json
import os
from pathlib import Path

from PIL import Image

from chartqa_ft.data.synthetic.drawing import BACKGROUND
from chartqa_ft.data.synthetic.questions import synthetic_chartqa

REAL = Path(__file__).resolve().parents[3] / "shared" / "chartqa"
"""A folder with `test/png/` and `test/test_human.json`; a clone of the project alone does not have it."""
DRAWN_SIZE = 600
"""Height of drawn charts in pixels: about that of the real ones."""


def write_charts(
    folder: Path, records: int, *, size: int = DRAWN_SIZE, drawn: int = 60, suffix: str = ".json"
) -> Path:
    """Write `records` questions on drawn charts in the original layout and return their file `test_human<suffix>`.

    Five charts of eight have two questions and the others one: 1.63 a chart, as in the real test split. Only `drawn`
    charts are drawn; further ones are hard links to them under names of their own, so that each is a file which is
    opened and read. Each stands on a white sheet of 4:3, so that it does not fill the canvas of a model.

    Args:
        size: height of the charts in pixels.
        suffix: `".json"`, one list, or `".jsonl"`, a record a line.
    """
    charts: dict[str, list[tuple[str, str]]] = {}
    pictures = folder / "png"
    pictures.mkdir(parents=True)
    rows = synthetic_chartqa(drawn, seed=0, image_size=size, questions_per_chart={"value": 2, "count": 1})
    for row in rows:
        if row["chart_id"] not in charts:
            sheet = Image.new("RGB", (size * 4 // 3, size), BACKGROUND)
            sheet.paste(row["image"])
            sheet.save(pictures / f"{len(charts)}.png")
        charts.setdefault(row["chart_id"], []).append((row["question"], row["answer"]))
    questions = list(charts.values())
    lines: list[dict[str, str]] = []
    chart = 0
    while len(lines) < records:
        name = f"{chart}.png"
        if chart >= drawn:
            os.link(pictures / f"{chart % drawn}.png", pictures / name)
        for question, answer in questions[chart % drawn][: questions_on(chart)]:
            lines.append({"imgname": name, "query": question, "label": answer})
        chart += 1
    path = folder / f"test_human{suffix}"
    texts = [json.dumps(line) for line in lines[:records]]
    path.write_text("\n".join(texts) if suffix == ".jsonl" else f"[{', '.join(texts)}]", encoding="utf-8")
    return path


def questions_on(chart: int) -> int:
    """How many of the questions that `write_charts` writes are on the chart of this number."""
    return 2 if chart % 8 < 5 else 1
