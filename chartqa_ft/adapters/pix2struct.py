"""Pix2Struct, MatCha and DePlot: the question is drawn as a header above the chart."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFont
from torch import nn

from .base import Adapter
from .encoder_prompt import EncoderPrompt

logger = logging.getLogger(__name__)


class Pix2Struct(EncoderPrompt):
    """Pix2Struct, MatCha and DePlot. The question is part of the image, so no two questions share an image.

    Upstream downloads Arial from the Hub for each image; this adapter uses the font that comes with Pillow, without a
    network. It has the characters of English text; a warning names any other character of a question.

    Args:
        *args: See `Adapter`.
        font_path: A TrueType font file to draw questions with; saved with the checkpoint.
        **kwargs: See `Adapter`.

    Raises:
        ValueError: There is no file `font_path`, or Pillow was built without FreeType.
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
        # The default of the processor class would take precedence over the checkpoint's `max_patches`.
        return image_processor(pictures, is_vqa=False, max_patches=image_processor.max_patches, return_tensors="pt")

    def with_header(self, image: Image.Image, header: str) -> Any:
        """Return the chart with its question above it, drawn by the image processor."""
        self.warn_of_missing_characters(header)
        pixels: Any = np.asarray(image).transpose(2, 0, 1)
        if "torchvision" in getattr(self.processor.image_processor, "backend", ""):
            pixels = torch.from_numpy(pixels.copy())
        return self.processor.image_processor.render_header(pixels, header, font_bytes=self.font)

    def warn_of_missing_characters(self, text: str) -> None:
        """Log a warning, once per character, if the font cannot draw a character of `text`."""
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
    """Return the bytes of a font file, by default of the font that comes with Pillow (Aileron).

    Raises:
        ValueError: Pillow was built without FreeType.

    Example:
        >>> len(question_font()) > 10_000
        True
    """
    if path is not None:
        return Path(path).read_bytes()
    font = ImageFont.load_default(size=36)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise ValueError(
            "this Pillow was built without FreeType and cannot draw questions: pip install --upgrade pillow"
        )
    return font.font_bytes


def lacks(font: bytes, character: str) -> bool:
    """Return whether a font draws its placeholder for missing characters instead of this one.

    Example:
        >>> lacks(question_font(), "A"), lacks(question_font(), "图")
        (False, True)
    """
    drawn = ImageFont.truetype(io.BytesIO(font), size=36)
    return bytes(drawn.getmask(character)) == bytes(drawn.getmask("\uffff"))
