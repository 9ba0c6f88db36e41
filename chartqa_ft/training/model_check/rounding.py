"""How far two computations of the same values may differ by rounding alone: the bounds of `check_model`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from ...adapters import base_model

__all__ = ["Rounding", "in_full", "relative_difference", "rounding_of"]

SAFETY = 4.0
"""How many times the expected difference passes."""


@dataclass(frozen=True)
class Rounding:
    """What rounding does to the values of a model.

    Each of the 2 x `blocks` + 1 residual additions rounds the hidden states to the dtype of the weights, and each
    matrix product in front of it adds up `width` products in a wider dtype. These errors are independent, so that
    their squares add up (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 2.8).

    Attributes:
        dtype: Dtype of the weights, the least precise one if there are several.
        unit: Unit roundoff of that dtype: half the distance between 1 and the next larger number. For float64 it is
            that of float32, in which transformers computes norms, softmax and the scores of generation.
        accumulated: Unit roundoff of float32, in which products are added up.
        width: Length of the hidden states of the text model.
        blocks: Number of transformer blocks, those of the vision tower included.
    """

    dtype: torch.dtype
    unit: float
    accumulated: float
    width: int
    blocks: int

    @property
    def values(self) -> float:
        """Bound of the relative difference (L2) of logits."""
        per_block = self.unit + math.sqrt(self.width) * self.accumulated
        return SAFETY * math.sqrt(2 * self.blocks + 1) * per_block

    @property
    def gradients(self) -> float:
        """Bound of the relative difference (L2) of gradients, which pass all blocks twice."""
        return math.sqrt(2) * self.values

    @property
    def ties(self) -> float:
        """Bound of the difference of two logits that rounding may exchange, relative to the spread of all logits."""
        return math.sqrt(2) * self.values

    @property
    def is_narrow(self) -> bool:
        """Whether values have 16 bits, so that two tokens may be equally likely."""
        return self.unit > 1e-6

    def __str__(self) -> str:
        name = str(self.dtype).removeprefix("torch.")
        return f"{SAFETY:g} x the rounding of {name} ({self.unit:.1e}) in {self.blocks} blocks"


def rounding_of(model: nn.Module) -> Rounding:
    """Return the rounding of a model in its own dtype.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> rounding = rounding_of(tiny_unichart("test", image_size=64, window_size=4)[0])
        >>> rounding.blocks, rounding.width, rounding.values < 1e-5
        (3, 32, True)
    """
    model = base_model(model)
    dtypes = {weight.dtype for weight in model.parameters() if weight.is_floating_point()} or {torch.float32}
    dtype = max(dtypes, key=lambda kind: torch.finfo(kind).eps)
    accumulated = torch.finfo(torch.float32).eps / 2
    unit = max(torch.finfo(dtype).eps / 2, accumulated)
    if dtype == torch.float32 and _uses_tf32(model):
        unit = 2.0**-11  # TF32 rounds the factors of float32 products to 10 bits
    text = model.config.get_text_config(decoder=True)
    width = getattr(text, "hidden_size", None) or getattr(text, "d_model", None) or _embedding_width(model)
    return Rounding(dtype, unit, accumulated, int(width), max(_blocks(model), 1))


def in_full(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor on the CPU, in float32 or wider.

    Example:
        >>> in_full(torch.ones(1, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    return tensor.detach().to("cpu", torch.promote_types(tensor.dtype, torch.float32))


def relative_difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the largest relative difference (L2) of rows that belong to each other; infinity if shapes differ.

    The mean of each row is left out, since softmax does not see it, and so are places that are -inf in one of them.

    Args:
        found: Shape (rows, values).
        expected: Same shape.

    Example:
        >>> round(relative_difference(torch.tensor([[1.0, 2.0, 3.5]]), torch.tensor([[1.0, 2.0, 3.0]])), 4)
        0.3536
    """
    if found.shape != expected.shape:
        return math.inf
    found, expected = found.double(), expected.double()
    kept = ~(torch.isneginf(found) | torch.isneginf(expected))
    count = kept.sum(dim=-1, keepdim=True).clamp(min=1)
    centered = torch.where(kept, expected, 0)
    centered = torch.where(kept, centered - centered.sum(dim=-1, keepdim=True) / count, 0)
    difference = torch.where(kept, found - expected, 0)
    norms = difference.norm(dim=-1) / centered.norm(dim=-1).clamp(min=1e-30)
    return math.inf if norms.isnan().any() else float(norms.max()) if norms.numel() else 0.0


def _uses_tf32(model: nn.Module) -> bool:
    on_gpu = next(model.parameters()).device.type == "cuda"
    return on_gpu and torch.get_float32_matmul_precision() != "highest"


def _embedding_width(model: nn.Module) -> int:
    return model.get_input_embeddings().weight.shape[-1]


def _blocks(module: nn.Module) -> int:
    """Return the number of blocks with attention that hold no further ones."""
    count = 0
    for child in module.children():
        inner = _blocks(child)
        if isinstance(module, (nn.ModuleList, nn.Sequential)) and not inner:
            inner = int(any("att" in name.lower() for name, _ in child.named_modules()))
        count += inner
    return count
