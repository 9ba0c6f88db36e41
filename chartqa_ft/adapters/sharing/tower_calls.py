"""The arguments of a vision tower: what in them belongs to which image, and which images are equal."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn


class TowerCall(NamedTuple):
    """The arguments of a tower, and which images among them are equal."""

    whole: tuple[tuple, dict[str, Any]]
    """The arguments as they were given."""
    shared: tuple[tuple, dict[str, Any]]
    """The arguments with only the first of equal images."""
    sources: list[int]
    """For each image the index of the first equal one."""
    sizes: list[int]
    """Rows of the image tensors that each image takes."""
    form: tuple
    """What else the form of the output may depend on: the names of the arguments, whether images differ in size."""

    @property
    def kept(self) -> list[int]:
        return [number for number, source in enumerate(self.sources) if source == number]


def read_call(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> TowerCall | None:
    """Return which of the images that a tower gets are equal; `None` if it is not known what belongs to which image.

    Arguments are known by their names in the signature, however they are passed. The images are the first tensor of
    floats. If another argument holds the height and width of each image in patches, whose products are the number of
    rows, each image takes that many rows. Arguments with an entry per row or per image belong to the images.
    """
    parameters = inspect.signature(module.forward).parameters.values()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(args) > len(names):
        return None
    inputs: dict[str, Any] = {**dict(zip(names, args, strict=False)), **kwargs}
    pixels = next(
        (v for v in inputs.values() if torch.is_tensor(v) and v.is_floating_point() and v.ndim > 1 and len(v)), None
    )
    if pixels is None:
        return None
    grid = next((name for name, value in inputs.items() if _is_grid(value, len(pixels))), None)
    shapes = [None] * len(pixels) if grid is None else inputs[grid].tolist()
    sizes = [math.prod(shape or (1,)) for shape in shapes]
    rows = {key: v for key, v in inputs.items() if torch.is_tensor(v) and v.ndim and len(v) == len(pixels)}
    each = {
        key: value
        for key, value in inputs.items()
        if key not in rows and isinstance(value, (torch.Tensor, list, tuple)) and _length(value) == len(sizes)
    }
    labels = [str([shapes[n], *(_plain(value[n]) for value in each.values())]) for n in range(len(sizes))]
    sources = _equal_images(list(rows.values()), sizes, labels)
    kept = [number for number, source in enumerate(sources) if source == number]
    index = rows_of(kept, sizes, pixels.device)
    chosen: dict[str, Any] = {key: value.index_select(0, index.to(value.device)) for key, value in rows.items()}
    for key, value in each.items():
        if isinstance(value, torch.Tensor):
            chosen[key] = value[torch.tensor(kept, device=value.device)]
        else:
            chosen[key] = type(value)([value[number] for number in kept])
    inputs.update(chosen)
    return TowerCall(
        whole=(args, kwargs),
        shared=(tuple(inputs[name] for name in names[: len(args)]), {key: inputs[key] for key in kwargs}),
        sources=sources,
        sizes=sizes,
        form=(*((key, key in rows, key in each) for key in inputs), max(sizes) > 1, len(set(labels)) > 1),
    )


def _is_grid(value: Any, rows: int) -> bool:
    """Return whether a value holds the shape of each image in patches, of which there are `rows` in all."""
    if not torch.is_tensor(value) or value.is_floating_point() or value.dtype == torch.bool or value.ndim != 2:
        return False
    return value.shape[1] in (2, 3) and len(value) != rows and int(value.prod(dim=1).sum()) == rows


def _length(value: torch.Tensor | Sequence[Any]) -> int:
    return -1 if isinstance(value, torch.Tensor) and not value.ndim else len(value)


def _plain(value: Any) -> Any:
    return value.tolist() if torch.is_tensor(value) else value


def _equal_images(tensors: list[torch.Tensor], sizes: list[int], shapes: list[Any]) -> list[int]:
    """Return for each image the index of the first equal one, in shape and in all `tensors` (`sizes` rows per
    image)."""
    sums = torch.zeros(len(tensors[0]), dtype=torch.int64, device=tensors[0].device)
    for tensor in tensors:
        # Sums of integers do not depend on their order and differ for most images; the others are compared by value.
        bits = tensor.detach().reshape(len(tensor), -1).to(torch.float32).contiguous().view(torch.int32)
        sums += bits.sum(dim=1, dtype=torch.int64).to(sums.device)
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


def rows_of(images: list[int], sizes: Mapping[int, int] | list[int], device: torch.device) -> torch.Tensor:
    """Return the rows of `images`, in order, where image n has `sizes[n]` rows: int64 of shape (rows,)."""
    starts, position = [], 0
    for size in sizes:
        starts.append(position)
        position += size
    return torch.tensor([row for n in images for row in range(starts[n], starts[n] + sizes[n])], device=device)
