"""Blocks of a Donut encoder computed a few windows at a time on a CPU: less memory and time, the same values."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["chunk_swin_blocks", "chunked_swin_blocks"]

_UPSTREAM = "transformers.models.donut.modeling_donut_swin"


def chunk_swin_blocks(model: nn.Module, enable: bool = True) -> list[nn.Module]:
    """Compute the blocks of a Donut encoder on a CPU a few windows at a time: half the memory of upstream's training
    step and less time, with the same values and gradients to float precision.

    The modules stay where they are, with their parameters and names; each gets a subclass of its class, for want of a
    public way. Gradients are those of `backward`, once: with `torch.func`, forward mode or second derivatives torch
    raises, and upstream's way is to be kept. What else a block cannot do so it does as before (see
    `ChunkedDonutSwinLayer`). A second call does nothing.

    Args:
        model: any model; it has no such blocks unless its encoder is a Donut's.
        enable: `False`: the blocks are upstream's again.

    Returns:
        The blocks that have changed their way.
    """
    if _UPSTREAM not in sys.modules:  # then no model has such blocks: nothing is imported for other families
        return []
    from .layer import set_chunked

    return [part for part in model.modules() if set_chunked(part, enable)]


@contextmanager
def chunked_swin_blocks(model: nn.Module) -> Iterator[None]:
    """Within this context `chunk_swin_blocks` is on; afterwards all blocks are what they were."""
    changed = chunk_swin_blocks(model)
    try:
        yield
    finally:
        for part in changed:
            chunk_swin_blocks(part, False)
