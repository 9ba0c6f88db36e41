"""Activation checkpointing of single blocks, for models that only support whole stages."""

from __future__ import annotations

from functools import cache

from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer


def checkpoint_blocks(model: nn.Module) -> int:
    """Make activation checkpointing store the input of every block of a stage, not only that of the stage.

    Upstream, a stage of a Swin encoder is one checkpoint. Its backward pass holds the activations of all its blocks at
    once (14 of 20 blocks in UniChart), which saves little memory. After this call,
    `activation_checkpointing_enable()` applies to the blocks, and its `every_n_layers` counts them. The modules and
    their parameters stay in place; each module gets a subclass of its class, as in FSDP2, since there is no public way
    to do this. No value changes, and a second call has no effect.

    Args:
        model: A model that is not wrapped yet. Stages are `GradientCheckpointingLayer`s with a list of plain blocks.

    Returns:
        The number of blocks that can be checkpointed and could not before.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> model, _ = tiny_unichart("test", depths=(2, 1), image_size=64, window_size=4)
        >>> checkpoint_blocks(model)  # a stage with a single block is left alone
        2
    """
    count = 0
    for stage in model.modules():
        if not isinstance(stage, GradientCheckpointingLayer) or isinstance(stage, _Stage):
            continue
        lists = [child for child in stage.children() if isinstance(child, nn.ModuleList)]
        blocks = [block for child in lists for block in child if not isinstance(block, GradientCheckpointingLayer)]
        if len(blocks) > 1 and len({type(block) for block in blocks}) == 1:
            for block in blocks:
                block.__class__ = _block_class(block.__class__)
            stage.__class__ = _stage_class(stage.__class__)
            count += len(blocks)
    return count


class _Stage:
    """A stage whose blocks are checkpoints. It is never a checkpoint itself, whatever is assigned to its attribute."""

    @property
    def gradient_checkpointing(self) -> bool:
        return False

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, enable: bool) -> None:
        pass


@cache
def _stage_class(kind: type[nn.Module]) -> type[nn.Module]:
    return type(kind.__name__, (_Stage, kind), {"__doc__": kind.__doc__})


@cache
def _block_class(kind: type[nn.Module]) -> type[nn.Module]:
    return type(kind.__name__, (GradientCheckpointingLayer, kind), {"__doc__": kind.__doc__})
