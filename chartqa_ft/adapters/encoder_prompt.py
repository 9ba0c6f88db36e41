"""Encoder-decoder models whose encoder reads chart and question, such as Florence-2."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from .argument_checks import check_records
from .base import NO_LIMIT, Adapter
from .processor_call import processor_arguments
from .sharing.vision import share_vision
from .text import IGNORE_INDEX, describe
from .token_rows import as_list, pad_rows
from .wrappers import base_model


class EncoderPrompt(Adapter):
    """Florence-2 and other models whose encoder takes chart and question, and whose decoder only writes the answer.

    A batch is the output of the family's processor for charts and prompts and, both int64 of shape (rows, length),
    `decoder_input_ids` (start token + answer) and `labels` (answer + EOS, -100 at padding). Tokens that the tokenizer
    puts before every answer (`<s>` of BART) are part of the decoder's prompt: they are neither trained nor generated.
    If rows share charts, the batch also holds `chart_index`, int64 of shape (rows,), and the vision tower encodes each
    chart once; the encoder after it reads the question and cannot be shared.
    """

    name = "encoder-prompt"
    prompt_key = "decoder_input_ids"
    other_prompt = "{question}"
    shares_vision = True

    def setup(self, model: nn.Module) -> None:
        inner = base_model(model)
        config, settings = inner.config, inner.generation_config
        self.model_type = config.model_type
        self.forward_names = frozenset(inspect.signature(inner.forward).parameters) - {"labels"}
        text = config.get_text_config(decoder=True)
        starts = as_list(settings.decoder_start_token_id) or as_list(getattr(text, "decoder_start_token_id", None))
        if not starts:
            raise ValueError(
                "generation_config has no decoder_start_token_id, and this decoder needs one: set "
                "model.generation_config.decoder_start_token_id"
            )
        self.start = [*starts[:1], *self.answer_prefix()]
        self.positions = getattr(text, "max_position_embeddings", None) or NO_LIMIT
        self.limit = min(self.limit, self.positions)
        self.image_ids = as_list(getattr(config, "image_token_id", None))
        self.skipped_ids |= {*self.tokenizer.all_special_ids, *self.start}

    def answer_prefix(self) -> list[int]:
        """Return the ids that the tokenizer puts before every target text."""
        probe = self.tokenize(["7"])[0]
        full = self.tokenizer(text_target=["7"])["input_ids"][0]
        begin = next((n for n in range(len(full)) if full[n : n + len(probe)] == probe), 0)
        return full[:begin]

    # ------------------------------------------------------------------ batches
    def prompt_batch(self, examples: Sequence[Mapping[str, Any]], images: Sequence[Any]) -> Mapping[str, Any]:
        """Return the output of the processor for charts and prompts."""
        texts = [self.question_text(example["question"]) for example in examples]
        return self.processor(images=list(images), text=texts, **processor_arguments(self.processor))

    def encode(self, examples: Sequence[Mapping[str, Any]], *, with_answers: bool = True) -> dict[str, torch.Tensor]:
        check_records(examples)
        examples = self.asked(examples)
        for example in examples:
            self.check_question(example)
        rows = self.answer_tensors(examples) if with_answers else {}
        batch = self.processed(
            examples, lambda rows, images: self.prompt_batch([examples[row] for row in rows], images)
        )
        if "input_ids" in batch and batch["input_ids"].shape[1] > self.positions:
            self.check_lengths(examples, batch)
        # Row tensors first: tensors of other lengths may follow.
        return {**rows, **{key: value for key, value in batch.items() if key in self.forward_names}}

    def answer_tensors(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return `decoder_input_ids` and `labels`; see the class."""
        rows = self.fitting_answers(examples)
        before = len(self.start) - 1
        return {
            "decoder_input_ids": pad_rows([[*self.start, *row[:-1]] for row in rows], self.pad_token_id),
            "labels": pad_rows([[IGNORE_INDEX] * before + (row or [IGNORE_INDEX]) for row in rows], IGNORE_INDEX),
        }

    def fitting_answers(self, examples: Sequence[Mapping[str, Any]]) -> list[list[int]]:
        """Return the ids of each answer, truncated if need be (see `cut_answer`); none for an empty answer."""
        rows = self.answered_rows(examples, lambda rows: self.answer_rows([examples[row] for row in rows]))
        room = self.limit - len(self.start)
        return [
            self.cut_answer(example, row, room) if len(row) > room else row
            for example, row in zip(examples, rows, strict=True)
        ]

    def check_texts(self, examples: Sequence[Mapping[str, Any]], *, with_answers: bool = True) -> None:
        examples = self.asked(examples)
        super().check_texts(examples, with_answers=with_answers)
        questions = self.tokenize([self.question_text(example["question"]) for example in examples])
        self.check_ids(examples, questions, self.fitting_answers(examples) if with_answers else [])

    def answer_rows(self, examples: Sequence[Mapping[str, Any]]) -> list[list[int]]:
        """Return the ids of each answer, with one EOS at the end."""
        answers = self.tokenize([self.answer_text(example) for example in examples])
        return [self.end(example, ids) for example, ids in zip(examples, answers, strict=True)]

    def check_lengths(self, examples: Sequence[Mapping[str, Any]], batch: Mapping[str, Any]) -> None:
        """Check that every prompt fits into the encoder.

        Raises:
            ValueError: One does not; the message names the record.
        """
        for example, mask, ids in zip(examples, batch["attention_mask"].bool(), batch["input_ids"], strict=True):
            length, chart = int(mask.sum()), int(torch.isin(ids, torch.tensor(self.image_ids)).sum())
            if length > self.positions:
                raise ValueError(
                    f"{describe(example)}: the prompt takes {length} tokens ({chart} for the chart, {length - chart} "
                    f"for the text), and the encoder has {self.positions} positions: shorten the question"
                )

    def image_tokens(self, batch: Mapping[str, torch.Tensor]) -> list[int] | None:
        if "input_ids" not in batch or not self.image_ids:
            return None
        ids = batch["input_ids"]
        return torch.isin(ids, torch.tensor(self.image_ids, device=ids.device)).sum(dim=1).tolist()

    def attach(self, model: nn.Module) -> None:
        if self.shares_vision:
            share_vision(base_model(model))

    # ------------------------------------------------------------------ generation
    def prompt_groups(
        self, model: nn.Module, batch: Mapping[str, torch.Tensor], encoder_outputs: Any = None
    ) -> Iterator[tuple[torch.LongTensor, dict[str, Any]]]:
        own = ("labels", "decoder_input_ids", "chart_index", "rows")
        inputs = {key: value for key, value in batch.items() if key not in own}
        mask = inputs["attention_mask"]
        before = torch.tensor([self.start], device=mask.device).expand(len(mask), -1)
        yield torch.arange(len(mask), device=mask.device), {**inputs, "decoder_input_ids": before}
