"""Charts as bytes: what an image processor does up to rescaling in the workers, the rest on the model's device.

A chart of 960 x 960 pixels is 2.8 MB as uint8 and 11 MB as float32, and rescaling and normalizing it takes a third of
the processor's time on a CPU. Both ways give the same float32 values, bit for bit: every one of them is looked up in a
table of what the processor itself makes of the 256 values of a channel.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from hashlib import blake2b
from importlib import metadata
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..chart_cache import ChartCache, open_chart_cache
from .examples import stored_bytes

logger = logging.getLogger(__name__)

WAY = 1
"""Our own part of how a chart becomes a resized picture; count it up with a change to `images.to_rgb` or `resized`."""

_PACKAGE = __name__.partition(".")[0]
_LATER = ("do_pad", "do_rescale", "do_normalize")
_NO_STEPS = (*_LATER, "do_convert_rgb")
# Landscape and portrait, (width, height): both ways of fitting a chart, on sides that no canvas divides evenly.
_PROBES = ((53, 37), (31, 47))
# What reads, encodes or hands on `pixel_values`: a family of a user's own that changes one keeps the floats it knows.
_STEPS = (
    "image",
    "images",
    "processed",
    "chart_tensors",
    "encode_images",
    "place",
    "encode",
    "encode_charts",
    "model_inputs",
    "prompt_groups",
    "generate",
)


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


class RawCharts:
    """The image part of an adapter whose charts can leave the worker processes as bytes."""

    processor: Any
    _taken_apart: tuple[str, PixelParts | None] | None = None

    @property
    def pixel_parts(self) -> PixelParts | None:
        """The image processor in parts, always as it is set now; `None` where it cannot be taken apart."""
        image_processor = self.processor.image_processor
        settings = settings_digest(image_processor)
        if self._taken_apart is None or self._taken_apart[0] != settings:
            self._taken_apart = settings, take_apart(image_processor)
        return self._taken_apart[1]

    @property
    def makes_raw_charts(self) -> bool:
        """Whether `raw_tensors` gives bytes: the processor comes apart, and no subclass changes what happens to a
        chart."""
        return unchanged(self, _STEPS) and self.pixel_parts is not None

    def raw_tensors(
        self,
        examples: Sequence[Mapping[str, Any]],
        *,
        draws: Sequence[Callable[[int, int], tuple[int, int]]] | None = None,
        cache: ChartCache | None = None,
    ) -> dict[str, torch.Tensor]:
        """`chart_tensors` before rescaling: `pixel_values` is uint8, of the same shape.

        Args:
            examples: records with an `image`; one that is stored in a file or as its bytes is only decoded where the
                cache does not know it.
            draws: per example, where on its canvas the chart goes; `None` centres it.
            cache: where resized charts are kept.

        Raises:
            ValueError: an image cannot be decoded or resized; the message names the record.
        """
        parts = self.pixel_parts
        if parts is None:  # the processor was changed since it was asked
            return self.chart_tensors(examples, draws=draws)
        pictures = [self._picture(example, parts, cache) for example in examples]
        draws = [None] * len(pictures) if draws is None else draws
        return {"pixel_values": torch.stack([parts.placed(p, d) for p, d in zip(pictures, draws, strict=True)])}

    def open_cache(self, choice: str, gigabytes: float) -> ChartCache | None:
        """The `chart_cache` of the training arguments for charts of this processor; see `open_chart_cache`."""
        height, width = canvas_of(self.processor.image_processor) or (0, 0)
        return open_chart_cache(choice, gigabytes, height * width)

    def to_float(self, pixels: torch.Tensor) -> torch.Tensor:
        """`pixel_values` of `raw_tensors` as the processor's floats; floats stay as they are."""
        return pixels if pixels.is_floating_point() else self.pixel_parts.to_float(pixels)

    def _picture(self, example: Mapping[str, Any], parts: PixelParts, cache: ChartCache | None) -> np.ndarray:
        """One chart resized: uint8 of shape (height, width, 3)."""

        def make() -> np.ndarray:
            return self.processed([example], lambda rows, images: parts.resized(images[0]))

        if cache is None:
            return make()
        content = stored_bytes(example["image"])
        if content is not None:
            # The bytes that were hashed are those that are decoded, also when the file changes meanwhile.
            path = example["image"]["path"] if isinstance(example["image"], Mapping) else str(example["image"])
            example = {**example, "image": {"bytes": content, "path": path}}
            return cache.picture(parts.settings, [b"file", content], make)
        # Hashing decoded pixels costs a tenth of resizing them.
        image = self.image(example)
        example = {**example, "image": image}
        return cache.picture(parts.settings, [b"pixels %d %d " % image.size, image.tobytes()], make)


def makes_raw_charts(adapter: Any) -> bool:
    """Whether an adapter of any family has `raw_tensors` that give bytes."""
    return isinstance(adapter, RawCharts) and adapter.makes_raw_charts


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
        "way": WAY,
        "class": f"{type(image_processor).__module__}.{type(image_processor).__qualname__}",
        "libraries": _libraries(),
        "settings": image_processor.to_dict(),
    }
    text = json.dumps(settings, sort_keys=True, default=str)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def canvas_of(image_processor: Any) -> tuple[int, int] | None:
    """(height, width) of the fixed size of a processor, in pixels; `None` where it has none."""
    size = dict(image_processor.size)
    return (size["height"], size["width"]) if {"height", "width"} <= set(size) else None


def unchanged(owner: Any, names: Sequence[str]) -> bool:
    """Whether these methods of an object are this package's own: no subclass and no assignment replaced one."""
    return all(
        name not in vars(owner) and getattr(type(owner), name).__module__.partition(".")[0] == _PACKAGE
        for name in names
        if hasattr(owner, name)
    )


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
