"""Charts as bytes: what an image processor does up to rescaling in the workers, the rest on the model's device.

A chart of 960 x 960 pixels is 2.8 MB as uint8 and 11 MB as float32, and rescaling and normalizing it takes a third of
the processor's time on a CPU. Both ways give the same float32 values, bit for bit: every one of them is looked up in a
table of what the processor itself makes of the 256 values of a channel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..images.cache import ChartCache, open_chart_cache
from ..images.opening import stored_bytes
from ..images.resizing import PixelParts, canvas_of, settings_digest, take_apart

_PACKAGE = __name__.partition(".")[0]
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


def unchanged(owner: Any, names: Sequence[str]) -> bool:
    """Whether these methods of an object are this package's own: no subclass and no assignment replaced one."""
    return all(
        name not in vars(owner) and getattr(type(owner), name).__module__.partition(".")[0] == _PACKAGE
        for name in names
        if hasattr(owner, name)
    )
