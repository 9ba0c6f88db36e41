"""What is checked, and what several lines of the check compute in the same way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from ...adapters import Adapter, base_model
from ...adapters.text import IGNORE_INDEX
from ...batching.collator import ChartQACollator
from ..losses import AnswerLoss
from .dictation import dictated_scores
from .rounding import Rounding, in_full

__all__ = ["Subject", "answers_of"]


@dataclass
class Subject:
    """A model with everything that its check needs.

    Attributes:
        model: The model, with its PEFT weights if it has any.
        adapter: The adapter of its family.
        examples: Records with `image`, `question` and `answer`.
        rounding: The bounds.
        max_new_tokens: Longest answer that is generated, in tokens.
        num_beams: Beams of the search that is compared besides greedy decoding.
    """

    model: nn.Module
    adapter: Adapter
    examples: Sequence[Mapping[str, Any]]
    rounding: Rounding
    max_new_tokens: int = 8
    num_beams: int = 3
    _alone: list[torch.Tensor] | None = field(default=None, repr=False)

    @property
    def device(self) -> torch.device:
        """The device of the inputs."""
        return next(self.model.parameters()).device

    @property
    def is_peft(self) -> bool:
        """Whether the model has PEFT weights."""
        return hasattr(self.model, "peft_config")

    def collate(
        self, examples: Sequence[Mapping[str, Any]], *, answers: bool = True, **settings: Any
    ) -> dict[str, Any]:
        """Return a batch on the device of the model; every row has a chart of its own unless `settings` says so."""
        settings = {"group_by_chart": False, "with_answers": answers, **settings}
        return self.to_device(ChartQACollator(self.adapter, **settings)(list(examples)))

    def to_device(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return a batch on the device of the model."""
        return {key: value.to(self.device) if torch.is_tensor(value) else value for key, value in batch.items()}

    def training_logits(self, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return the logits of the answer tokens as the trainer computes them, on the CPU."""
        with torch.no_grad():
            return in_full(self.loss(batch)[1]["logits"])

    def loss(self, batch: Mapping[str, Any]) -> tuple[torch.Tensor, Any]:
        """Return the losses of the answer tokens and the outputs of the model, as the trainer computes them."""
        settings: Any = SimpleNamespace(label_smoothing_factor=0.0, torch_compile=False)
        return AnswerLoss(self.adapter, settings)(self.model, batch)

    def generate(self, batch: Mapping[str, Any], *, num_beams: int = 1) -> list[list[int]]:
        """Return the ids of the answers, padded to one length."""
        with self.answering():
            ids = self.adapter.generate(self.model, batch, max_new_tokens=self.max_new_tokens, num_beams=num_beams)
        return ids.tolist()

    def dictate(self, batch: Mapping[str, Any], answers: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        """Return the scores of generation while it writes some answers; see `dictated_scores`."""
        with self.answering():
            return dictated_scores(self.adapter, self.model, batch, answers)

    def scores_alone(self) -> list[torch.Tensor]:
        """Return the scores of generation for the answer of each example, which is generated alone."""
        if self._alone is None:
            answers = answers_of(self.collate(self.examples))
            self._alone = [
                self.dictate(self.collate([example], answers=False), [answer])[0]
                for example, answer in zip(self.examples, answers, strict=True)
            ]
        return self._alone

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Context in which the model answers, in evaluation mode."""
        modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            for module, training in modes:
                module.training = training

    @property
    def base(self) -> nn.Module:
        """The model without wrappers; its PEFT layers stay in place."""
        return base_model(self.model)


def answers_of(batch: Mapping[str, Any]) -> list[list[int]]:
    """Return the ids of answer + end of every row of a training batch.

    Example:
        >>> answers_of({"labels": torch.tensor([[-100, 5, 2], [-100, -100, 2]])})
        [[5, 2], [2]]
    """
    return [row[row != IGNORE_INDEX].tolist() for row in batch["labels"]]
