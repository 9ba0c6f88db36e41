"""Other ways to compute the blocks of a Donut encoder, with the same values.

On a CPU a few windows at a time take less memory and time. On a GPU the attention within windows can use fused
kernels.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["chunk_swin_blocks", "chunked_swin_blocks", "fuse_swin_attention"]

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


def fuse_swin_attention(model: nn.Module, enable: bool = True) -> list[nn.Module]:
    """Compute the attention within the windows of a Donut encoder by `scaled_dot_product_attention` of torch.

    It is meant for GPUs, where upstream writes the scores of all windows to memory. Nothing enables it by default,
    since its speed there is not measured yet. On a CPU leave it off: the blocks could no longer be chunked, and torch
    has no fused kernel for a position bias that is trained. Values and gradients are the same up to float precision;
    in mixed precision the position bias is rounded to 16 bits. A second call has no effect.

    Args:
        model: Any model. Only Donut encoders have such attention.
        enable: Whether to use the fused kernels; `False` restores upstream's computation.

    Returns:
        The modules that were changed.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> model, _ = tiny_unichart("test", image_size=64, window_size=4)
        >>> len(fuse_swin_attention(model)), len(fuse_swin_attention(model, False))
        (2, 2)
    """
    if _UPSTREAM not in sys.modules:
        return []
    from .sdpa import set_sdpa

    return [module for module in model.modules() if set_sdpa(module, enable)]
