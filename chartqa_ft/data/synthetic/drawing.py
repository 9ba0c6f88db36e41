"""Draw synthetic charts: a `Chart` describes the content, `draw_chart` returns a PIL image.

Only PIL is used, since matplotlib takes tens of milliseconds per chart and the demo needs thousands of charts. All
lengths refer to a square of `BASE_SIZE` pixels and are scaled, text included, so that the same chart can be drawn at
96 pixels for a tiny model and at 960 pixels as a substitute for a real chart.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

BASE_SIZE = 96
MIN_SIZE = 48
CHART_TYPES = ("bar", "line", "pie")
AXIS_MAX = 10
TICK_STEP = 2
PIE_TOTAL = 100
PIE_STEP = 10

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 30),
    "blue": (30, 80, 220),
    "green": (20, 150, 50),
    "orange": (255, 150, 0),
    "purple": (150, 50, 190),
    "gray": (120, 120, 120),
}
AXIS_COLOR = (0, 0, 0)
GRID_COLOR = (222, 222, 222)
LINE_COLOR = (60, 60, 60)
BACKGROUND = (255, 255, 255)

# The plot area of bar and line charts, in pixels of the base square: with space for "10" on the left and for half a
# label above.
_LEFT, _RIGHT, _TOP, _BOTTOM = 14, 93, 8, 88
_PIE_RADIUS = 43
_MARKER_RADIUS = 5


@dataclass(frozen=True)
class Chart:
    """The content of one chart: every mark has a color, which is its name, and an integer value.

    Attributes:
        chart_type: `"bar"`, `"line"` (one line; every point has a marker and a drop line of its own color) or `"pie"`.
        names: Keys of `COLORS`, all different, from left to right, or clockwise from twelve o'clock.
        values: One integer per name: 1 to `AXIS_MAX` on an axis, percentages with the sum `PIE_TOTAL` in a pie.

    Raises:
        ValueError: The type or a color is unknown, a color is repeated, or a value is out of range.
    """

    chart_type: str
    names: tuple[str, ...]
    values: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.chart_type not in CHART_TYPES:
            raise ValueError(f"chart_type must be one of {CHART_TYPES}, got {self.chart_type!r}")
        unknown = [name for name in self.names if name not in COLORS]
        if unknown or len(set(self.names)) != len(self.names):
            raise ValueError(f"names must be different colors out of {tuple(COLORS)}, got {self.names}")
        if len(self.values) != len(self.names) or not self.names:
            raise ValueError(f"a chart needs one value per name, got {self.names} and {self.values}")
        if min(self.values) < 1:
            raise ValueError(f"values must be at least 1, got {self.values}")
        if self.chart_type == "pie" and sum(self.values) != PIE_TOTAL:
            raise ValueError(f"the slices of a pie must sum to {PIE_TOTAL}, got {self.values}")
        if self.chart_type != "pie" and max(self.values) > AXIS_MAX:
            raise ValueError(f"values on an axis must be at most {AXIS_MAX}, got {self.values}")


def draw_chart(chart: Chart, image_size: int = BASE_SIZE) -> Image.Image:
    """Draw a chart on a white background.

    Args:
        chart: The content.
        image_size: Width and height in pixels, at least `MIN_SIZE`; text and line widths grow with it.

    Returns:
        An RGB image of size (`image_size`, `image_size`).

    Raises:
        TypeError: `image_size` is not an integer.
        ValueError: `image_size` is below `MIN_SIZE`, where labels overlap.

    Example:
        >>> image = draw_chart(Chart("bar", ("red", "blue"), (3, 7)))
        >>> image.mode, image.size
        ('RGB', (96, 96))
    """
    from PIL import Image, ImageDraw

    image_size = whole_number("image_size", image_size)
    if image_size < MIN_SIZE:
        raise ValueError(f"image_size must be at least {MIN_SIZE} pixels to hold the tick labels, got {image_size}")
    if chart.chart_type == "pie":
        image = Image.new("RGB", (image_size, image_size), BACKGROUND)
    else:
        image = _axis(image_size).copy()
    draw_marks = {"bar": _draw_bars, "line": _draw_line, "pie": _draw_pie}[chart.chart_type]
    draw_marks(ImageDraw.Draw(image), chart, image_size / BASE_SIZE)
    return image


def whole_number(name: str, value: Any) -> int:
    """Return an integer of any library as Python's, else raise a TypeError that names the argument.

    Example:
        >>> whole_number("n_charts", 3)
        3
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None


def value_to_y(value: float, image_size: int = BASE_SIZE) -> int:
    """Return the row of pixels of a value on the axis."""
    return round((_BOTTOM - (_BOTTOM - _TOP) * value / AXIS_MAX) * image_size / BASE_SIZE)


@lru_cache(maxsize=4)
def _axis(size: int) -> Image.Image:
    """Draw axis, grid lines and tick labels. Cached: the text is half the cost of a chart, and equal for each size."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (size, size), BACKGROUND)
    pen = ImageDraw.Draw(image)
    scale = size / BASE_SIZE
    left, right = round(_LEFT * scale), round(_RIGHT * scale)
    thin = max(1, round(scale * 0.75))
    font = ImageFont.load_default(round(9 * scale))
    for tick in range(0, AXIS_MAX + 1, TICK_STEP):
        y = value_to_y(tick, size)
        pen.line((left, y, right, y), fill=AXIS_COLOR if tick == 0 else GRID_COLOR, width=thin)
        pen.text((left - 2 * scale, y), str(tick), fill=AXIS_COLOR, font=font, anchor="rm")
    pen.line((left, value_to_y(AXIS_MAX, size), left, value_to_y(0, size)), fill=AXIS_COLOR, width=thin)
    return image


def _mark_centers(count: int, scale: float) -> tuple[list[float], float]:
    """Return the horizontal centers of the marks and the distance between them, in pixels."""
    pitch = (_RIGHT - _LEFT) * scale / count
    return [_LEFT * scale + pitch * (i + 0.5) for i in range(count)], pitch


def _draw_bars(pen: ImageDraw.ImageDraw, chart: Chart, scale: float) -> None:
    size = round(BASE_SIZE * scale)
    centers, pitch = _mark_centers(len(chart.names), scale)
    for x, name, value in zip(centers, chart.names, chart.values, strict=True):
        box = (round(x - pitch * 0.35), value_to_y(value, size), round(x + pitch * 0.35), value_to_y(0, size) - 1)
        pen.rectangle(box, fill=COLORS[name])


def _draw_line(pen: ImageDraw.ImageDraw, chart: Chart, scale: float) -> None:
    size = round(BASE_SIZE * scale)
    centers, _ = _mark_centers(len(chart.names), scale)
    points = [(round(x), value_to_y(value, size)) for x, value in zip(centers, chart.values, strict=True)]
    foot = value_to_y(0, size) - 1
    for (x, y), name in zip(points, chart.names, strict=True):
        pen.line((x, y, x, foot), fill=COLORS[name], width=max(2, round(3 * scale)))
    pen.line(points, fill=LINE_COLOR, width=max(1, round(scale)), joint="curve")
    radius = round(_MARKER_RADIUS * scale)
    for (x, y), name in zip(points, chart.names, strict=True):
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=COLORS[name])


def _draw_pie(pen: ImageDraw.ImageDraw, chart: Chart, scale: float) -> None:
    middle, radius = BASE_SIZE * scale / 2, _PIE_RADIUS * scale
    box = (middle - radius, middle - radius, middle + radius, middle + radius)
    start = -90.0
    for name, value in zip(chart.names, chart.values, strict=True):
        end = start + 360.0 * value / PIE_TOTAL
        pen.pieslice(box, start, end, fill=COLORS[name], outline=BACKGROUND, width=max(1, round(scale * 0.5)))
        start = end
