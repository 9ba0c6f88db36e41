"""Draw the curves of a training run: loss and relaxed accuracy over optimizer steps."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from ..files import write_whole
from .fonts import Fonts
from .training_log import Interval, Points, accuracy_intervals, checked_log, read_log, training_series

# Okabe & Ito 2008: distinct for color-blind people too.
COLORS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (230, 159, 0))
INK, PALE = (40, 40, 40), (222, 222, 222)
PANEL = (880, 250)
MARGINS = (70, 38, 24, 40)
"""Left, top, right and bottom margins of a panel, in pixels."""
_SHARP = 2
"""Pixels are drawn at this scale and reduced, for smooth lines."""
_SIZE = 13 * _SHARP
_LINE = 18
"""Distance of the lines of a legend, in pixels of the finished picture."""
_BAND = 44
"""Opacity of the band of an interval, from 0 to 255."""


def draw_curves(
    run: str | os.PathLike[str] | Iterable[Mapping[str, Any]],
    path: str | os.PathLike[str],
    *,
    font_path: str | os.PathLike[str] | None = None,
) -> Path:
    """Write the curves of a run as a PNG: losses, and accuracies with their intervals, over optimizer steps.

    Args:
        run: the log of the run: `trainer.state.log_history`; or the path of a `trainer_state.json`, of a checkpoint
            that has one, or of an output folder with checkpoints, of which the newest is read.
        path: the file to write. Its folder is created if it is missing.
        font_path: a font file for titles in other scripts, as in `draw_answers`.

    Returns:
        The path.

    Raises:
        TypeError: an argument is of a wrong type.
        FileNotFoundError: there is no `trainer_state.json`.
        ValueError: nothing was logged that could be drawn, or the file is damaged.

    Example:
        >>> import tempfile
        >>> path = draw_curves([{"step": 10, "loss": 2.0}], Path(tempfile.mkdtemp()) / "curves.png")
        >>> Image.open(path).size
        (880, 250)
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be the path of the file to write, got {path!r:.60}")
    picture = draw_curve(read_log(run) if isinstance(run, (str, os.PathLike)) else run, font_path=font_path)
    if picture is None:
        raise ValueError("the log of the run has no loss and no relaxed accuracy to draw: train or evaluate first")
    return write_whole(Path(path), picture)


def draw_curve(
    log_history: Iterable[Mapping[str, Any]], *, font_path: str | os.PathLike[str] | None = None
) -> bytes | None:
    """Draw the curves of a run as a PNG: losses above, accuracies with their intervals below, over the same steps.

    Args:
        log_history: `trainer.state.log_history`.
        font_path: a font file for titles in other scripts, as in `draw_answers`.

    Returns:
        The content of the file, always the same for the same log, or `None` if there is nothing to draw.

    Example:
        >>> draw_curve([{"step": 10, "loss": 2.0}])[:4]
        b'\\x89PNG'
    """
    log = checked_log(log_history)
    losses, accuracies = training_series(log)
    intervals = accuracy_intervals(log)
    of_losses, of_accuracies = "loss (nats per answer token)", "relaxed accuracy (%)"
    if set(intervals) & set(accuracies):
        of_accuracies += " and 95 % intervals"
    fonts = Fonts([of_losses, of_accuracies, *losses, *accuracies], font_path=font_path, plain=font_path is None)
    panels = [
        _Panel(fonts, title, series, limits)
        for title, series, limits in ((of_losses, losses, {}), (of_accuracies, accuracies, intervals))
        if series
    ]
    if not panels:
        return None
    steps = [step for panel in panels for points in panel.series.values() for step, _ in points]
    height = sum(panel.height for panel in panels)
    sheet = Image.new("RGB", (PANEL[0] * _SHARP, height * _SHARP), "white")
    top = 0
    for panel in panels:
        panel.draw(sheet, top * _SHARP, (min(steps), max(steps)))
        top += panel.height
    sheet = sheet.resize((PANEL[0], height), Image.Resampling.LANCZOS)
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


class _Panel:
    """A diagram of some curves over the same steps.

    Args:
        fonts: what texts are drawn with.
        title: the title.
        series: the curves by their titles.
        intervals: the intervals of some of them.
    """

    def __init__(
        self, fonts: Fonts, title: str, series: Mapping[str, Points], intervals: Mapping[str, Interval]
    ) -> None:
        self.fonts, self.title, self.series = fonts, title, series
        self.intervals = {name: intervals[name] for name in series if name in intervals}
        self._legend = _legend_lines(fonts, list(series), title)
        self.height = PANEL[1] + _LINE * (len(self._legend) - 1)
        """In pixels of the finished picture."""

    def draw(self, sheet: Image.Image, top: int, steps: tuple[float, float]) -> None:
        """Draw the diagram on a sheet, from the pixel row `top` on."""
        left, above, right, below = (margin * _SHARP for margin in MARGINS)
        above += _LINE * _SHARP * (len(self._legend) - 1)
        box = (left, top + above, sheet.width - right, top + self.height * _SHARP - below)
        values = [value for points in self.series.values() for _, value in points]
        values += [limit for interval in self.intervals.values() for _, *limits in interval for limit in limits]
        limits = _padded(min(values), max(values))
        steps = steps if steps[1] > steps[0] else (steps[0] - 1, steps[1] + 1)

        def place(step: float, value: float) -> tuple[float, float]:
            across = (step - steps[0]) / (steps[1] - steps[0])
            up = (value - limits[0]) / (limits[1] - limits[0])
            return box[0] + across * (box[2] - box[0]), box[3] - up * (box[3] - box[1])

        pen = ImageDraw.Draw(sheet)
        for value in ticks(*limits):
            y = place(steps[0], value)[1]
            pen.line((box[0], y, box[2], y), fill=PALE, width=_SHARP)
            self._write(pen, (box[0] - 8 * _SHARP, y + 5 * _SHARP), f"{value:.6g}", "r")
        for step in (step for step in ticks(*steps, count=8) if step == int(step)):
            x = place(step, limits[0])[0]
            pen.line((x, box[3], x, box[3] + 4 * _SHARP), fill=INK, width=_SHARP)
            self._write(pen, (x, box[3] + 18 * _SHARP), f"{int(step):,}", "m")
        self._write(pen, (box[2], box[3] + 34 * _SHARP), "step", "r")
        self._write(pen, (left, top + 21 * _SHARP), self.title, "l")
        self._draw_intervals(sheet, place)
        pen.line((box[0], box[1], box[0], box[3], box[2], box[3]), fill=INK, width=_SHARP)
        self._draw_lines(pen, place)
        self._draw_legend(pen, box[2], top + 21 * _SHARP)

    def _write(self, pen: ImageDraw.ImageDraw, place: tuple[float, float], text: str, side: str) -> None:
        """Write a text on its baseline; the place is its left or right end, or its middle (`side` l, r or m)."""
        shift = {"l": 0.0, "m": 0.5, "r": 1.0}[side] * self.fonts.width(text, _SIZE)
        self.fonts.draw(pen, (place[0] - shift, place[1]), text, _SIZE, INK)

    def _draw_intervals(self, sheet: Image.Image, place: Callable[[float, float], tuple[float, float]]) -> None:
        """Draw intervals as transparent bands; that of a single step as a bar."""
        for number, name in enumerate(self.series):
            interval = self.intervals.get(name, [])
            band = Image.new("L", sheet.size)
            pen = ImageDraw.Draw(band)
            if len(interval) > 1:
                upper = [place(step, high) for step, _, high in interval]
                pen.polygon([*upper, *(place(step, low) for step, low, _ in reversed(interval))], fill=_BAND)
            for step, low, high in interval if len(interval) == 1 else ():
                (x, bottom), (_, end) = place(step, low), place(step, high)
                x += (number - (len(self.series) - 1) / 2) * 9 * _SHARP  # beside each other
                pen.rectangle((x - 2 * _SHARP, end, x + 2 * _SHARP, bottom), fill=2 * _BAND)
            if interval:
                sheet.paste(_color(number), mask=band)

    def _draw_lines(self, pen: ImageDraw.ImageDraw, place: Callable[[float, float], tuple[float, float]]) -> None:
        for number, series in enumerate(self.series.values()):
            points, color = [place(*point) for point in series], _color(number)
            if len(points) > 1:
                pen.line(points, fill=color, width=2 * _SHARP, joint="curve")
            shift = (number - (len(self.series) - 1) / 2) * 9 * _SHARP if len(points) == 1 and self.intervals else 0
            for x, y in points if len(points) <= 40 else ():
                _draw_mark(pen, x + shift, y, number)

    def _draw_legend(self, pen: ImageDraw.ImageDraw, right: float, y: int) -> None:
        """Write the titles of the curves at the right, beside the title and below it."""
        names = list(self.series)
        for line in self._legend:
            x = right - sum(_legend_width(self.fonts, name) for name in line)
            for name in line:
                pen.line(
                    (x, y - 5 * _SHARP, x + 18 * _SHARP, y - 5 * _SHARP),
                    fill=_color(names.index(name)),
                    width=3 * _SHARP,
                )
                _draw_mark(pen, x + 9 * _SHARP, y - 5 * _SHARP, names.index(name))
                self._write(pen, (x + 23 * _SHARP, y), _cut(name), "l")
                x += _legend_width(self.fonts, name)
            y += _LINE * _SHARP


def _draw_mark(pen: ImageDraw.ImageDraw, x: float, y: float, number: int) -> None:
    """Draw a point of a curve; a square where all colors have been used."""
    box = (x - 3 * _SHARP, y - 3 * _SHARP, x + 3 * _SHARP, y + 3 * _SHARP)
    (pen.ellipse if number < len(COLORS) else pen.rectangle)(box, fill=_color(number))


def _color(number: int) -> tuple[int, int, int]:
    return COLORS[number % len(COLORS)]


def _cut(name: str) -> str:
    return name if len(name) <= 48 else name[:45] + "..."


def _legend_width(fonts: Fonts, name: str) -> float:
    return fonts.width(_cut(name), _SIZE) + 35 * _SHARP


def _legend_lines(fonts: Fonts, names: list[str], title: str) -> list[list[str]]:
    """Return the titles of the curves in lines; the first line shares its place with the title of the panel."""
    whole = (PANEL[0] - MARGINS[0] - MARGINS[2]) * _SHARP
    lines: list[list[str]] = [[]]
    room = whole - fonts.width(title, _SIZE) - 20 * _SHARP
    for name in names:
        width = _legend_width(fonts, name)
        if width > room and (lines[-1] or len(lines) == 1):
            lines.append([])
            room = whole
        lines[-1].append(name)
        room -= width
    return lines


def _padded(low: float, high: float) -> tuple[float, float]:
    room = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
    return low - room, high + room
