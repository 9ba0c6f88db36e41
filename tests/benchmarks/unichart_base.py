"""What the benchmarks of UniChart share: its base shape with random weights, real charts, and the official recipe.

The recipe is that of vis-nlp/UniChart, written plainly: every row encodes its own chart, is padded to 512 positions
with logits at each, and is validated alone.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import DonutImageProcessorPil, DonutProcessor

from chartqa_ft import load_chartqa
from chartqa_ft.data.synthetic.questions import synthetic_chartqa
from chartqa_ft.images.opening import open_image
from chartqa_ft.images.rgb import to_rgb
from chartqa_ft.models.tiny import tiny_unichart

CHARTS = Path(__file__).resolve().parents[3] / "shared" / "chartqa" / "test"
VOCABULARY = 57_546
POSITIONS = 512
"""To which the official recipe pads every prompt with its answer."""
BEAMS = 4
BASE_SHAPE = {
    "patch_size": 4,
    "embed_dim": 128,
    "depths": (2, 2, 14, 2),
    "encoder_heads": (4, 8, 16, 32),
    "window_size": 10,
    "decoder_layers": 4,
    "decoder_heads": 16,
    "decoder_ffn_dim": 4096,
    "max_positions": 1536,
    "init_std": 0.02,
}
QUICK_SHAPE = {"patch_size": 4, "embed_dim": 16, "depths": (2, 2), "encoder_heads": (2, 4), "window_size": 4}


def real_records(charts: int) -> list[dict[str, Any]]:
    """All questions on some charts of the real test split, human and augmented, charts together, images as paths;
    drawn charts where the real ones are not there."""
    if not CHARTS.is_dir():
        return _questions_on(list(synthetic_chartqa(charts, seed=0)), charts)
    human, augmented = (
        load_chartqa(str(CHARTS / f"test_{source}.json"), image_dir=str(CHARTS / "png"))
        for source in ("human", "augmented")
    )
    rows = []
    for part in (human, augmented):
        texts = (next(iter(part.values())) if isinstance(part, dict) else part).remove_columns("image")
        rows += [{**row, "image": str(CHARTS / "png" / row["chart_id"])} for row in texts]
    return _questions_on(rows, charts)


def _questions_on(rows: list[dict[str, Any]], charts: int) -> list[dict[str, Any]]:
    # In a drawn order: in that of their names the first charts have more questions than most.
    order = random.Random(0).sample(sorted({row["chart_id"] for row in rows}), charts)
    place = {chart: number for number, chart in enumerate(order)}
    return sorted((row for row in rows if row["chart_id"] in place), key=lambda row: place[row["chart_id"]])


def with_rows(records: Sequence[Mapping[str, Any]], rows: int, charts: int) -> list[Mapping[str, Any]]:
    """`rows` records on `charts` charts, whose numbers of questions are as they are in `records`."""
    sizes: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        sizes.setdefault(record["chart_id"], []).append(record)
    chosen: list[list[Mapping[str, Any]]] = []
    for group in sizes.values():
        left_rows, left_charts = rows - sum(map(len, chosen)), charts - len(chosen)
        # As many questions as this chart has, if the other charts can then have one each and fill the rest.
        if left_charts and (
            len(group) == left_rows if left_charts == 1 else len(group) <= left_rows - left_charts + 1
        ):
            chosen.append(group)
    batch = [record for group in chosen for record in group]
    if len(batch) != rows or len(chosen) != charts:
        raise ValueError(f"no {rows} questions on {charts} charts among {len(records)} records")
    return batch


def unichart(size: int, records: Sequence[Mapping[str, Any]], *, quick: bool = False) -> tuple[nn.Module, Any]:
    """A model of UniChart-base's shape (201 M parameters, random weights, no dropout) and its processor, whose
    tokenizer has the words of `records` as tokens; with `quick` a tiny one."""
    shape = QUICK_SHAPE if quick else BASE_SHAPE
    texts = [record[key] for record in records for key in ("question", "answer")]
    model, processor = tiny_unichart("test", image_size=size, extra_words=texts, **shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model.decoder.resize_token_embeddings(len(processor.tokenizer) if quick else VOCABULARY, mean_resizing=False)
    model.config.decoder.vocab_size = model.decoder.config.vocab_size
    processor.image_processor = DonutImageProcessorPil(size={"height": size, "width": size})
    return model, DonutProcessor(image_processor=processor.image_processor, tokenizer=processor.tokenizer)


class OfficialRecipe:
    """The steps of vis-nlp/UniChart's training and validation, on the same rows and in the same precision."""

    def __init__(self, model: nn.Module, processor: Any, *, positions: int = POSITIONS):
        self.model, self.processor, self.positions = model, processor, positions
        self.tokenizer = processor.tokenizer
        self.answer_token = self.tokenizer.convert_tokens_to_ids("<s_answer>")

    def pixels(self, record: Mapping[str, Any]) -> torch.Tensor:
        """(1, 3, height, width) of one row: its file is opened and its chart prepared for this row alone."""
        return self.processor(to_rgb(open_image(record["image"])), return_tensors="pt").pixel_values

    def collate(self, records: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        texts = [
            f"<chartqa> {row['question']} <s_answer> {row['answer']}{self.tokenizer.eos_token}" for row in records
        ]
        ids = self.tokenizer(
            texts, add_special_tokens=False, padding="max_length", max_length=self.positions, return_tensors="pt"
        ).input_ids
        labels = ids.masked_fill(ids == self.tokenizer.pad_token_id, -100)
        for row in labels:
            row[: int((row == self.answer_token).nonzero()[0]) + 1] = -100
        return {
            "decoder_input_ids": ids[:, :-1],
            "labels": labels[:, 1:],
            "pixel_values": torch.cat([self.pixels(record) for record in records]),
        }

    def loss(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        logits = self.model(pixel_values=batch["pixel_values"], decoder_input_ids=batch["decoder_input_ids"]).logits
        return F.cross_entropy(logits.reshape(-1, logits.shape[-1]).float(), batch["labels"].reshape(-1))

    def answer(self, record: Mapping[str, Any], max_new_tokens: int) -> str:
        """One validation row: beam search of four, the unknown token forbidden, what stands behind the marker."""
        prompt = self.tokenizer(
            f"<chartqa> {record['question']} <s_answer>", add_special_tokens=False, return_tensors="pt"
        ).input_ids.to(self.model.device)
        with torch.no_grad():
            ids = self.model.generate(
                self.pixels(record).to(self.model.device, self.model.dtype),
                decoder_input_ids=prompt,
                max_new_tokens=max_new_tokens,
                early_stopping=True,
                pad_token_id=self.tokenizer.pad_token_id,
                eos_token_id=self.tokenizer.eos_token_id,
                use_cache=True,
                num_beams=BEAMS,
                bad_words_ids=[[self.tokenizer.unk_token_id]],
            )
        text = self.tokenizer.decode(ids[0]).replace(self.tokenizer.eos_token, "")
        return text.replace(self.tokenizer.pad_token, "").split("<s_answer>")[1].strip()


def use_all_cores() -> None:
    """The tests run on one core each; a benchmark takes those that it may run on."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
