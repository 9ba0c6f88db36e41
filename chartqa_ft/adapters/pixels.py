"""Charts as bytes: workers run the image processor up to rescaling, the model's device does the rest.

A chart of 960 x 960 pixels is 2.8 MB as uint8 and 11 MB as float32, and rescaling and normalizing take a third of the
processor's time on a CPU. The float32 values are the processor's own, bit for bit: they are looked up in a table of
its output for the 256 values of each channel (`images.resizing`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch

from ..images.cache import ChartCache, open_chart_cache
from ..images.opening import stored_bytes
from ..images.resizing import PixelParts, canvas_of, settings_digest, take_apart
from .base import Adapter, PaddingOffset
from .chart_shapes import unequal_charts

_PACKAGE = __name__.partition(".")[0]
# Methods that read, encode or return `pixel_values`. A user's subclass that overrides one of them gets floats.
_PIXEL_METHODS = (
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


class RawCharts(Adapter):
    """An adapter whose charts can leave the worker processes as bytes."""

    _taken_apart: tuple[str, PixelParts | None] | None = None

    @property
    def pixel_parts(self) -> PixelParts | None:
        """The image processor, with its current settings, in parts; `None` if it cannot be taken apart."""
        image_processor = self.processor.image_processor
        settings = settings_digest(image_processor)
        if self._taken_apart is None or self._taken_apart[0] != settings:
            self._taken_apart = settings, take_apart(image_processor)
        return self._taken_apart[1]

    @property
    def makes_raw_charts(self) -> bool:
        """Whether `raw_tensors` returns bytes: the processor can be taken apart, and no subclass overrides how a chart
        is processed."""
        return unchanged(self, _PIXEL_METHODS) and self.pixel_parts is not None

    def raw_tensors(
        self,
        examples: Sequence[Mapping[str, Any]],
        *,
        offsets: Sequence[PaddingOffset] | None = None,
        cache: ChartCache | None = None,
    ) -> dict[str, torch.Tensor]:
        """Return `chart_tensors` before rescaling: `pixel_values` is uint8, of the same shape.

        Args:
            examples: Records with an `image`. An image in a file, or stored as its bytes, is decoded only if the cache
                does not have it.
            offsets: For each record a function that returns the chart's offset on the canvas; `None` centers it.
            cache: Where resized charts are kept.

        Raises:
            ValueError: An image cannot be decoded or resized; the message names the record.

        Example:
            >>> from PIL import Image
            >>> from chartqa_ft import adapter_for, tiny_unichart
            >>> adapter = adapter_for(*tiny_unichart("test"))
            >>> records = [{"image": Image.new("RGB", (96, 48), "white")}]
            >>> raw = adapter.raw_tensors(records)["pixel_values"]
            >>> raw.dtype, tuple(raw.shape)
            (torch.uint8, (1, 3, 96, 96))
            >>> adapter.to_float(raw).equal(adapter.chart_tensors(records)["pixel_values"])
            True
        """
        parts = self.pixel_parts
        if parts is None:  # the processor was modified after `makes_raw_charts` was read
            return self.chart_tensors(examples, offsets=offsets)
        pictures = [self._picture(example, parts, cache) for example in examples]
        chosen = [None] * len(pictures) if offsets is None else offsets
        placed = [parts.placed(picture, offset) for picture, offset in zip(pictures, chosen, strict=True)]
        wrong = unequal_charts(examples, [tuple(pixels.shape) for pixels in placed], self.processor.image_processor)
        if wrong:
            raise wrong
        return {"pixel_values": torch.stack(placed)}

    def open_cache(self, choice: str, gigabytes: float) -> ChartCache | None:
        """Open the `chart_cache` of the training arguments for charts of this processor; see `open_chart_cache`."""
        height, width = canvas_of(self.processor.image_processor) or (0, 0)
        return open_chart_cache(choice, gigabytes, height * width)

    def to_float(self, pixels: torch.Tensor) -> torch.Tensor:
        """Convert `pixel_values` of `raw_tensors` to the float32 values of the processor; floats are returned as
        is."""
        if pixels.is_floating_point():
            return pixels
        parts = self.pixel_parts
        if parts is None:
            raise ValueError(
                "pixel_values are uint8, and the image processor was modified so that it cannot convert them: create "
                "the batch again"
            )
        return parts.to_float(pixels)

    def _picture(self, example: Mapping[str, Any], parts: PixelParts, cache: ChartCache | None) -> np.ndarray:
        """Return a resized chart: uint8 of shape (height, width, 3)."""

        def make() -> np.ndarray:
            return self.processed([example], lambda rows, images: parts.resized(images[0]))

        if cache is None:
            return make()
        content = stored_bytes(example["image"])
        if content is not None:
            # Decode the bytes that were hashed, even if the file changes meanwhile.
            stored = example["image"]
            path = stored.get("path") if isinstance(stored, Mapping) else stored
            path = str(path) if isinstance(path, (str, Path)) else None
            example = {**example, "image": {"bytes": content, "path": path}}
            return cache.picture(parts.settings, [b"file", content], make, parts.canvas)
        # Hashing decoded pixels costs a tenth of resizing them.
        image = self.image(example)
        example = {**example, "image": image}
        return cache.picture(parts.settings, [b"pixels %d %d " % image.size, image.tobytes()], make, parts.canvas)


def makes_raw_charts(adapter: Any) -> TypeGuard[RawCharts]:
    """Return whether an adapter of any family has a `raw_tensors` that returns bytes.

    Example:
        >>> from chartqa_ft import adapter_for, tiny_unichart
        >>> makes_raw_charts(adapter_for(*tiny_unichart("test")))
        True
    """
    return isinstance(adapter, RawCharts) and adapter.makes_raw_charts


def unchanged(owner: Any, names: Sequence[str]) -> bool:
    """Return whether the named methods of an object are defined by this package, not by a subclass or an assignment.

    Example:
        >>> from chartqa_ft import adapter_for, tiny_unichart
        >>> adapter = adapter_for(*tiny_unichart("test"))
        >>> unchanged(adapter, ["encode"])
        True
        >>> adapter.encode = lambda examples, with_answers=True: {}
        >>> unchanged(adapter, ["encode"])
        False
    """
    return all(
        name not in vars(owner) and getattr(type(owner), name).__module__.partition(".")[0] == _PACKAGE
        for name in names
        if hasattr(owner, name)
    )
