"""A processor's resizing apart from its conversion to floats, so that resized charts can be stored as bytes."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import cache
from hashlib import blake2b
from importlib import metadata
from typing import Any

import numpy as np
import torch
from PIL import Image

logger = logging.getLogger(__name__)

CACHE_VERSION = 1
"""Increase it whenever `images.to_rgb` or `PixelParts.resized` changes, so that charts cached before are not used."""
_PACKAGE = __name__.partition(".")[0]
_LATER = ("do_pad", "do_rescale", "do_normalize")
_NO_STEPS = (*_LATER, "do_convert_rgb")
# Landscape and portrait, (width, height): both ways of fitting a chart, on sides that no canvas divides evenly.
_PROBES = ((53, 37), (31, 47))


class PixelParts:
    """An image processor that resizes, pads, rescales and normalizes, in parts; see `take_apart`.

    Args:
        image_processor: keeps its settings as long as the parts are used.
        settings: its `settings_digest`.
        table: float32 of shape (3, 256): what rescaling and normalizing make of each value of each channel.
    """

    def __init__(self, image_processor: Any, settings: str, table: torch.Tensor):
        self.image_processor, self.settings, self.table = image_processor, settings, table
        self._first = {name: False for name in _LATER if hasattr(image_processor, name)}

    @property
    def canvas(self) -> tuple[int, int] | None:
        """(height, width) in pixels that charts are padded to; `None`: they are not padded."""
        return canvas_of(self.image_processor) if getattr(self.image_processor, "do_pad", False) else None

    def resized(self, image: Image.Image) -> np.ndarray:
        """An RGB chart as the processor resizes it: uint8 of shape (height, width, 3)."""
        pixels = self.image_processor([image], **self._first)["pixel_values"][0]
        return np.ascontiguousarray(np.moveaxis(np.asarray(pixels), 0, -1))

    def placed(self, picture: np.ndarray, draw: Callable[[int, int], tuple[int, int]] | None = None) -> torch.Tensor:
        """A resized chart on its canvas, which is black: uint8 of shape (3, height, width).

        Args:
            picture: from `resized`.
            draw: (free rows, free columns) -> (top, left); `None` centres it.

        Raises:
            ValueError: the chart is larger than the canvas.
        """
        planes = np.moveaxis(picture, -1, 0)
        if self.canvas is None:
            return torch.from_numpy(planes.copy())
        (height, width), (rows, columns) = picture.shape[:2], self.canvas
        if height > rows or width > columns:
            raise ValueError(f"a chart resized to {width} x {height} pixels is larger than {columns} x {rows}")
        free = rows - height, columns - width
        top, left = (free[0] // 2, free[1] // 2) if draw is None else draw(*free)
        canvas = np.zeros((3, rows, columns), dtype=np.uint8)
        canvas[:, top : top + height, left : left + width] = planes
        return torch.from_numpy(canvas)

    def to_float(self, pixels: torch.Tensor) -> torch.Tensor:
        """What the processor makes of bytes: uint8 -> float32, shape (charts, 3, height, width), on any device.

        On a CPU the table is as fast as arithmetic in float32, and that of the processor (float64 first, then rounded)
        takes twice as long.
        """
        table = self.table.to(pixels.device)
        floats = torch.empty(pixels.shape, dtype=table.dtype, device=pixels.device)
        for chart, values in zip(floats, pixels, strict=True):
            for channel in range(3):
                # A channel at a time: the indices are four times as large as the bytes.
                torch.index_select(table[channel], 0, values[channel].flatten().int(), out=chart[channel].view(-1))
        return floats


def take_apart(image_processor: Any) -> PixelParts | None:
    """The parts of an image processor that resizes, pads, rescales and normalizes, or `None` for any other.

    Whether the parts make up the whole is tried on two small pictures, bit for bit.
    """
    if not type(image_processor).__module__.startswith(("transformers.", f"{_PACKAGE}.")):
        return None  # a class of a user's own may draw at random, or look at the chart
    try:
        table = _value_table(image_processor)
        parts = PixelParts(image_processor, settings_digest(image_processor), table)
        for width, height in _PROBES:
            noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
            image = Image.fromarray(noise)
            whole = image_processor([image], return_tensors="pt")["pixel_values"]
            picture = parts.resized(image)
            if picture.dtype != np.uint8 or not _same(parts.to_float(parts.placed(picture)[None]), whole):
                raise ValueError(f"its parts make something else of {width} x {height} pixels")
    except Exception as error:  # a processor of another kind fails in its own ways
        logger.debug("%s is used as a whole: %s", type(image_processor).__name__, error)
        return None
    return parts


def settings_digest(image_processor: Any) -> str:
    """32 hexadecimal digits that differ where resized charts may differ: the processor's class and settings, the
    libraries that decode and resize, and our own way."""
    settings = {
        "way": CACHE_VERSION,
        "class": _class_name(type(image_processor)),
        "libraries": _libraries(),
        "settings": image_processor.to_dict(),
    }
    text = json.dumps(settings, sort_keys=True, default=str)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _class_name(cls: type) -> str:
    # Our own processor keeps the place that it had when the first caches were written.
    module = "chartqa_ft.compat.processor" if cls.__module__.startswith(f"{_PACKAGE}.") else cls.__module__
    return f"{module}.{cls.__qualname__}"


def canvas_of(image_processor: Any) -> tuple[int, int] | None:
    """(height, width) of the fixed size of a processor, in pixels; `None` where it has none."""
    size = dict(image_processor.size)
    return (size["height"], size["width"]) if {"height", "width"} <= set(size) else None


def _value_table(image_processor: Any) -> torch.Tensor:
    steps = [name for name in image_processor.to_dict() if name.startswith("do_") and name not in _NO_STEPS]
    off = {name: False for name in (*steps, "do_pad") if hasattr(image_processor, name)}
    ramp = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    table = image_processor([Image.fromarray(ramp)], **off, return_tensors="pt")["pixel_values"]
    if table.shape != (1, 3, 16, 16) or table.dtype != torch.float32:
        raise ValueError(f"it makes {table.dtype} of shape {tuple(table.shape)} of 16 x 16 pixels")
    return table.reshape(3, 256).clone()


def _same(first: torch.Tensor, second: torch.Tensor) -> bool:
    return first.dtype == second.dtype and torch.equal(first, second)


@cache
def _libraries() -> dict[str, str]:
    """Versions of what decodes and resizes; torchvision only where it is installed, and then it resizes."""
    found = {}
    for name in ("pillow", "transformers", "torchvision"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
