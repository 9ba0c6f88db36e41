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

from ...resources import is_out_of_memory
from ..lockstep import is_sharded
from .charts import is_registered
from .tower_calls import TowerCall, read_call, rows_of

logger = logging.getLogger(__name__)

_SHARING: WeakKeyDictionary[nn.Module, _Sharing] = WeakKeyDictionary()


def share_vision(model: nn.Module) -> None:
    """Let a model accept `chart_index`, int64 of shape (rows,), which says that rows share charts.

    The vision tower then encodes equal images (or tiles) once and copies the result to all rows that have them. The
    output of the model is the same up to float rounding; without the argument it does not change at all. A second call
    has no effect. A model whose vision tower is not a separate module ignores the argument. So does one whose tower
    gives something else for the distinct images than for all of them, all patches in one row for instance. This is
    found out when equal images first meet: the tower then encodes that batch twice more, without gradients.

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
        self.verdicts: dict[tuple, bool] = {}
        """Whether the tower gives equal images equal rows, by the form of its arguments (`TowerCall.form`)."""
        self.call: TowerCall | None = None
        self.handle: RemovableHandle | None = None
        """The first of the hooks."""

    def begin(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        self.active = kwargs.pop("chart_index", None) is not None
        return args, kwargs

    def end(self, module: nn.Module, args: tuple, output: Any) -> None:
        self.active, self.call = False, None

    def select(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]] | None:
        """Forward pre-hook of the tower: keep the first of equal images."""
        self.call = None
        if not (self.active or self.always) or torch.compiler.is_compiling():
            return None
        call = read_call(module, args, kwargs)
        if call is None or len(call.kept) == len(call.sources):
            return None
        works = self.verdicts.get(call.form)
        if works is None:
            # To find out takes more passes, on some of the ranks, and a pass of a sharded model needs all of them.
            works = self.verdicts[call.form] = not is_sharded(module) and gives_rows(module, call)
            if not works:
                logger.info("%s encodes a chart again for each of its questions", type(module).__name__)
        if not works:
            return None
        self.call = call
        return call.shared

    def spread(self, module: nn.Module, args: tuple, output: Any) -> Any:
        """Forward hook of the tower: copy the output of each image to those equal to it."""
        call, self.call = self.call, None
        if call is None:
            return None
        if _has_rows(output, call.sources, call.sizes):
            return _spread(output, call.sources, call.sizes)
        # A tower whose output has another form for some images.
        self.verdicts[call.form] = False
        return module(*call.whole[0], **call.whole[1])


@torch.no_grad()
def gives_rows(module: nn.Module, call: TowerCall) -> bool:
    """Return whether a tower gives the same for the distinct images, copied to those equal to them, as for all.

    Both passes run in evaluation mode, in which neither dropout nor statistics of a batch make a difference.
    """
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        part = module.forward(*call.shared[0], **call.shared[1])
        if not _has_rows(part, call.sources, call.sizes):
            return False
        whole = module.forward(*call.whole[0], **call.whole[1])
        return _is_close(_spread(part, call.sources, call.sizes), whole)
    except Exception as error:  # a tower that takes no part of its images may raise anything
        if is_out_of_memory(error):
            raise
        logger.debug("%s takes no part of its images: %s", type(module).__name__, error)
        return False
    finally:
        for part in training:
            part.training = True


_ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 3e-2}
"""Differences, as a share of the largest value, that the number of images in a pass may make (TF32 included)."""


def _is_close(found: Any, expected: Any) -> bool:
    """Return whether two outputs are the same up to rounding."""
    if torch.is_tensor(expected):
        if not torch.is_tensor(found) or found.shape != expected.shape or found.dtype != expected.dtype:
            return False
        if not expected.is_floating_point() or not expected.numel():
            return torch.equal(found, expected)
        largest = (found - expected).abs().max()
        return bool(largest <= _ROUNDING.get(expected.dtype, 3e-2) * expected.abs().max())  # False for NaN
    if isinstance(expected, Mapping):
        return found.keys() == expected.keys() and all(_is_close(found[key], expected[key]) for key in expected)
    if isinstance(expected, (tuple, list)):
        return len(found) == len(expected) and all(map(_is_close, found, expected))
    return True


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
            return value.index_select(0, rows_of([place[n] for n in sources], outputs, value.device))
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
