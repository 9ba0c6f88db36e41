"""The resizing of an image processor, separate from its conversion to floats, so that resized charts can be stored as
bytes."""

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
"""Version of resized charts in a cache. Increase it when `images.to_rgb` or `PixelParts.resized` changes, so that
charts cached before are not used."""

PaddingOffset = Callable[[int, int], tuple[int, int]]
"""Function (free rows, free columns) -> (top, left), in pixels: the offset of a chart on its canvas."""

_PACKAGE = __name__.partition(".")[0]
_AFTER_RESIZING = ("do_pad", "do_rescale", "do_normalize")
_KEPT_FOR_TABLE = (*_AFTER_RESIZING, "do_convert_rgb")
# (width, height), landscape and portrait: each is fitted to a canvas along another side, and no canvas is a multiple.
_PROBES = ((53, 37), (31, 47))


class PixelParts:
    """An image processor that resizes, pads, rescales and normalizes, in parts; created by `take_apart`.

    Args:
        image_processor: The processor. Its settings must not change while the parts are used.
        settings: Its `settings_digest`.
        table: The output of rescaling and normalizing for each value of each channel, float32 of shape (3, 256).
    """

    def __init__(self, image_processor: Any, settings: str, table: torch.Tensor):
        self.image_processor, self.settings, self.table = image_processor, settings, table
        self._resize_only = {name: False for name in _AFTER_RESIZING if hasattr(image_processor, name)}

    @property
    def canvas(self) -> tuple[int, int] | None:
        """(height, width) in pixels that charts are padded to, or `None` without padding."""
        return canvas_of(self.image_processor) if getattr(self.image_processor, "do_pad", False) else None

    def resized(self, image: Image.Image) -> np.ndarray:
        """Resize an RGB chart as the processor does: uint8 of shape (height, width, 3)."""
        pixels = self.image_processor([image], **self._resize_only)["pixel_values"][0]
        return np.ascontiguousarray(np.moveaxis(np.asarray(pixels), 0, -1))

    def placed(self, picture: np.ndarray, offset: PaddingOffset | None = None) -> torch.Tensor:
        """Place a resized chart on its black canvas: uint8 of shape (3, height, width).

        Args:
            picture: From `resized`.
            offset: Function that returns the offset of the chart; `None` centers it.

        Raises:
            ValueError: The chart is larger than the canvas.
        """
        planes = np.moveaxis(picture, -1, 0)
        if self.canvas is None:
            return torch.from_numpy(planes.copy())
        (height, width), (rows, columns) = picture.shape[:2], self.canvas
        if height > rows or width > columns:
            raise ValueError(f"a chart resized to {width} x {height} pixels is larger than {columns} x {rows}")
        free = rows - height, columns - width
        top, left = (free[0] // 2, free[1] // 2) if offset is None else offset(*free)
        canvas: np.ndarray = np.zeros((3, rows, columns), dtype=np.uint8)
        canvas[:, top : top + height, left : left + width] = planes
        return torch.from_numpy(canvas)

    def to_float(self, pixels: torch.Tensor) -> torch.Tensor:
        """Rescale and normalize as the processor does: uint8 -> float32, shape (charts, 3, height, width).

        Works on any device. On a CPU the table is as fast as arithmetic in float32; the arithmetic of the processor
        (float64, then rounded) takes twice as long.
        """
        table = self.table.to(pixels.device)
        floats = torch.empty(pixels.shape, dtype=table.dtype, device=pixels.device)
        for chart, values in zip(floats, pixels, strict=True):
            for channel in range(3):
                # A channel at a time: the indices take four times the memory of the bytes.
                torch.index_select(table[channel], 0, values[channel].flatten().int(), out=chart[channel].view(-1))
        return floats


def take_apart(image_processor: Any) -> PixelParts | None:
    """Take an image processor apart that resizes, pads, rescales and normalizes; return `None` for any other.

    The parts are compared with the whole, bit for bit, on two small images.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> model, processor = tiny_unichart("test")
        >>> parts = take_apart(processor.image_processor)
        >>> parts.canvas
        (96, 96)
        >>> parts.resized(Image.new("RGB", (200, 100))).shape
        (48, 96, 3)
    """
    if not type(image_processor).__module__.startswith(("transformers.", f"{_PACKAGE}.")):
        return None  # the class of a user may be random, or depend on the chart
    try:
        table = _value_table(image_processor)
        parts = PixelParts(image_processor, settings_digest(image_processor), table)
        for width, height in _PROBES:
            noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
            image = Image.fromarray(noise)
            whole = image_processor([image], return_tensors="pt")["pixel_values"]
            picture = parts.resized(image)
            if picture.dtype != np.uint8 or not _same(parts.to_float(parts.placed(picture)[None]), whole):
                raise ValueError(f"its parts give another result for {width} x {height} pixels")
    except Exception as error:  # processors of other kinds fail in many ways
        logger.debug("%s is used as a whole: %s", type(image_processor).__name__, error)
        return None
    return parts


def settings_digest(image_processor: Any) -> str:
    """Return 32 hexadecimal digits that differ if resized charts may differ.

    They depend on the class and settings of the processor, the versions of the libraries that decode and resize, and
    `CACHE_VERSION`.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> model, processor = tiny_unichart("test")
        >>> before = settings_digest(processor.image_processor)
        >>> processor.image_processor.do_thumbnail = False
        >>> len(before), settings_digest(processor.image_processor) == before
        (32, False)
    """
    settings = {
        "way": CACHE_VERSION,  # the key is part of the digests of existing caches
        "class": _class_name(type(image_processor)),
        "libraries": _libraries(),
        "settings": image_processor.to_dict(),
    }
    text = json.dumps(settings, sort_keys=True, default=str)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def canvas_of(image_processor: Any) -> tuple[int, int] | None:
    """Return (height, width) in pixels of the fixed size of an image processor, or `None` if it has none.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> canvas_of(tiny_unichart("test", image_size=192)[1].image_processor)
        (192, 192)
    """
    size = dict(image_processor.size)
    return (size["height"], size["width"]) if {"height", "width"} <= set(size) else None


def _class_name(cls: type) -> str:
    # The class of this package keeps the module that it had when the first caches were written.
    module = "chartqa_ft.compat.processor" if cls.__module__.startswith(f"{_PACKAGE}.") else cls.__module__
    return f"{module}.{cls.__qualname__}"


def _value_table(image_processor: Any) -> torch.Tensor:
    steps = [name for name in image_processor.to_dict() if name.startswith("do_") and name not in _KEPT_FOR_TABLE]
    off = {name: False for name in (*steps, "do_pad") if hasattr(image_processor, name)}
    ramp = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    table = image_processor([Image.fromarray(ramp)], **off, return_tensors="pt")["pixel_values"]
    if table.shape != (1, 3, 16, 16) or table.dtype != torch.float32:
        raise ValueError(f"it returns {table.dtype} of shape {tuple(table.shape)} for 16 x 16 pixels")
    return table.reshape(3, 256).clone()


def _same(first: torch.Tensor, second: torch.Tensor) -> bool:
    return first.dtype == second.dtype and torch.equal(first, second)


@cache
def _libraries() -> dict[str, str]:
    """Return the versions of what decodes and resizes; torchvision resizes where it is installed."""
    found = {}
    for name in ("pillow", "transformers", "torchvision"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
