"""Golden values of transformers 4.28.1 and the checkpoints that they were computed with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import (
    DonutProcessor,
    VisionEncoderDecoderModel,
)

from chartqa_ft.adapters import compat

torch.set_num_threads(1)
GOLDEN = Path(__file__).resolve().parents[1] / "golden"


@dataclass
class Case:
    """One golden folder, and its checkpoint as this library loads it. Tests that train or change take fresh ones."""

    folder: Path

    def __post_init__(self) -> None:
        self.checkpoint = self.folder / "checkpoint"
        self.golden = json.loads((self.folder / "golden.json").read_text())
        self.examples: list[dict[str, Any]] = self.golden["examples"]
        self.arrays = np.load(self.folder / "golden.npz")
        self.images = [Image.open(self.folder / "images" / row["imgname"]).convert("RGB") for row in self.examples]

    @cached_property
    def processor(self) -> DonutProcessor:
        return compat.load_legacy_processor(self.checkpoint)

    @cached_property
    def model(self) -> VisionEncoderDecoderModel:
        return self.fresh_model()

    def fresh_model(self, attention: str | None = "eager", legacy: bool = True) -> VisionEncoderDecoderModel:
        model = VisionEncoderDecoderModel.from_pretrained(self.checkpoint, attn_implementation=attention).eval()
        return compat.apply_legacy_model(model) if legacy else model

    def array(self, name: str, i: int) -> torch.Tensor:
        return torch.from_numpy(self.arrays[f"{name}_{i}"])

    def padded(self, rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Golden decoder_input_ids and labels of shape (rows, max_length - 1), as the authors' loop feeds them."""
        ids = torch.full((len(rows), self.golden["max_length"]), 1)
        labels = torch.full_like(ids, -100)
        for k, i in enumerate(rows):
            count = len(self.examples[i]["input_ids"])
            ids[k, :count] = torch.tensor(self.examples[i]["input_ids"])
            labels[k, :count] = torch.tensor(self.examples[i]["labels"])
        return ids[:, :-1], labels[:, 1:]

    def loss(self, model: VisionEncoderDecoderModel, pixels: str, rows: list[int]) -> torch.Tensor:
        ids, labels = self.padded(rows)
        shown = torch.stack([self.array(pixels, i) for i in rows])
        return model(shown, decoder_input_ids=ids, labels=labels).loss

    def generate(self, rows: list[int], *, model: Any = None, legacy: bool = True, **settings: Any) -> Any:
        """The authors' call on golden pixels and prompts of equal length."""
        call = {
            "max_length": self.golden["max_length"],
            "early_stopping": True,
            "pad_token_id": 1,
            "eos_token_id": 2,
            "use_cache": True,
            "bad_words_ids": [[3]],
            "return_dict_in_generate": True,
            "output_scores": True,
            **settings,
        }
        if legacy and call.get("num_beams", 1) > 1:
            call["custom_generate"] = compat.legacy_beam_search
        prompts = torch.tensor([self.examples[i]["prompt_ids"] for i in rows])
        pixels = torch.stack([self.array("pixel_values", i) for i in rows])
        return (model or self.model).generate(pixels, decoder_input_ids=prompts, **call)

    def text(self, sequence: torch.Tensor) -> str:
        text = self.processor.tokenizer.decode(sequence).replace("</s>", "").replace("<pad>", "")
        return text.split("<s_answer>")[1].replace("<s>", "").strip(" ")


def trim(sequence: torch.Tensor) -> list[int]:
    """Without the padding that a row of a batch, or of four returned beams, carries."""
    ids = sequence.tolist()
    while ids[-1] == 1:
        ids.pop()
    return ids


def question_ids(tokenizer: Any, example: dict[str, Any], **settings: Any) -> list[int]:
    text = f"<chartqa> {example['query']} <s_answer> {example['label']}</s>"
    return tokenizer(text, add_special_tokens=False, **settings)["input_ids"]
