"""KOSMOS-2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from .causal import Causal
from .processor_call import processor_arguments
from .wrappers import base_model


class Kosmos2(Causal):
    """KOSMOS-2. With left padding, upstream is wrong from the second generated token on, so prompts are not padded."""

    raw_layout = "{prompt}"
    pads_prompts = False

    def setup(self, model: nn.Module) -> None:
        # The processor does not store this number, and its default may differ from the model's.
        self.chart_length: int = base_model(model).config.latent_query_num
        super().setup(model)
        # Phrases may come with their positions in the image, which are not part of an answer.
        self.skipped_ids |= self.control_ids - self.eos_token_ids

    def prompt_batch(self, examples: Sequence[Mapping[str, Any]], images: Sequence[Any]) -> Mapping[str, Any]:
        return self.processor(
            images=list(images),
            text=[self.prompt_text(example["question"]) for example in examples],
            num_image_tokens=self.chart_length,
            **processor_arguments(self.processor),
        )

    def image_mask(self, batch: Mapping[str, torch.Tensor]) -> torch.BoolTensor:
        return batch["image_embeds_position_mask"].bool()
