"""Draw the curves of a training run: loss and relaxed accuracy over optimizer steps."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from ..metrics.table import as_number

Points = list[tuple[float, float]]
"""Pairs of optimizer step and value, sorted by step."""

# Okabe & Ito 2008: distinct for color-blind people too.
COLORS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (230, 159, 0))
INK, PALE = (40, 40, 40), (222, 222, 222)
PANEL = (880, 250)
MARGINS = (70, 38, 24, 40)
"""Left, top, right and bottom margins of a panel, in pixels."""
_SHARP = 2
"""Pixels are drawn at this scale and reduced, for smooth lines."""
_ACCURACY = re.compile(r"eval_(?:(.+)_)?relaxed_accuracy(?:_(human|augmented|mean_of_splits))?")
_LOSS = re.compile(r"eval_(?:(.+)_)?loss")


def training_series(log_history: Iterable[Mapping[str, Any]]) -> tuple[dict[str, Points], dict[str, Points]]:
    """Return the curves in `trainer.state.log_history`.

    Values that are not finite numbers are left out; numbers may be of any library. Of two values at the same step, as
    after resuming, the later one counts.

    Returns:
        The losses in nats per token and the accuracies in percent, each by the title of the curve. A curve without
        values has no entry.

    Raises:
        TypeError: the history, or an entry of it, is of a wrong type.

    Example:
        >>> training_series([{"step": 10, "loss": 2.0}, {"step": 20, "eval_relaxed_accuracy": 0.25}])
        ({'training': [(10, 2.0)]}, {'pooled': [(20, 25.0)]})
    """
    losses: dict[str, dict[float, float]] = {}
    accuracies: dict[str, dict[float, float]] = {}
    if isinstance(log_history, (str, bytes, Mapping)) or not isinstance(log_history, Iterable):
        raise TypeError(f"log_history must be a list of dicts, as trainer.state.log_history, got {log_history!r:.60}")
    for number, entry in enumerate(log_history):
        if not isinstance(entry, Mapping):
            raise TypeError(f"log_history[{number}] must be a dict, got {entry!r:.60}")
        step = as_number(entry.get("step"))
        if not math.isfinite(step):
            continue
        for key, value in ((key, as_number(value)) for key, value in entry.items()):
            if not isinstance(key, str) or not math.isfinite(value):
                continue
            if key == "loss":
                losses.setdefault("training", {})[step] = value
            elif found := _LOSS.fullmatch(key):
                losses.setdefault(found[1] or "evaluation", {})[step] = value
            elif found := _ACCURACY.fullmatch(key):
                title = " ".join(part.replace("_", " ") for part in (found[1], found[2] or "pooled") if part)
                accuracies.setdefault(title, {})[step] = 100 * value
    return _sorted(losses), _sorted(accuracies)


def draw_curve(log_history: Iterable[Mapping[str, Any]]) -> bytes | None:
    """Draw the curves of a run as a PNG: losses above, accuracies below, over the same steps.

    Args:
        log_history: `trainer.state.log_history`.

    Returns:
        The content of the file, always the same for the same log, or `None` if there is nothing to draw.

    Example:
        >>> draw_curve([{"step": 10, "loss": 2.0}])[:4]
        b'\\x89PNG'
    """
    losses, accuracies = training_series(log_history)
    panels = [
        (title, series)
        for title, series in (("loss (nats per answer token)", losses), ("relaxed accuracy (%)", accuracies))
        if series
    ]
    if not panels:
        return None
    steps = [step for _, series in panels for points in series.values() for step, _ in points]
    width, height = PANEL[0] * _SHARP, PANEL[1] * _SHARP
    sheet = Image.new("RGB", (width, height * len(panels)), "white")
    for number, (title, series) in enumerate(panels):
        _draw_panel(sheet, number * height, title, series, (min(steps), max(steps)))
    sheet = sheet.resize((PANEL[0], PANEL[1] * len(panels)), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return file.getvalue()


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about `count` round numbers (1, 2 or 5 times a power of ten apart) between `low` and `high`.

    Example:
        >>> ticks(130, 940)
        [200.0, 400.0, 600.0, 800.0]
    """
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    gap = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    return [number * gap for number in range(math.ceil(low / gap - 1e-9), math.floor(high / gap + 1e-9) + 1)]


def _draw_panel(
    sheet: Image.Image, top: int, title: str, series: Mapping[str, Points], steps: tuple[float, float]
) -> None:
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13 * _SHARP)
    left, above, right, below = (margin * _SHARP for margin in MARGINS)
    box = (left, top + above, sheet.width - right, top + PANEL[1] * _SHARP - below)
    values = [value for points in series.values() for _, value in points]
    limits = _padded(min(values), max(values))
    steps = steps if steps[1] > steps[0] else (steps[0] - 1, steps[1] + 1)

    def place(step: float, value: float) -> tuple[float, float]:
        across = (step - steps[0]) / (steps[1] - steps[0])
        up = (value - limits[0]) / (limits[1] - limits[0])
        return box[0] + across * (box[2] - box[0]), box[3] - up * (box[3] - box[1])

    for value in ticks(*limits):
        y = place(steps[0], value)[1]
        pen.line((box[0], y, box[2], y), fill=PALE, width=_SHARP)
        pen.text((box[0] - 8 * _SHARP, y), f"{value:.6g}", fill=INK, font=font, anchor="rm")
    for step in (step for step in ticks(*steps, count=8) if step == int(step)):
        x = place(step, limits[0])[0]
        pen.line((x, box[3], x, box[3] + 4 * _SHARP), fill=INK, width=_SHARP)
        pen.text((x, box[3] + 7 * _SHARP), f"{int(step):,}", fill=INK, font=font, anchor="ma")
    pen.line((box[0], box[1], box[0], box[3], box[2], box[3]), fill=INK, width=_SHARP)
    pen.text((box[2], box[3] + 23 * _SHARP), "step", fill=INK, font=font, anchor="ra")
    pen.text((left, top + 10 * _SHARP), title, fill=INK, font=font)
    _draw_lines(pen, [(name, [place(*point) for point in points]) for name, points in series.items()])
    _draw_legend(pen, list(series), box, top + 10 * _SHARP, font)


def _draw_lines(pen: ImageDraw.ImageDraw, lines: Sequence[tuple[str, Points]]) -> None:
    for number, (_, points) in enumerate(lines):
        color = COLORS[number % len(COLORS)]
        if len(points) > 1:
            pen.line(points, fill=color, width=2 * _SHARP, joint="curve")
        if len(points) <= 40:
            radius = 3 * _SHARP
            for x, y in points:
                pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)


def _draw_legend(pen: ImageDraw.ImageDraw, names: list[str], box: tuple, y: int, font: Any) -> None:
    """Draw the names of the curves from the right; those that do not fit beside the title are left out."""
    x = box[2]
    for number, name in reversed(list(enumerate(names))):
        text = name if len(name) <= 24 else name[:21] + "..."
        x -= int(pen.textlength(text, font=font)) + 30 * _SHARP
        if x < box[0] + 220 * _SHARP:
            return
        middle = y + 8 * _SHARP
        pen.line((x, middle, x + 18 * _SHARP, middle), fill=COLORS[number % len(COLORS)], width=3 * _SHARP)
        pen.text((x + 23 * _SHARP, y), text, fill=INK, font=font)


def _padded(low: float, high: float) -> tuple[float, float]:
    room = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
    return low - room, high + room


def _sorted(series: dict[str, dict[float, float]]) -> dict[str, Points]:
    return {_printable(title): sorted(points.items()) for title, points in series.items()}


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
