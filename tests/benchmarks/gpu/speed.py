"""P1 to P4 in bfloat16: training steps, their memory, validation and fine-tuning of a LLaVA, against the peers."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from chartqa_ft.adapters import base_model
from chartqa_ft.models.swin import fuse_swin_attention

from .. import evaluation, llava_evaluation, sft
from ..measure import alternate
from ..training_step import Sides
from ..unichart_base import unichart
from .report import PartResult
from .setting import Setting, free, peak, relative
from .stand_ins import is_installed

STEPS = {960: (10, 6), 480: (20, 12)}
"""Rows and charts of a step of UniChart-base, by the side of the picture in pixels."""
SFT_BATCH = (20, 12)
LLAVA_SHAPE = {
    "image_size": 336,
    "vision": {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16},
    "vision_layers": 24,
    "text": {"hidden_size": 2048, "intermediate_size": 5504, "num_attention_heads": 16, "num_key_value_heads": 16},
    "text_layers": 8,
}
"""LLaVA-1.5's tower, and a Llama of half its width with a quarter of its blocks: 0.8 billion parameters."""
FUSED = "ours, fused attention in windows"
WAYS = {"official": "official", "ours": "ours", FUSED: "ours", "ours, recomputing": "ours, recomputing"}
"""The sides of P1, and the way of `Sides.go` that each takes."""
BF16 = 2e-2
"""Largest relative difference of the losses of two sides in bfloat16 autocast."""


def training_step(setting: Setting, part: PartResult, size: int) -> None:
    """P1 and P2: time and memory of a step of UniChart-base against the official recipe."""
    rows, charts = (3, 2) if setting.tiny else STEPS[size]
    records = setting.records(30)
    sides = Sides(size, rows, charts, quick=setting.tiny, records=records, cuda=setting.cuda)
    loss, gradient = sides.differences()
    part.check(f"{size} px: losses of the two sides", loss, BF16 if setting.cuda else 1e-5)
    part.note(f"{size} px: losses differ by {loss:.1e}, gradients by {gradient:.1e} (relative)")
    works = {side: sides.official if side == "official" else sides.ours for side in WAYS}

    def go(side: str) -> None:
        sides.go(WAYS[side])
        fuse_swin_attention(sides.model, side == FUSED)

    times = alternate(works, runs=setting.runs, before=go)
    memory: dict[str, int | None] = {}
    for side, work in works.items():
        for optimizer in (sides.optimizer, sides.our_optimizer):
            optimizer.state.clear()  # that of the other side does not count
        go(side)
        memory[side] = peak(setting, work)
    for side in list(works)[1:]:
        part.compare(
            f"P1, P2 training step, UniChart-base, {size} px, {rows} rows on {charts} charts ({side})",
            times,
            peer="official",
            ours=side,
            rows=rows,
            goal=">= 3x, <= 0.5x memory",
            memory=memory,
        )


def validation(setting: Setting, part: PartResult) -> None:
    """P3: answers of a UniChart-base by beam search of four, against the official recipe, row by row."""
    records = setting.records(3 if setting.tiny else 12)
    model, processor = unichart(64 if setting.tiny else 960, records, quick=setting.tiny)
    evaluation.with_many_answers(model, processor.tokenizer)
    model.to(setting.device, torch.bfloat16 if setting.cuda else torch.float32).eval()
    sides = evaluation.Validation(model, processor, records, 4 if setting.tiny else 32)
    times = alternate({"official": sides.official, "ours": sides.ours}, runs=setting.runs)
    part.compare(
        f"P3 validation, UniChart-base, {len(records)} questions, beam 4",
        times,
        peer="official",
        ours="ours",
        rows=len(records),
        goal=">= 15x",
    )
    report_different(setting, part, "UniChart", sides.different(), len(records))


def llava_answers(setting: Setting, part: PartResult) -> None:
    """P3 of a decoder-only model: greedy answers against `generate` of transformers, row by row and in batches."""
    found = setting.records(4 if setting.tiny else 24)
    shape = None if setting.tiny else LLAVA_SHAPE
    model, processor = sft.llava(found, quick=setting.tiny, shape=shape, device=str(setting.device))
    llava_evaluation.with_many_answers(model, processor.tokenizer)
    model.to(setting.device, torch.bfloat16 if setting.cuda else torch.float32).eval()
    batch = 4 if setting.tiny else 32
    sides = llava_evaluation.Answers(model, processor, found, batch)
    works = {
        "one by one": partial(sides.peer, 1, "one by one"),
        "batched": partial(sides.peer, batch, "batched"),
        "ours": sides.ours,
    }
    times = alternate(works, runs=setting.runs)
    for name, goal in llava_evaluation.GOALS.items():
        work = f"P3 answers, LLaVA, {len(found)} questions, against {name}"
        part.compare(work, times, peer=name, ours="ours", rows=len(found), goal=goal)
        report_different(setting, part, f"LLaVA, {name}", sides.different(name), len(found))


def report_different(setting: Setting, part: PartResult, name: str, wrong: int, rows: int) -> None:
    """Answers must be equal in float32; in bfloat16 the rounding of another batch may change some."""
    if setting.cuda:
        part.note(f"{name}: {wrong} of {rows} answers differ (bfloat16)")
    else:
        part.check(f"{name}: answers that differ", wrong, 0)


class Plain(sft.Side):
    """transformers alone: a row per question, logits at every position, the loss of the model itself."""

    name = "transformers"

    def make_trainer(self, model: nn.Module, peft_config: Any) -> Any:
        if peft_config is not None:
            from peft import get_peft_model

            model = get_peft_model(model, peft_config)
        model.to("cuda" if self.cuda else "cpu")

        def compute_loss(model: nn.Module, batch: dict[str, Any], num_items_in_batch: int) -> torch.Tensor:
            return model(**batch, num_items_in_batch=num_items_in_batch).loss

        return SimpleNamespace(model=model, compute_loss=compute_loss)

    def collate(self) -> dict[str, Any]:
        return self.adapter.encode(self.records)


def peers(part: PartResult) -> list[type[sft.Side]]:
    """The sides that ours is measured against; TRL where it is installed."""
    if is_installed("trl") and is_installed("datasets"):
        return [Plain, sft.Trl]
    part.note("TRL or datasets is not installed: transformers alone is the peer")
    return [Plain]


def fine_tuning(setting: Setting, part: PartResult, mode: str) -> None:
    """P4: a LoRA or full step of a LLaVA."""
    if mode == "lora" and not is_installed("peft"):
        part.note("peft is not installed: no LoRA step")
        return
    rows, charts = (3, 2) if setting.tiny else SFT_BATCH
    records = setting.records(30)
    shape = None if setting.tiny else LLAVA_SHAPE
    for kind in peers(part):
        both = sft.both_sides(
            rows,
            charts,
            mode,
            records=records,
            sides=(kind, sft.Ours),
            quick=setting.tiny,
            cuda=setting.cuda,
            shape=shape,
        )
        losses = [loss_of(side) for side in both]
        part.check(f"{mode}, {kind.name}: losses of the two sides", relative(*losses), BF16 if setting.cuda else 1e-5)
        works = {side.name: side.step for side in both}
        times = alternate(works, runs=setting.runs)
        memory = {side.name: memory_alone(setting, side, both) for side in both}
        million = sum(weight.numel() for weight in base_model(both[1].model).parameters()) / 1e6
        part.compare(
            f"P4 {sft.MODES[mode]} step, LLaVA ({million:.0f} M), {rows} rows on {charts} charts, against {kind.name}",
            times,
            peer=kind.name,
            ours="ours",
            rows=rows,
            goal=">= 1.3x, <= 0.6x memory",
            memory=memory,
        )
        del both, works
        free(setting)


def loss_of(side: sft.Side) -> torch.Tensor:
    """The loss of a side without dropout."""
    side.model.eval()
    with torch.no_grad():
        loss = side.loss()
    side.model.train()
    return loss


def memory_alone(setting: Setting, side: sft.Side, sides: tuple[sft.Side, ...]) -> int | None:
    """The peak of a side's steps while the weights of the others wait on the CPU."""
    if not setting.cuda:
        return None
    others = [other for other in sides if other is not side]
    for other in others:
        other.optimizer.zero_grad()
        other.optimizer.state.clear()
        other.model.to("cpu")
    most = peak(setting, side.step)
    for other in others:
        other.model.to(setting.device)
    return most
