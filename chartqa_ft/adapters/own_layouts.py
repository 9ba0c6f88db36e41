"""Families without a chat template whose processors take chart and question in a way of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from .causal import Causal
from .encoder_prompt import EncoderPrompt
from .processor_call import processor_arguments
from .wrappers import base_model


class Blip2(Causal):
    """BLIP-2 and InstructBLIP with a decoder-only language model. The processor puts the places of the chart before
    BOS."""

    raw_layout = "{prompt}"
    processor_arguments: Mapping[str, Any] = MappingProxyType({})
    """Further arguments of the processor."""

    def prompt_batch(self, examples: Sequence[Mapping[str, Any]], images: Sequence[Any]) -> Mapping[str, Any]:
        return self.processor(
            images=list(images),
            text=[self.prompt_text(example["question"]) for example in examples],
            **processor_arguments(self.processor),
            **self.processor_arguments,
        )


class Kosmos2_5(Blip2):
    """KOSMOS-2.5. The processor puts BOS and the places of the chart before the prompt.

    Upstream counts padding on the left as positions from the second generated token on, so prompts are not padded.
    """

    pads_prompts = False

    def image_mask(self, batch: Mapping[str, torch.Tensor]) -> torch.BoolTensor:
        # BOS stands for image tokens too. The mask is -1 at the tokens around the chart.
        return batch["image_embeds_position_mask"] == 1


class GotOcr2(Blip2):
    """GOT-OCR 2.0: the chat that its processor writes for its own tasks, with the question in place of the task."""

    raw_answer = ("", "")

    def setup(self, model: nn.Module) -> None:
        super().setup(model)
        # The default of the processor may differ from the number of the model.
        self.processor_arguments = {"num_image_tokens": base_model(model).config.image_seq_length}
        ends = self.tokenizer.convert_tokens_to_ids([self.processor.message_end_token])
        self.eos = ends[0]
        self.eos_token_ids |= set(ends)

    def prompt_text(self, question: str) -> str:
        parts = self.processor
        begin, end = parts.message_start_token, parts.message_end_token
        chart = f"{parts.img_start_token}{self.image_token}{parts.img_end_token}"
        return (
            f"{begin}{parts.system_query}{end}{begin}user\n{chart}\n{self.question_text(question)}{end}"
            f"{begin}assistant\n"
        )


class T5Gemma2(EncoderPrompt):
    """T5Gemma 2: an encoder that reads the chart in the place of its token and the question after it."""

    def answer_prefix(self) -> list[int]:
        return []  # the tokenizer's BOS is the start token of the decoder already

    def prompt_batch(self, examples: Sequence[Mapping[str, Any]], images: Sequence[Any]) -> Mapping[str, Any]:
        chart = self.processor.boi_token
        return self.processor(
            images=[[image] for image in images],
            text=[f"{chart} {self.question_text(example['question'])}" for example in examples],
            **processor_arguments(self.processor),
        )
