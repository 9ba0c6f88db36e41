"""Encoder-decoder models whose encoder reads the question: Florence-2 as text, Pix2Struct as a header of the chart."""

from __future__ import annotations

import inspect
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFont
from torch import nn

from .base import IGNORE_INDEX, NO_LIMIT, Adapter, as_list, base_model, logger, pad_rows
from .image_cost import image_kwargs
from .sharing.vision import share_vision
from .text import describe


class EncoderPrompt(Adapter):
    """Florence-2 and other models whose encoder takes chart and question, and whose decoder writes the answer alone.

    A batch is what the family's own processor makes of charts and prompts, and beside it, both int64 of shape (rows,
    length), `decoder_input_ids` (start token + answer) and `labels` (answer + eos, -100 at padding). Tokens that the
    tokenizer puts before every answer (`<s>` of BART) are part of the decoder's prompt: they are neither learnt nor
    left to generation. `chart_index`, int64 of shape (rows,), is there when rows share charts: the vision tower then
    encodes each of them once; the encoder behind it reads the question and cannot share.
    """

    name = "encoder-prompt"
    stream = "decoder_input_ids"
    other_prompt = "{question}"
    shares_vision = True

    def setup(self, model: nn.Module) -> None:
        inner = base_model(model)
        config, settings = inner.config, model.generation_config
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
        """What the tokenizer puts before every text that a decoder shall write."""
        probe = self.tokenize(["7"])[0]
        full = self.tokenizer(text_target=["7"])["input_ids"][0]
        begin = next((n for n in range(len(full)) if full[n : n + len(probe)] == probe), 0)
        return full[:begin]

    # ------------------------------------------------------------------ batches
    def prompt_batch(self, examples: Sequence[Mapping[str, Any]], images: Sequence[Any]) -> Mapping[str, Any]:
        """The processor's own batch of charts and prompts."""
        texts = [self.question_text(example["question"]) for example in examples]
        return self.processor(
            images=list(images),
            text=texts,
            padding=True,
            return_tensors="pt",
            images_kwargs=image_kwargs(self.processor),
        )

    def encode(self, examples: Sequence[Mapping[str, Any]], *, with_answers: bool = True) -> dict[str, torch.Tensor]:
        for example in examples:
            self.check_question(example)
        rows = self.answer_tensors(examples) if with_answers else {}
        batch = self.processed(
            examples, lambda rows, images: self.prompt_batch([examples[row] for row in rows], images)
        )
        if "input_ids" in batch and batch["input_ids"].shape[1] > self.positions:
            self.refuse_long_prompt(examples, batch)
        # Rows first: tensors of other lengths may follow.
        return {**rows, **{key: value for key, value in batch.items() if key in self.forward_names}}

    def answer_tensors(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        answers = self.tokenize([self.answer_text(example) for example in examples])
        rows = [self.end(example, ids) for example, ids in zip(examples, answers, strict=True)]
        room = self.limit - len(self.start)
        rows = [
            self.cut_answer(example, row, room) if len(row) > room else row
            for example, row in zip(examples, rows, strict=True)
        ]
        before = len(self.start) - 1
        return {
            "decoder_input_ids": pad_rows([[*self.start, *row[:-1]] for row in rows], self.pad_token_id),
            "labels": pad_rows([[IGNORE_INDEX] * before + row for row in rows], IGNORE_INDEX),
        }

    def refuse_long_prompt(self, examples: Sequence[Mapping[str, Any]], batch: Mapping[str, Any]) -> None:
        for example, live, ids in zip(examples, batch["attention_mask"].bool(), batch["input_ids"], strict=True):
            length, chart = int(live.sum()), int(torch.isin(ids, torch.tensor(self.image_ids)).sum())
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


class Pix2Struct(EncoderPrompt):
    """Pix2Struct, MatCha, DePlot: the question is drawn above the chart, so that no two questions share a picture.

    Upstream fetches Arial from the Hub for that, for every image; here the font that Pillow carries serves without a
    network. It has the characters of English text; others are named in a warning.

    Args:
        font_path: a TrueType font file to draw questions with; stored with the checkpoint.
    """

    shares_vision = False
    setting_names = (*Adapter.setting_names, "font_path")

    def __init__(self, *args: Any, font_path: str | None = None, **kwargs: Any):
        self.font_path = font_path
        super().__init__(*args, **kwargs)

    def setup(self, model: nn.Module) -> None:
        super().setup(model)
        if self.font_path is not None and not Path(self.font_path).is_file():
            raise ValueError(f"font_path: there is no font file {self.font_path}")
        self.font = question_font(self.font_path)
        self.missing: set[str] = set()

    def prompt_batch(self, examples: Sequence[Mapping[str, Any]], images: Sequence[Any]) -> Mapping[str, Any]:
        image_processor = self.processor.image_processor
        pictures = [
            self.with_header(image, self.question_text(example["question"]))
            for example, image in zip(examples, images, strict=True)
        ]
        # The class's own number of patches would win over the checkpoint's.
        return image_processor(pictures, is_vqa=False, max_patches=image_processor.max_patches, return_tensors="pt")

    def with_header(self, image: Image.Image, header: str) -> Any:
        """The chart with its question above, as this image processor draws it."""
        self.name_missing(header)
        pixels: Any = np.asarray(image).transpose(2, 0, 1)
        if "torchvision" in getattr(self.processor.image_processor, "backend", ""):
            pixels = torch.from_numpy(pixels.copy())
        return self.processor.image_processor.render_header(pixels, header, font_bytes=self.font)

    def name_missing(self, text: str) -> None:
        missing = set(text) - self.missing - {"\n", " ", "\t"}
        missing = {character for character in missing if not character.isascii() and lacks(self.font, character)}
        if missing:
            self.missing |= missing
            logger.warning(
                "the font that draws questions has no %s: pass font_path= of one that has, such as DejaVuSans.ttf",
                " ".join(sorted(missing)),
            )

    def image_tokens(self, batch: Mapping[str, torch.Tensor]) -> list[int]:
        return batch["attention_mask"].sum(dim=1).long().tolist()


def question_font(path: str | None = None) -> bytes:
    """The bytes of a font file; `None`: the one that ships with Pillow (Aileron)."""
    if path is not None:
        return Path(path).read_bytes()
    font = ImageFont.load_default(size=36)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise ValueError(
            "this Pillow was built without FreeType and cannot draw questions: pip install --upgrade pillow"
        )
    return font.font_bytes


def lacks(font: bytes, character: str) -> bool:
    """Whether a font draws its box for missing characters in place of this one."""
    drawn = ImageFont.truetype(io.BytesIO(font), size=36)
    return bytes(drawn.getmask(character)) == bytes(drawn.getmask("\uffff"))
