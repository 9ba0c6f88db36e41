"""`Lockstep`: ranks that share the weights of one model make the same calls, although each answers its own rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.distributed as dist
from PIL import Image
from torch import nn

from .wrappers import base_model

_RUNNING: WeakKeyDictionary[nn.Module, Lockstep] = WeakKeyDictionary()
_INSIDE = "_chartqa_inside"


def is_sharded(model: nn.Module) -> bool:
    """Return whether each of several ranks holds a part of every weight, so that a forward pass needs all of them.

    That is so under DeepSpeed ZeRO stage 3 and under FSDP. Under DDP and under ZeRO stages 1 and 2 every rank holds
    all weights.

    Args:
        model: the model, wrapped or not.

    Example:
        >>> is_sharded(nn.Linear(2, 2))
        False
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return False
    from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel

    if any(isinstance(module, (FSDPModule, FullyShardedDataParallel)) for module in model.modules()):
        return True
    return any(hasattr(parameter, "ds_id") for parameter in model.parameters())  # set by DeepSpeed in stage 3


def call_inside(model: nn.Module, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return `function(*args, **kwargs)`, which runs a part of a model; under FSDP2 as in a forward pass of the whole.

    FSDP2 gathers the weights of the blocks that it wraps when they run, and all others when the whole model does. An
    encoder that runs by itself would find some of its weights sharded.

    Args:
        model: the model, unwrapped.
        function: the function to call.
        *args: its arguments.
        **kwargs: its named arguments.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> call_inside(layer, layer.forward, torch.zeros(1, 2)).shape
        torch.Size([1, 2])
    """
    from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method

    if not isinstance(model, FSDPModule):
        return function(*args, **kwargs)
    setattr(model, _INSIDE, partial(_call, function))  # a module itself would become a submodule
    register_fsdp_forward_method(model, _INSIDE)
    try:
        return getattr(model, _INSIDE)(*args, **kwargs)
    finally:
        delattr(model, _INSIDE)


def _call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


def any_rank(value: bool, device: torch.device | str) -> bool:
    """Return whether `value` is true on any rank. Every rank must call it.

    Args:
        value: what holds on this rank.
        device: a device of this rank whose tensors the process group can reduce.
    """
    flag = torch.tensor(float(value), device=device)
    dist.all_reduce(flag, op=dist.ReduceOp.MAX)
    return bool(flag.item())


class Lockstep:
    """Lets every rank call `model.generate` as often as the rank that has most to generate.

    A forward pass of a sharded model gathers weights from all ranks. The rows of a batch are answered in as many
    calls as they have lengths, which differs from rank to rank, and a rank that makes one call less would leave the
    others waiting forever. So each call is announced to the other ranks. A rank that has made its own calls follows
    with `fill_up`, which answers a blank chart for each call that another rank still makes.

    Within a call `synced_gpus=True` keeps ranks together whose answers differ in length.

    Args:
        adapter: the `Adapter` of the model's family.
        model: the model, wrapped or not. Every rank must create the object at the same time: a chart is encoded here.
        num_beams: number of beams of the calls.
    """

    def __init__(self, adapter: Any, model: nn.Module, *, num_beams: int = 1) -> None:
        self.adapter, self.model, self.num_beams = adapter, base_model(model), num_beams
        self.device = _device(model)
        self.filled = 0
        """Number of blank charts that this rank has answered."""
        blank = {"image": Image.new("RGB", (224, 224), "white"), "question": "What is it?"}
        batch = adapter.encode([blank], with_answers=False)
        self._blank = {key: value.to(self.device) if torch.is_tensor(value) else value for key, value in batch.items()}
        self._encoder_outputs: Any = None
        self.encode_blank()

    def encode_blank(self) -> None:
        """Encode the blank chart, where other ranks encode charts and this one has none."""
        with torch.no_grad():
            self._encoder_outputs = self.adapter.encode_charts(self.model, self._blank)

    def any_rank(self, value: bool) -> bool:
        """Return whether `value` is true on any rank. Every rank must call it."""
        return any_rank(value, self.device)

    def begin_call(self) -> None:
        """Announce a call of `model.generate` to the other ranks, which make one as well."""
        self.any_rank(True)

    def generate(self, batch: Mapping[str, Any], **settings: Any) -> torch.LongTensor:
        """Call `adapter.generate` for rows of this rank, which announces each of its calls."""
        _RUNNING[self.model] = self
        try:
            return self.adapter.generate(self.model, batch, **{**settings, "synced_gpus": True})
        finally:
            del _RUNNING[self.model]

    def fill_up(self) -> None:
        """Take part in the calls of the other ranks. It returns on all ranks together, when none calls any more."""
        while self.any_rank(False):
            self.adapter.generate(
                self.model,
                self._blank,
                encoder_outputs=self._encoder_outputs,
                max_new_tokens=1,
                num_beams=self.num_beams,
                synced_gpus=True,
            )
            self.filled += 1


def lockstep_for(adapter: Any, model: nn.Module, *, num_beams: int = 1) -> Lockstep | None:
    """Return a new `Lockstep` if the model is sharded, else `None`. Every rank must call it at the same time.

    Example:
        >>> from chartqa_ft import adapter_for, tiny_unichart
        >>> model, processor = tiny_unichart("test")
        >>> print(lockstep_for(adapter_for(model, processor), model))
        None
    """
    return Lockstep(adapter, model, num_beams=num_beams) if is_sharded(model) else None


def running_lockstep(model: nn.Module) -> Lockstep | None:
    """Return the `Lockstep` whose `generate` is running for a model, if any."""
    return _RUNNING.get(base_model(model))


def _device(model: nn.Module) -> torch.device:
    """Return the device on which a model computes; its weights may be kept on another one."""
    if dist.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return next(model.parameters()).device
