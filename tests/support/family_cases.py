"""What the tests of all families share: a tiny model ready to train, its forward pass, its groups of generation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from packaging.version import Version
from torch import nn
from transformers import LogitsProcessor

from chartqa_ft.adapters import Adapter, adapter_for
from chartqa_ft.training.trainer import ChartQATrainer

from .common import trainer
from .families import FAMILIES, build
from .families import KINDS as FIRST_KINDS
from .more_families import More
from .torchvision_families import MORE

KINDS = {**FIRST_KINDS, **{name: more.kind for name, more in MORE.items()}}
QUICK = ("unichart", "pix2struct", "florence2", "llava", "kosmos2", "qwen2_5_vl", "paligemma", "gemma3")
"""Of the first fifteen families those that `make test` tries: each needs something that the others do not."""


def is_there(more: More) -> bool:
    """Whether the installed transformers has the classes of a family, and they work."""
    release = Version(transformers.__version__)
    return hasattr(transformers, more.needs or "AutoModel") and release >= Version(more.since or "0")


def chosen(which: str) -> list[str]:
    """The families of a test run.

    Those whose classes the installed transformers lacks are left out, unless they are named.

    Args:
        which: "quick" (`make test`), "all" (`make families`), "torchvision" (`make families-torchvision`: those whose
            processors need it), or names between commas.
    """
    if which not in ("quick", "all", "torchvision"):
        return which.split(",")
    added = {name: more for name, more in MORE.items() if is_there(more)}
    if which == "torchvision":
        return [name for name, more in added.items() if more.torchvision]
    first = [name for name in FAMILIES if which == "all" or name in QUICK]
    return [*first, *(name for name, more in added.items() if not more.torchvision and (which == "all" or more.quick))]


CHOSEN = os.environ.get("CHARTQA_FAMILIES", "quick")
ALL = chosen(CHOSEN)
PROMPTS = {"trocr": "{question} Answer:"}
"""Of families that have no prompt of their own; the others are asked in theirs."""

Batch = dict[str, Any]


def ready(name: str) -> tuple[nn.Module, Adapter]:
    """A fresh tiny model in evaluation mode, and its adapter."""
    model, processor = build(name)
    adapter = adapter_for(model, processor, prompt=PROMPTS.get(name))
    adapter.attach(model)
    return model, adapter


def run_of(folder: Path, model: nn.Module, adapter: Adapter, rows: list[dict], **changes: Any) -> ChartQATrainer:
    """A trainer of `model` on `rows`, which it evaluates on too."""
    settings = {"eval_dataset": rows, "lr_scheduler_type": "constant", "generation_max_new_tokens": 12, **changes}
    return trainer(folder, model=model, adapter=adapter, records=rows, **settings)


def answer_logits(model: nn.Module, adapter: Adapter, batch: Batch) -> torch.Tensor:
    """Logits that predict answer + eos in the training layout, row by row: (answer tokens, vocabulary)."""
    return model(**adapter.model_inputs(batch)).logits[adapter.label_mask(batch["labels"])]


def plain_loss(name: str, model: nn.Module, batch: Batch) -> torch.Tensor:
    """The mean loss per answer token as one would write it for this family alone: full logits, upstream's layout."""
    labels = batch["labels"]
    logits = model(**{key: value for key, value in batch.items() if key != "labels"}).logits
    if KINDS[name] == "causal":
        logits, labels = logits[:, :-1], labels[:, 1:]
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), ignore_index=-100)


def gradient_of(model: nn.Module) -> torch.Tensor:
    """All gradients of a model as one float64 vector."""
    return torch.cat([p.grad.double().flatten() for p in model.parameters() if p.grad is not None])


def answers_of(batch: Batch) -> list[list[int]]:
    """The ids of answer + eos of every row."""
    return [row[row != -100].tolist() for row in batch["labels"]]


def generation_groups(model: Any, adapter: Adapter, batch: Batch) -> list[list[int]]:
    """The rows of each call of `model.generate` for a batch, in the order of the calls."""
    return [rows.tolist() for rows, _ in adapter.prompt_groups(model, batch)]


class Dictate(LogitsProcessor):
    """Makes generation write given answers, and keeps the scores that it would have chosen from.

    Args:
        answers: ids of answer + eos of every row.
        groups: the rows of each call of `model.generate`.
    """

    def __init__(self, answers: list[list[int]], groups: list[list[int]]):
        self.answers, self.groups = answers, iter(groups)
        self.scores: list[list[torch.Tensor]] = [[] for _ in answers]
        self.rows: list[int] = []
        self.step, self.length = 0, 10**9

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        if input_ids.shape[1] <= self.length:  # no longer than before: another call
            self.rows, self.step = next(self.groups), 0
        self.length = input_ids.shape[1]
        written = torch.full_like(scores, -torch.inf)
        for place, row in enumerate(self.rows):
            answer = self.answers[row]
            if self.step < len(answer):
                self.scores[row].append(scores[place].clone())
            written[place, answer[min(self.step, len(answer) - 1)]] = 0.0
        self.step += 1
        return written
