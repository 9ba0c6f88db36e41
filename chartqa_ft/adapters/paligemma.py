"""PaliGemma and ChartGemma."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from .causal import Causal
from .processor_call import processor_arguments


class PaliGemma(Causal):
    """PaliGemma and ChartGemma.

    The processor adds BOS and the line break itself. The answer is not part of the prefix, in which tokens attend to
    each other in both directions.
    """

    raw_layout = "{image}{prompt}"
    raw_answer = ("\n", "")
    fill: ClassVar[dict[str, int]] = {"attention_mask": 1, "token_type_ids": 1}

    def prompt_batch(self, examples: Sequence[Mapping[str, Any]], images: Sequence[Any]) -> Mapping[str, Any]:
        # With "pt" this processor creates arrays of tensors in a way that numpy deprecates.
        batch = self.processor(
            images=[[image] for image in images],
            text=[self.prompt_text(example["question"]) for example in examples],
            **{**processor_arguments(self.processor), "return_tensors": "np"},
        )
        return {key: torch.from_numpy(np.asarray(value)) for key, value in batch.items()}
