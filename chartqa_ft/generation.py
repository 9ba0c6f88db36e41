"""Questions in, answers out: batched, and every answer the one that its question gets alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from .adapters import Adapter, adapter_for
from .collator import ChartQACollator


def answer_questions(
    model: nn.Module,
    processor: Any,
    images: Any,
    questions: Sequence[str],
    *,
    batch_size: int = 8,
    num_beams: int = 1,
    max_new_tokens: int = 128,
    prompt: str | None = None,
    adapter: Adapter | None = None,
    progress: bool | None = None,
    **generation_kwargs: Any,
) -> list[str]:
    """Answer questions on charts.

    Args:
        model: a loaded model; it answers on the device it is on, and is back in its mode (train/eval) afterwards.
        processor: its processor.
        images: one image per question, or a single image for all of them.
        questions: the questions.
        batch_size: questions per batch; it changes the speed and no answer.
        num_beams: 1 for greedy decoding, more for beam search.
        max_new_tokens: the longest answer, in tokens.
        prompt: how a question is put, with the field `{question}`; `None`: the model's own.
        adapter: an adapter made before, in place of `adapter_for(model, processor, prompt=prompt)`.
        progress: show a progress bar; `None`: when there is more than one batch.
        generation_kwargs: further settings of `generate()`.

    Returns:
        The answers, in the order of the questions.

    Raises:
        ValueError: images and questions differ in number, or an image cannot be decoded.
    """
    if not isinstance(images, (list, tuple)):
        images = [images] * len(questions)
    if len(images) != len(questions):
        raise ValueError(
            f"{len(images)} images for {len(questions)} questions: pass one image per question, or one image"
        )
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if adapter is None:
        adapter = adapter_for(model, processor, prompt=prompt)
    collate = ChartQACollator(adapter, with_answers=False)
    examples = [
        {"image": image, "question": question, "chart_id": id(image)}
        for image, question in zip(images, questions, strict=True)
    ]
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    answers: list[str] = []
    try:
        starts = range(0, len(examples), batch_size)
        for start in tqdm(starts, desc="Answering", disable=len(starts) < 2 if progress is None else not progress):
            batch = collate(examples[start : start + batch_size])
            batch = {key: value.to(device) for key, value in batch.items()}
            with torch.no_grad():
                ids = adapter.generate(
                    model, batch, max_new_tokens=max_new_tokens, num_beams=num_beams, **generation_kwargs
                )
            answers.extend(adapter.decode(ids))
    finally:
        model.train(was_training)
    return answers
