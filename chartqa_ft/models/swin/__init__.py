"""Compute the blocks of a Donut encoder a few windows at a time on a CPU: less memory and time, the same values."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["chunk_swin_blocks", "chunked_swin_blocks"]

_UPSTREAM = "transformers.models.donut.modeling_donut_swin"


def chunk_swin_blocks(model: nn.Module, enable: bool = True) -> list[nn.Module]:
    """Compute the blocks of a Donut encoder a few windows at a time on a CPU.

    A training step takes half the memory of upstream's and less time, with the same values and gradients up to float
    precision. The modules stay in place with their parameters and names; each gets a subclass of its class, since
    there is no public way to do this. Only `backward`, once, is supported: with `torch.func`, forward mode or second
    derivatives torch raises an error, so disable chunking there. In all other cases that it does not support, a block
    computes as before (see `ChunkedDonutSwinLayer`). A second call has no effect.

    Args:
        model: Any model. Only Donut encoders have such blocks.
        enable: Whether to chunk the blocks; `False` restores upstream's.

    Returns:
        The blocks that were changed.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> model, _ = tiny_unichart("test", image_size=64, window_size=4)
        >>> len(chunk_swin_blocks(model)), len(chunk_swin_blocks(model, False))
        (2, 2)
    """
    if _UPSTREAM not in sys.modules:  # then no model has such blocks, and other families need not import them
        return []
    from .layer import set_chunked

    return [module for module in model.modules() if set_chunked(module, enable)]


@contextmanager
def chunked_swin_blocks(model: nn.Module) -> Iterator[None]:
    """Enable `chunk_swin_blocks` within a context and restore the blocks afterwards."""
    changed = chunk_swin_blocks(model)
    try:
        yield
    finally:
        for block in changed:
            chunk_swin_blocks(block, False)
