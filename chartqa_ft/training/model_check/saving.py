"""Line 8: a saved model answers as before, and so does a model into which its PEFT weights are merged."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...models.chartqa_config import read_settings
from ...models.load import load_checkpoint
from ...models.merging import merge_peft
from ...models.peft_loading import load_peft_weights
from ...models.peft_state import active_config, plain_layer
from ...models.peft_types import check_can_merge
from .answers import compare_answers
from .gradients import trainer_of
from .report import CheckLine
from .rounding import relative_difference
from .subject import Subject
from .untouched import kept_weights, untouched

__all__ = ["check_saving"]

_NAME = "saving"


class _Findings:
    """Collects the comparisons of one line."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.batch = subject.collate(subject.examples)
        self.logits, self.answers = self._answer(subject)
        self.differences: dict[str, float] = {}
        self.wrong: list[str] = []
        self.words: list[str] = []

    def _answer(self, subject: Subject) -> tuple[torch.Tensor, list[list[int]]]:
        with subject.answering():
            logits = subject.training_logits(self.batch)
        return logits, subject.generate(subject.collate(subject.examples, answers=False))

    def compare(self, way: str, model: nn.Module) -> None:
        """Compare logits and greedy answers of another model with those of the subject."""
        other = replace(self.subject, model=model, _alone=None)
        logits, answers = self._answer(other)
        bound = self.subject.rounding.values
        if logits.shape != self.logits.shape:
            self.wrong.append(f"{way}: the vocabulary has {logits.shape[1]} tokens instead of {self.logits.shape[1]}")
            return
        difference = self.differences[way] = relative_difference(logits, self.logits)
        found = compare_answers(other, self.subject.examples, answers, self.answers)
        text = f"{way}: {found.differ} of {found.tokens} tokens differ"
        if found.rows:
            text += f", at a margin of {found.margin:.1e} of the logits' spread"
        is_tie = not found.rows or (self.subject.rounding.is_narrow and found.margin <= self.subject.rounding.ties)
        (self.words if difference <= bound and is_tie else self.wrong).append(text)


def check_saving(subject: Subject, *, note: str = "") -> CheckLine:
    """Save the model as the trainer does, load it, and compare its answers; merge its PEFT weights, and compare again.

    PEFT weights are loaded onto the base model in memory. A full model is loaded as a second copy.

    Args:
        subject: The model, whose PEFT weights have an effect (see `fill_zero_weights`).
        note: Where the PEFT weights come from, for the words of the line.
    """
    findings = _Findings(subject)
    no_room = None if subject.is_peft else _no_room(subject)
    if no_room:
        return CheckLine(_NAME, "not applicable", words=no_room)
    with tempfile.TemporaryDirectory() as folder:
        with untouched(subject.model):
            trainer_of(subject, subject.examples, folder).save_model(folder)
        _compare_settings(findings, folder)
        if subject.is_peft:
            _compare_peft(findings, folder)
        else:
            _compare_full(findings, folder)
    number, bound = max(findings.differences.values(), default=None), subject.rounding.values
    return CheckLine(
        _NAME,
        "fail" if findings.wrong else "pass",
        number,
        bound,
        "\n".join([*findings.wrong, "; ".join(findings.words) + note])
        if findings.wrong
        else "; ".join(findings.words) + note,
        {"relative_differences": findings.differences, "wrong": findings.wrong},
    )


def _compare_settings(findings: _Findings, folder: str) -> None:
    saved, own = read_settings(folder), findings.subject.adapter.settings()
    lost = [name for name, value in own.items() if saved.get(name) != value]
    if lost:
        findings.wrong.append(f"the saved settings of the adapter differ in {', '.join(lost)}")


def _compare_full(findings: _Findings, folder: str) -> None:
    subject = findings.subject
    base = subject.base
    try:
        loaded, _, adapter = load_checkpoint(
            folder,
            dtype=base.dtype,
            attn_implementation=_attention(base.config),
            trust_remote_code=type(base).__module__.startswith("transformers_modules"),
        )
    except (OSError, ValueError) as error:
        findings.wrong.append(f"the saved model cannot be loaded: {error}")
        return
    loaded = loaded.to(subject.device)
    lost = _different_weights(base, loaded)
    if lost:
        findings.wrong.append(f"{len(lost)} weights differ after loading, such as {lost[0]}")
    if adapter.settings() != subject.adapter.settings():
        findings.wrong.append("the loaded adapter asks otherwise: its settings differ")
    subject.adapter.attach(loaded)
    findings.compare("saved and loaded", loaded)


def _compare_peft(findings: _Findings, folder: str) -> None:
    subject = findings.subject
    with untouched(subject.model):
        config = active_config(subject.model)
        adapted = [
            weight
            for module in subject.base.modules()
            if plain_layer(module) is not module
            for weight in plain_layer(module).parameters()
        ]
        base = subject.model.unload()
        try:
            loaded = load_peft_weights(base, folder, trainable=False).eval()
        except (OSError, ValueError) as error:
            findings.wrong.append(f"the saved PEFT weights cannot be loaded: {error}")
            return
        findings.compare("saved and loaded", loaded)
        if getattr(base, "is_quantized", False):
            findings.words.append("not merged, since the base model is quantized")
            return
        try:
            check_can_merge(config, "these PEFT weights")
        except ValueError as error:
            findings.words.append(f"not merged: {error}")
            return
        with kept_weights({id(weight): weight for weight in adapted}.values()):
            try:
                merged = merge_peft(loaded)
            except ValueError as error:
                findings.wrong.append(f"merging failed: {error}")
                return
            subject.adapter.attach(merged)
            findings.compare("merged", merged)


def _attention(config: Any) -> str | dict[str, str | None]:
    """Return the attention implementation of a model as `from_pretrained` takes it: by part, if it has parts."""
    parts = {name: getattr(config, name, None) for name in getattr(config, "sub_configs", {})}
    own = config._attn_implementation
    return {"": own, **{name: part._attn_implementation for name, part in parts.items() if part}} if parts else own


def _different_weights(model: nn.Module, other: nn.Module) -> list[str]:
    """Return the names of weights that another model lacks, or has with other values."""
    own = dict(other.named_parameters())
    return [
        name
        for name, weight in model.named_parameters()
        if name not in own or own[name].shape != weight.shape or not torch.equal(own[name].to(weight.device), weight)
    ]


def _free_memory() -> int:
    """Return the bytes of memory that programs can still get, files in the page cache not counted as used."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _no_room(subject: Subject) -> str | None:
    """Return why a second copy of the model does not fit onto the disk or into memory, `None` if it does."""
    size = sum(weight.numel() * weight.element_size() for weight in subject.model.parameters())
    disk = shutil.disk_usage(tempfile.gettempdir()).free
    memory = torch.cuda.mem_get_info(subject.device)[0] if subject.device.type == "cuda" else _free_memory()
    for free, where, advice in (
        (disk, tempfile.gettempdir(), "set TMPDIR to a folder with more room"),
        (memory, f"the memory of {subject.device}", "pass peft_config=, whose weights alone are then saved"),
    ):
        if free < 1.2 * size:
            return (
                f"a second copy of the model takes {size / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free in "
                f"{where}: {advice}"
            )
    return None
