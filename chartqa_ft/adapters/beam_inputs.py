"""Check that beam search repeats the charts of a batch as a whole, and not patch by patch."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
import transformers
from torch import nn

__all__ = ["check_beam_inputs"]


def check_beam_inputs(model: nn.Module, inputs: Mapping[str, Any]) -> None:
    """Check that upstream's beam search can repeat the inputs of a model.

    Upstream repeats every tensor along its first dimension. That is right for tensors with an entry per row, but mixes
    up the patches of charts where one tensor holds those of all rows. `generate` therefore encodes charts before it
    repeats anything, but only for models whose forward pass takes the result and that name images among their inputs.
    In transformers 5.19 some do not, such as Qwen 3.5: their beams saw other charts than their greedy answers.

    Args:
        model: the transformers model.
        inputs: what `generate` gets, with `input_ids` of shape (rows, length).

    Raises:
        ValueError: the beams would get other charts.

    Example:
        >>> inputs = {"input_ids": torch.ones(2, 5), "pixel_values": torch.ones(2, 3, 8, 8)}
        >>> check_beam_inputs(torch.nn.Identity(), inputs)
    """
    rows = len(inputs["input_ids"])
    mixed = [name for name, value in inputs.items() if torch.is_tensor(value) and value.ndim and len(value) != rows]
    if not mixed:
        return
    if "mm_encoder_outputs" in inspect.signature(model.forward).parameters and "image" in _modalities(model):
        return
    if any("_expand_inputs_for_generation" in vars(kind) for kind in type(model).__mro__ if _is_model(kind)):
        return  # the model has its own way
    raise ValueError(
        f"beam search of transformers {transformers.__version__} would mix up the charts of {type(model).__name__} "
        f"({', '.join(mixed)} with an entry per patch, not per row): upgrade transformers, or answer with num_beams=1"
    )


def _modalities(model: nn.Module) -> tuple[str, ...]:
    found = getattr(model, "input_modalities", ())
    return (found,) if isinstance(found, str) else tuple(found)


def _is_model(kind: type) -> bool:
    """Return whether a class is a model, and not one of upstream's mixins for all models."""
    return issubclass(kind, nn.Module) and kind is not nn.Module
