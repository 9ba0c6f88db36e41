"""`answer_alternatives`: the answers that a beam search ends with, and how probable the model finds each."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..adapters import Adapter, adapter_for, base_model
from ..adapters.pixels import makes_raw_charts
from ..adapters.wrappers import without_autocast
from ..batching.collator import ChartQACollator
from ..images.opening import snapshot
from ..models.swin import chunked_swin_blocks
from ..printable import printable_errors
from .arguments import check_objects, checked_images, checked_questions

__all__ = ["Alternative", "answer_alternatives"]


@dataclass(frozen=True)
class Alternative:
    """One of the answers that a beam search ends with."""

    text: str
    """The answer."""
    probability: float
    """The probability with which the model, sampling without any change of its distribution, would write this answer:
    the product of the probabilities of its tokens, the end of the answer included. Where several sequences of tokens
    read the same, the sum of those that were found. It says how much of the model's own distribution an answer has,
    not how often such answers are right, and all alternatives together have less than 1: the rest belongs to answers
    that the search did not keep."""
    complete: bool
    """Whether the model ended the answer. If not, `max_new_tokens` cut it, and `probability` is that of its
    beginning."""


@printable_errors()
def answer_alternatives(
    model: nn.Module,
    processor: Any,
    image: Any,
    question: str,
    *,
    num_beams: int = 4,
    max_new_tokens: int = 128,
    adapter: Adapter | None = None,
) -> list[Alternative]:
    """Answer one question on a chart by beam search, and return all answers with which the search ends.

    Args:
        model: a loaded model. The mode of each of its modules (train or eval) is restored afterwards.
        processor: the processor of the model.
        image: a PIL image, the path of a file or its content, or an array of uint8.
        question: the question.
        num_beams: number of beams, at least 2. Beams whose answers read the same are one alternative.
        max_new_tokens: the longest answer, in tokens.
        adapter: an existing adapter, in place of `adapter_for(model, processor)`.

    Returns:
        The alternatives. The first is the answer of `answer_questions` with as many beams: beam search ranks by the
        mean log-probability of a token, so that a later one, if it is shorter, may be the more probable.

    Raises:
        TypeError: an argument is of a wrong type.
        ValueError: the image cannot be decoded, or there are less than 2 beams.

    Example:
        >>> from PIL import Image
        >>> from chartqa_ft import tiny_unichart
        >>> model, processor = tiny_unichart("test")  # random weights
        >>> chart = Image.new("RGB", (96, 96), "white")
        >>> found = answer_alternatives(model, processor, chart, "How much is red?", num_beams=2, max_new_tokens=3)
        >>> 0 < sum(alternative.probability for alternative in found) < 1
        True
    """
    check_objects(model, processor, adapter, None)
    (question,) = checked_questions([question])
    (image,) = checked_images([image], 1)
    adapter = adapter_for(model, processor) if adapter is None else adapter
    collate = ChartQACollator(adapter, with_answers=False, raw_charts=makes_raw_charts(adapter))
    batch = collate([{"image": snapshot(image), "question": question}])
    device = next(model.parameters()).device
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        chunked = chunked_swin_blocks(model) if device.type == "cpu" else nullcontext()
        with chunked, without_autocast(model):
            ids, sums = adapter.beams(
                base_model(model),
                {key: value.to(device) for key, value in batch.items() if torch.is_tensor(value)},
                max_new_tokens=max_new_tokens,
                num_beams=num_beams,
            )
    finally:
        for module, training in modes:
            module.training = training
    ends = torch.isin(ids, torch.tensor(sorted(adapter.eos_token_ids), device=ids.device)).any(dim=1)
    found: dict[str, Alternative] = {}
    for text, total, complete in zip(adapter.decode(ids), sums.tolist(), ends.tolist(), strict=True):
        before = found.get(text)
        probability = math.exp(min(total, 0.0)) + (before.probability if before else 0.0)
        found[text] = Alternative(text, min(probability, 1.0), complete or bool(before and before.complete))
    return list(found.values())
