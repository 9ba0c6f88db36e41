"""Make generation write given answers, and keep the scores that it would have chosen from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import LogitsProcessor, LogitsProcessorList

from ...adapters import Adapter
from .rounding import in_full

__all__ = ["dictated_scores"]


class _Dictation(LogitsProcessor):
    """Forces the tokens of an answer on each row, and keeps the scores before.

    Args:
        answers: Ids of the answer of each row, with the end token.
    """

    def __init__(self, answers: Sequence[Sequence[int]]) -> None:
        self.answers = answers
        self.scores: list[list[torch.Tensor]] = [[] for _ in answers]
        self.rows: list[int] = list(range(len(answers)))
        self.step = 0

    def begin(self, rows: list[int]) -> None:
        """Take the rows of the next call of `model.generate`."""
        self.rows, self.step = rows, 0

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        forced = torch.full_like(scores, -torch.inf)
        for place, row in enumerate(self.rows):
            answer = self.answers[row]
            if self.step < len(answer):
                self.scores[row].append(in_full(scores[place]))
            forced[place, answer[min(self.step, len(answer) - 1)]] = 0.0
        self.step += 1
        return forced


def dictated_scores(
    adapter: Adapter, model: nn.Module, batch: Mapping[str, Any], answers: Sequence[Sequence[int]]
) -> list[torch.Tensor]:
    """Return the scores of each token of some answers while `adapter.generate` writes them.

    Args:
        adapter: The adapter of the model's family.
        model: The model, on its device.
        batch: A batch of prompts on the same device, one row per answer.
        answers: Ids of the answer of each row, with the end token.

    Returns:
        For each row a float32 tensor on the CPU, of shape (answer tokens, vocabulary). Tokens that may never be
        generated are -inf.

    Example:
        >>> from chartqa_ft import tiny_unichart, adapter_for
        >>> from PIL import Image
        >>> model, processor = tiny_unichart("test")
        >>> adapter = adapter_for(model, processor)
        >>> row = {"image": Image.new("RGB", (96, 96)), "question": "How much is red?"}
        >>> batch = adapter.encode([row], with_answers=False)
        >>> [tuple(scores.shape) for scores in dictated_scores(adapter, model, batch, [[7, 8, 2]])]
        [(3, 362)]
    """
    dictation = _Dictation(answers)
    longest = max(map(len, answers))
    numbered = {**batch, "rows": [{"index": row} for row in range(len(answers))]}
    with _announcing_rows(adapter, dictation):
        adapter.generate(
            model, numbered, max_new_tokens=longest + 1, logits_processor=LogitsProcessorList([dictation])
        )
    return [torch.stack(scores) for scores in dictation.scores]


@contextmanager
def _announcing_rows(adapter: Adapter, dictation: _Dictation) -> Iterator[None]:
    """Tell the dictation which rows each call of `model.generate` answers.

    An adapter with a `generate` of its own makes one call for all rows.
    """
    groups = adapter.prompt_groups

    def announced(model: nn.Module, batch: Mapping[str, Any], *args: Any, **kwargs: Any) -> Iterator[Any]:
        numbers = [row["index"] for row in batch["rows"]]
        for rows, prompts in groups(model, batch, *args, **kwargs):
            dictation.begin([numbers[row] for row in rows.tolist()])
            yield rows, prompts

    own = vars(adapter).get("prompt_groups")
    adapter.prompt_groups = announced  # type: ignore[method-assign]
    try:
        yield
    finally:
        del adapter.prompt_groups  # type: ignore[attr-defined]
        if own is not None:
            adapter.prompt_groups = own  # type: ignore[method-assign]
