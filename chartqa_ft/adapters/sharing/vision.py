"""Public forward hooks with which the vision tower of any model encodes a chart once for all its questions."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers.utils import ModelOutput

from ..lockstep import is_sharded
from .charts import is_registered

logger = logging.getLogger(__name__)

_SHARING: WeakKeyDictionary[nn.Module, _Sharing] = WeakKeyDictionary()


def share_vision(model: nn.Module) -> None:
    """Let a model accept `chart_index`, int64 of shape (rows,), which says that rows share charts.

    The vision tower then encodes equal images (or tiles) once and copies the result to all rows that have them. The
    output of the model is the same up to float rounding; without the argument it does not change at all. A second call
    has no effect. A model whose vision tower is not a separate module ignores the argument. So does one whose tower
    does not return one row per image (but all patches of all images in one row, for instance).

    Args:
        model: A transformers model (unwrapped). Its vision tower is `get_encoder(modality="image")`.

    Example:
        >>> from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration
        >>> sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
        >>> vision, text = CLIPVisionConfig(image_size=28, patch_size=14, **sizes), LlamaConfig(vocab_size=40, **sizes)
        >>> config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=39)
        >>> model = LlavaForConditionalGeneration(config)
        >>> share_vision(model)
        >>> ids, pixels = torch.tensor([[39, 39, 39, 39, 1]] * 2), torch.zeros(2, 3, 28, 28)
        >>> model(input_ids=ids, pixel_values=pixels, chart_index=torch.tensor([0, 0])).logits.shape
        torch.Size([2, 5, 40])
    """
    if model in _SHARING and is_registered(_SHARING[model].handle):
        return
    sharing = _SHARING[model] = _Sharing()
    sharing.handle = model.register_forward_pre_hook(sharing.begin, with_kwargs=True)
    model.register_forward_hook(sharing.end, always_call=True)
    tower = model.get_encoder(modality="image")
    if tower is not model:
        tower.register_forward_pre_hook(sharing.select, with_kwargs=True)
        tower.register_forward_hook(sharing.spread)


@contextmanager
def sharing_vision(model: nn.Module, wanted: bool = True) -> Iterator[None]:
    """Context in which every forward pass of a model with `share_vision` encodes equal images once.

    It is meant for `model.generate`, which does not accept `chart_index`. Without `wanted`, or for a model without
    `share_vision`, the context has no effect.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> model, processor = tiny_unichart("test")
        >>> with sharing_vision(model):
        ...     answers = model.generate(torch.zeros(1, 3, 96, 96), max_new_tokens=2)
    """
    sharing = _SHARING.get(model)
    if sharing is not None:
        sharing.always = wanted
    try:
        yield
    finally:
        if sharing is not None:
            sharing.always = False


class _Sharing:
    """State that the hooks of one model share during a forward pass."""

    def __init__(self) -> None:
        self.always = self.active = False
        self.sources: list[int] | None = None
        self.sizes: list[int] = []
        self.works: bool | None = None
        """Whether the tower returns one row per image, or one per patch; `None` until it is known."""
        self.all_images: tuple[tuple, dict[str, Any]] | None = None
        self.handle: RemovableHandle | None = None
        """The first of the hooks."""

    def begin(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        self.active = kwargs.pop("chart_index", None) is not None
        return args, kwargs

    def end(self, module: nn.Module, args: tuple, output: Any) -> None:
        self.active, self.sources, self.all_images = False, None, None

    def select(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]] | None:
        """Forward pre-hook of the tower: keep the first of equal images."""
        self.sources = None
        if self.works is None and is_sharded(module):
            # To find out may take a second pass, on some of the ranks, and a pass needs all of them.
            self.works = False
        if self.works is False or not (self.active or self.always) or torch.compiler.is_compiling():
            return None
        inputs: dict[Any, Any] = {**dict(enumerate(args)), **kwargs}
        pixels = next(
            (value for value in inputs.values() if torch.is_tensor(value) and value.is_floating_point()), None
        )
        grid = inputs.get("grid_thw")
        if pixels is None:
            return None
        sizes = [1] * len(pixels) if grid is None else grid.prod(dim=-1).tolist()
        if sum(sizes) != len(pixels):
            return None
        rows = {key: v for key, v in inputs.items() if torch.is_tensor(v) and v.ndim and len(v) == len(pixels)}
        shapes = [None] * len(sizes) if grid is None else grid.tolist()
        sources = _equal_images(list(rows.values()), sizes, shapes)
        more = [value for value in inputs.values() if isinstance(value, (torch.Tensor, list)) and value is not pixels]
        if self.works is None and more and len(sources) > 1 and not any(sources):
            # A tower that gets sizes or positions may put the patches of all images in one row, and its output for
            # a single image does not show it.
            sources[1] = 1
        kept = [number for number, source in enumerate(sources) if source == number]
        if len(kept) == len(sources) and (self.works is not None or len(kept) < 2):
            return None
        index = _rows_of(kept, sizes, pixels.device)
        chosen = {key: value.index_select(0, index) for key, value in rows.items()}
        if grid is not None:
            chosen["grid_thw"] = grid[torch.tensor(kept, device=grid.device)]
        inputs.update(chosen)
        self.sources, self.sizes, self.all_images = sources, sizes, (args, kwargs)
        return tuple(inputs[number] for number in range(len(args))), {key: inputs[key] for key in kwargs}

    def spread(self, module: nn.Module, args: tuple, output: Any) -> Any:
        """Forward hook of the tower: copy the output of each image to those equal to it."""
        if self.sources is None:
            return None
        sources, all_images = self.sources, self.all_images
        self.sources = self.all_images = None
        if self.works is None:
            self.works = _has_rows(output, sources, self.sizes)
        if self.works:
            return _spread(output, sources, self.sizes)
        logger.info("%s encodes a chart again for each of its questions", type(module).__name__)
        args, kwargs = all_images or ((), {})
        return module(*args, **kwargs)


def _spread(output: Any, sources: list[int], sizes: list[int]) -> Any:
    """Copy the output of each encoded image to those equal to it."""
    kept = [number for number, source in enumerate(sources) if source == number]
    place = {number: position for position, number in enumerate(kept)}
    total = sum(sizes[number] for number in kept)

    def spread(value: Any) -> Any:
        if torch.is_tensor(value) and value.ndim:
            # Towers that merge neighboring patches return fewer rows than they get, by the same factor for all.
            factor = total // len(value)
            outputs = [sizes[number] // factor for number in kept]
            return value.index_select(0, _rows_of([place[n] for n in sources], outputs, value.device))
        if isinstance(value, ModelOutput):
            return type(value)(**{key: spread(part) for key, part in value.items()})
        if isinstance(value, (tuple, list)):
            return type(value)(spread(part) for part in value)
        return value

    return spread(output)


def _has_rows(output: Any, sources: list[int], sizes: list[int]) -> bool:
    """Return whether all tensors of an output have a row per encoded image, or per group of its patches."""
    if torch.is_tensor(output) and output.ndim:
        kept = [sizes[number] for number, source in enumerate(sources) if source == number]
        factor = sum(kept) // len(output) if len(output) else 0
        merges = max(sizes) > 1 and factor > 0 and not sum(kept) % len(output) and not any(n % factor for n in kept)
        return merges or len(output) == len(kept) == sum(kept)
    parts = output.values() if isinstance(output, ModelOutput) else output
    return not isinstance(parts, (tuple, list, type({}.values()))) or all(_has_rows(p, sources, sizes) for p in parts)


def _equal_images(tensors: list[torch.Tensor], sizes: list[int], shapes: list[Any]) -> list[int]:
    """Return for each image the index of the first equal one, in shape and in all `tensors` (`sizes` rows per
    image)."""
    sums = torch.zeros(len(tensors[0]), dtype=torch.int64, device=tensors[0].device)
    for tensor in tensors:
        # Sums of integers do not depend on their order and differ for most images; the others are compared by value.
        bits = tensor.detach().reshape(len(tensor), -1).to(torch.float32).contiguous().view(torch.int32)
        sums += bits.sum(dim=1, dtype=torch.int64)
    starts = [sum(sizes[:number]) for number in range(len(sizes))] if max(sizes) > 1 else range(len(sizes))
    values = sums.tolist()
    first: dict[tuple, list[int]] = {}
    sources = []
    for number, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        candidates = first.setdefault((str(shapes[number]), *values[start : start + size]), [])
        for other in candidates:
            if all(torch.equal(t[start : start + size], t[starts[other] : starts[other] + size]) for t in tensors):
                sources.append(other)
                break
        else:
            candidates.append(number)
            sources.append(number)
    return sources


def _rows_of(images: list[int], sizes: Mapping[int, int] | list[int], device: torch.device) -> torch.Tensor:
    """Return the rows of `images`, in order, where image n has `sizes[n]` rows: int64 of shape (rows,)."""
    starts, position = [], 0
    for size in sizes:
        starts.append(position)
        position += size
    return torch.tensor([row for n in images for row in range(starts[n], starts[n] + sizes[n])], device=device)
