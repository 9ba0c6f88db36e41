"""Separate a processor's resizing from its conversion to floats, so that resized charts can be stored as bytes."""

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
"""Increase it whenever `to_rgb` or `PixelParts.resized` changes, so that charts cached earlier are not used."""
_PACKAGE = __name__.partition(".")[0]
_AFTER_RESIZING = ("do_pad", "do_rescale", "do_normalize")
_KEPT_STEPS = (*_AFTER_RESIZING, "do_convert_rgb")
# Landscape and portrait, (width, height), with sides that no canvas is a multiple of.
_TEST_SIZES = ((53, 37), (31, 47))


class PixelParts:
    """The steps of an image processor that resizes, pads, rescales and normalizes; see `take_apart`.

    Args:
        image_processor: the processor, whose settings must not change afterwards.
        settings: its `settings_digest`.
        table: the result of rescaling and normalizing for each channel and value, float32 of shape (3, 256).

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> parts = take_apart(tiny_unichart("test")[1].image_processor)
        >>> picture = parts.resized(Image.new("RGB", (40, 30)))
        >>> picture.shape, tuple(parts.placed(picture).shape)
        ((72, 96, 3), (3, 96, 96))
    """

    def __init__(self, image_processor: Any, settings: str, table: torch.Tensor):
        self.image_processor, self.settings, self.table = image_processor, settings, table
        self._first = {name: False for name in _AFTER_RESIZING if hasattr(image_processor, name)}

    @property
    def canvas(self) -> tuple[int, int] | None:
        """Size (height, width) in pixels that charts are padded to; `None` if they are not padded."""
        return canvas_of(self.image_processor) if getattr(self.image_processor, "do_pad", False) else None

    def resized(self, image: Image.Image) -> np.ndarray:
        """Return an RGB chart as the processor resizes it: uint8 of shape (height, width, 3)."""
        pixels = self.image_processor([image], **self._first)["pixel_values"][0]
        return np.ascontiguousarray(np.moveaxis(np.asarray(pixels), 0, -1))

    def placed(self, picture: np.ndarray, draw: Callable[[int, int], tuple[int, int]] | None = None) -> torch.Tensor:
        """Return a resized chart on a black canvas: uint8 of shape (3, height, width).

        Args:
            picture: the result of `resized`.
            draw: function from (free rows, free columns) to the position (top, left); `None` centers the chart.

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
        canvas: np.ndarray = np.zeros((3, rows, columns), dtype=np.uint8)
        canvas[:, top : top + height, left : left + width] = planes
        return torch.from_numpy(canvas)

    def to_float(self, pixels: torch.Tensor) -> torch.Tensor:
        """Rescale and normalize charts on any device: uint8 to float32, both of shape (charts, 3, height, width).

        On a CPU the table is as fast as float32 arithmetic, while the processor's own (float64, then rounded) takes
        twice as long.
        """
        table = self.table.to(pixels.device)
        floats = torch.empty(pixels.shape, dtype=table.dtype, device=pixels.device)
        for chart, values in zip(floats, pixels, strict=True):
            for channel in range(3):
                # One channel at a time, because the indices take four times the memory of the bytes.
                torch.index_select(table[channel], 0, values[channel].flatten().int(), out=chart[channel].view(-1))
        return floats


def take_apart(image_processor: Any) -> PixelParts | None:
    """Return the steps of an image processor, or `None` if it does anything but resize, pad, rescale and normalize.

    Two small images check that the steps give exactly the result of the whole processor.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> take_apart(tiny_unichart("test")[1].image_processor).canvas
        (96, 96)
    """
    if not type(image_processor).__module__.startswith(("transformers.", f"{_PACKAGE}.")):
        return None  # a custom class may use random numbers or the chart's content
    try:
        table = _value_table(image_processor)
        parts = PixelParts(image_processor, settings_digest(image_processor), table)
        for width, height in _TEST_SIZES:
            noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
            image = Image.fromarray(noise)
            whole = image_processor([image], return_tensors="pt")["pixel_values"]
            picture = parts.resized(image)
            if picture.dtype != np.uint8 or not _same(parts.to_float(parts.placed(picture)[None]), whole):
                raise ValueError(f"the steps give another result for {width} x {height} pixels")
    except Exception as error:  # other kinds of processors may raise anything
        logger.debug("%s is used as a whole: %s", type(image_processor).__name__, error)
        return None
    return parts


def settings_digest(image_processor: Any) -> str:
    """Return 32 hexadecimal digits that change whenever resized charts may change.

    They depend on the processor's class and settings, the versions of the libraries that decode and resize, and
    `CACHE_VERSION`.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> len(settings_digest(tiny_unichart("test")[1].image_processor))
        32
    """
    settings = {
        "way": CACHE_VERSION,
        "class": _class_name(type(image_processor)),
        "libraries": _libraries(),
        "settings": image_processor.to_dict(),
    }
    text = json.dumps(settings, sort_keys=True, default=str)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _class_name(cls: type) -> str:
    # The module in which this library's processor was when the first caches were written.
    module = "chartqa_ft.compat.processor" if cls.__module__.startswith(f"{_PACKAGE}.") else cls.__module__
    return f"{module}.{cls.__qualname__}"


def canvas_of(image_processor: Any) -> tuple[int, int] | None:
    """Return the fixed size (height, width) of a processor in pixels, or `None` if it has none.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> canvas_of(tiny_unichart("test")[1].image_processor)
        (96, 96)
    """
    check_size(image_processor)
    size = dict(image_processor.size)
    return (size["height"], size["width"]) if {"height", "width"} <= set(size) else None


def check_size(image_processor: Any) -> None:
    """Check that the sizes of an image processor name their sides.

    A pair is (width, height) to some processors of transformers and (height, width) to others, and a number is the
    side of a square or the shortest edge.

    Raises:
        ValueError: `size` or `crop_size` is a list, a tuple, a number or text, or `resample` is text.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> image_processor = tiny_unichart("test")[1].image_processor
        >>> image_processor.size = [192, 96]
        >>> check_size(image_processor)
        Traceback (most recent call last):
        ...
        ValueError: image_processor.size is [192, 96], which does not name its sides: set it to a dict such as \
{"height": 192, "width": 96}, or call chartqa_ft.set_image_cost(model, processor, image_size=...)
    """
    for name in ("size", "crop_size", "pad_size"):
        size = getattr(image_processor, name, None)
        if isinstance(size, (int, float, str, list, tuple)):
            sides = list(size) if isinstance(size, (list, tuple)) and size else [size]
            height, width = sides[0], sides[-1]
            raise ValueError(
                f"image_processor.{name} is {size!r}, which does not name its sides: set it to a dict such as "
                f'{{"height": {height}, "width": {width}}}, or call chartqa_ft.set_image_cost(model, processor, '
                "image_size=...)"
            )
    resample = getattr(image_processor, "resample", None)
    if isinstance(resample, str):
        raise ValueError(
            f"image_processor.resample is {resample!r}: set it to a member of PIL.Image.Resampling, such as "
            "PIL.Image.Resampling.BICUBIC"
        )


def _value_table(image_processor: Any) -> torch.Tensor:
    steps = [name for name in image_processor.to_dict() if name.startswith("do_") and name not in _KEPT_STEPS]
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
    """Return the versions of the libraries that decode and resize. If torchvision is installed, it resizes."""
    found = {}
    for name in ("pillow", "transformers", "torchvision"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
