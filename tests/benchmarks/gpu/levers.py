"""Every lever on and off: the same losses, gradients and weights, up to the rounding of its precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from chartqa_ft.models.swin import fuse_swin_attention

from .correctness import Update, update_of
from .report import PartResult
from .setting import Setting, relative

ROUNDING = 1e-4
"""Largest relative difference in float32: other kernels add in another order."""


@dataclass(frozen=True)
class Lever:
    """Two ways to take the same step.

    Attributes:
        families: whose tiny models take it.
        off, on: training arguments of the two.
        way: is called with the model of the second before the training.
        limit: largest relative difference of gradients.
        gpu: whether it needs a GPU.
    """

    name: str
    families: tuple[str, ...]
    off: Mapping[str, Any] = field(default_factory=dict)
    on: Mapping[str, Any] = field(default_factory=dict)
    way: Callable[[Any], Any] | None = None
    limit: float = ROUNDING
    gpu: bool = False


def fused_by_one_kernel(model: nn.Module) -> None:
    """Let a Donut encoder use fused attention; on a GPU, the memory-efficient kernel or none."""
    encoder = model.encoder
    fuse_swin_attention(encoder)
    if not next(model.parameters()).is_cuda:
        return
    forward = encoder.forward

    def efficient(*args: Any, **kwargs: Any) -> Any:
        with sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION):
            return forward(*args, **kwargs)

    encoder.forward = efficient


COMPILED = ("unichart", "llava")
CHARTS = ("unichart", "llava", "qwen2_5_vl", "idefics3")
LEVERS = (
    Lever("group_by_chart", CHARTS, {"group_by_chart": False}, {"group_by_chart": True}),
    Lever("pack_questions", ("llava", "idefics3"), {"group_by_chart": False}, {"pack_questions": True}),
    Lever("activation_checkpointing", ("unichart", "llava"), {}, {"activation_checkpointing": True}),
    Lever(
        "two workers and pinned memory",
        ("unichart",),
        {"dataloader_num_workers": 0, "dataloader_pin_memory": False},
        {"dataloader_num_workers": 2, "dataloader_pin_memory": True},
    ),
    Lever("fused attention in windows", ("unichart", "nougat"), way=fused_by_one_kernel),
    Lever("fused optimizer", ("unichart", "llava"), {"optim": "adamw_torch"}, {"optim": "adamw_torch_fused"}),
    Lever("bf16 autocast", ("unichart", "llava"), {}, {"bf16": True}, limit=0.1),
    Lever("fp16 autocast", ("unichart", "llava"), {}, {"fp16": True}, limit=0.02, gpu=True),
)


def compare_lever(setting: Setting, part: PartResult, lever: Lever) -> None:
    """Take a step with a lever off and on, and compare them."""
    for name in lever.families[: 1 if setting.tiny else None]:
        before = update_of(setting, name, **lever.off)
        after = update_of(setting, name, way=lever.way, **lever.on)
        check_updates(part, f"{lever.name}, {name}", before, after, lever.limit)


def check_updates(part: PartResult, name: str, before: Update, after: Update, limit: float) -> None:
    """Check that two steps computed the same."""
    part.check(f"{name}: loss", abs(after.loss / before.loss - 1), limit)
    part.check(f"{name}: gradients", relative(after.gradient, before.gradient), limit)
    if limit <= ROUNDING:  # Adam's first step is nearly the sign of a gradient, and tiny ones may turn
        part.check(f"{name}: weights", relative(after.weights, before.weights), 10 * limit)


def compare_compiled(setting: Setting, part: PartResult, name: str) -> None:
    """Take a step of a compiled model; in tiny sizes nothing is compiled to machine code."""
    backend = "eager" if setting.tiny else "inductor"
    before = update_of(setting, name)
    after = update_of(setting, name, torch_compile=True, torch_compile_backend=backend)
    check_updates(part, f"torch_compile ({backend}), {name}", before, after, 1e-3)
