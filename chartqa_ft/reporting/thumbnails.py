"""Small pictures of charts for a report: each chart once, as WebP."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..images.check import check_image, check_pixels
from ..images.opening import open_image
from ..images.rgb import to_rgb
from .chart_files import PICTURES, file_of_chart

WIDTH = 320
"""Pixels. Wider charts are reduced to it; smaller ones stay."""
QUALITY = 60
"""Quality of the WebP encoder, from 0 to 100."""


def thumbnail(image: Any, *, width: int = WIDTH, quality: int = QUALITY) -> tuple[bytes, tuple[int, int]]:
    """Return an image as a small WebP file, and its width and height in pixels.

    Args:
        image: a PIL image, the path of a file, or what the `image` column of a data set holds.
        width: the largest width in pixels. Very tall charts are reduced to a height of three times the width.
        quality: of the WebP encoder, from 0 to 100.

    Raises:
        ValueError: the image is damaged, of an unknown format or too large.
        OSError: the file cannot be read.

    Example:
        >>> content, size = thumbnail(Image.new("RGB", (640, 480), "white"))
        >>> content[8:12], size
        (b'WEBP', (320, 240))
    """
    if isinstance(image, (str, Path, bytes)):
        check_image(image)
    opened = open_image(image)
    check_pixels(opened, None)
    chart = to_rgb(opened)
    scale = min(1.0, width / chart.width, 3 * width / chart.height)
    size = (max(1, round(chart.width * scale)), max(1, round(chart.height * scale)))
    file = io.BytesIO()
    chart.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0).save(file, "WEBP", quality=quality, method=4)
    return file.getvalue(), size


class ChartImages:
    """The charts of predictions, found by row number, chart id or file name.

    Args:
        images: one of: a folder of image files named by chart id; a dict from chart id to image; records with `image`
            (and `chart_id`), such as those of `load_chartqa`; `None` for no pictures.

    Raises:
        TypeError: `images` is something else.
        ValueError: it is a path that is not a folder, or the records have no `image`.

    Example:
        >>> images = ChartImages({"a.png": Image.new("RGB", (4, 3))})
        >>> images.find({"index": 0, "chart_id": "a.png"}).size, images.find({"index": 1, "chart_id": "b.png"})
        ((4, 3), None)
    """

    def __init__(self, images: Any) -> None:
        self._folder: Path | None = None
        self._by_id: Mapping[Any, Any] = {}
        self._records: Sequence[Any] = ()
        self._row_of: dict[Any, int] = {}
        if images is None:
            return
        if isinstance(images, (str, Path)):
            self._folder = Path(images)
            if not self._folder.is_dir():
                raise ValueError(f"images={str(images)!r} is not a folder with the charts of the predictions")
        elif isinstance(images, Mapping):
            self._by_id = images
        elif hasattr(images, "__getitem__") and hasattr(images, "__len__") and not isinstance(images, bytes):
            self._records = images
            self._row_of = _rows_by_chart(images)
            names = getattr(images, "column_names", None)
            first = images[0] if names is None and len(images) else None
            if "image" not in (names if names is not None else first if isinstance(first, Mapping) else ["image"]):
                raise ValueError("images are records without a column 'image', which holds the charts")
        else:
            raise TypeError(
                f"images is {images!r:.60}: pass a folder, a dict from chart id to image, or records with an image"
            )

    @property
    def folder(self) -> Path | None:
        """The folder of the charts, if they are files."""
        return self._folder

    def find(self, row: Mapping[str, Any]) -> Any:
        """Return the image of a row of predictions, or `None` if there is none."""
        chart = row.get("chart_id")
        if self._folder is not None:
            return file_of_chart(self._folder, chart, PICTURES)
        if self._by_id:
            return self._by_id.get(chart)
        index = self._row_of.get(chart)
        if index is None and not self._row_of and isinstance(row.get("index"), int):
            index = row["index"]
        if index is None or not 0 <= index < len(self._records):
            return None
        return self._records[index]["image"]


def _rows_by_chart(records: Any) -> dict[Any, int]:
    """Return the first row of each chart, without decoding images."""
    names = getattr(records, "column_names", None)
    if names is not None:
        ids = list(records["chart_id"]) if "chart_id" in names else []
    else:
        ids = [record.get("chart_id") if isinstance(record, Mapping) else None for record in records]
    found: dict[Any, int] = {}
    for number, chart in enumerate(ids):
        if chart is not None:
            found.setdefault(chart, number)
    return found
