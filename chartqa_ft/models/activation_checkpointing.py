"""Activation checkpointing block by block, where a model only offers whole stages."""

from __future__ import annotations

from functools import cache

from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer


def checkpoint_blocks(model: nn.Module) -> int:
    """Let activation checkpointing keep the input of every block of a stage, instead of the stage's alone.

    A stage of a Swin encoder is one checkpoint upstream: its backward pass holds the activations of all its blocks
    again, 14 of 20 in UniChart, and so saves little. Afterwards `activation_checkpointing_enable()` acts on the
    blocks, and its `every_n_layers` counts them. The modules stay where they are, with their parameters; each gets a
    subclass of its class, as FSDP2 does it, for want of a public way. It changes no value; a second call does nothing.

    Args:
        model: before it is wrapped; stages are `GradientCheckpointingLayer`s that hold a list of plain blocks.

    Returns:
        How many blocks can be checkpointed that could not before.
    """
    found = 0
    for stage in model.modules():
        if not isinstance(stage, GradientCheckpointingLayer) or isinstance(stage, _Stage):
            continue
        lists = [part for part in stage.children() if isinstance(part, nn.ModuleList)]
        blocks = [block for part in lists for block in part if not isinstance(block, GradientCheckpointingLayer)]
        if len(blocks) > 1 and len({type(block) for block in blocks}) == 1:
            for block in blocks:
                block.__class__ = _block_class(type(block))
            stage.__class__ = _stage_class(type(stage))
            found += len(blocks)
    return found


class _Stage:
    """A stage whose blocks are checkpoints: it is none itself, whatever it is told."""

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
