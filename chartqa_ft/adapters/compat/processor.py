"""The processor of old Donut checkpoints: verbatim tokenizer, thumbnails and random padding of 4.28.1."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from transformers import DonutProcessor, TokenizersBackend
from transformers.image_utils import SizeDict
from transformers.models.donut.image_processing_pil_donut import DonutImageProcessorPil

from ...files import read_json
from .marks import ADVICE, LEGACY_VERSION, MARK
from .sentencepiece import tokenizer_json

IMAGE_DEFAULTS: dict[str, Any] = {
    "do_resize": True,
    "size": {"height": 2560, "width": 1920},
    "resample": 2,
    "do_thumbnail": True,
    "do_align_long_axis": False,
    "do_pad": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}
"""Defaults of DonutImageProcessor of 4.28.1 for keys that are missing in its JSON."""


class LegacyDonutImageProcessor(DonutImageProcessorPil):
    """Donut's image processor with the thumbnail of 4.28.1; saved under upstream's name, with a mark.

    Its ``pixel_values`` equal those of 4.28.1 bit for bit, with one exception: Pillow 13 resamples portraits of more
    than 2:1 differently from Pillow 9-12 (by up to 8 of 255 levels).
    """

    def thumbnail(self, image: np.ndarray, size: SizeDict, resample: Any = None, **kwargs: Any) -> np.ndarray:
        """Shrink an image, (channels, height, width), to fit ``size``: bicubic, ``resample`` is ignored."""
        height, width = image.shape[-2:]
        new_height, new_width = min(height, size.height), min(width, size.width)
        if (new_height, new_width) == (height, width):
            return image
        if height > width:
            new_width = int(width * new_height / height)
        elif width > height:
            new_height = int(height * new_width / width)
        fitted = SizeDict(height=new_height, width=new_width)
        return self.resize(image, fitted, resample=Image.Resampling.BICUBIC, reducing_gap=2.0)

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "image_processor_type": "DonutImageProcessor", MARK: LEGACY_VERSION}


def load_legacy_processor(folder: str | os.PathLike[str]) -> DonutProcessor:
    """Load the processor of a checkpoint for which ``needs_compat`` is true, in the old layout or saved again.

    A processor that it saved loads here with the same behavior. Plain ``AutoProcessor`` can load it too: the tokenizer
    is then the same, but the thumbnail is upstream's.

    Raises:
        FileNotFoundError: A file is missing; the message names it.
        ValueError: A file is damaged or has unknown content; the message names it.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = tiny_unichart("test")[1].save_pretrained(folder)
        ...     type(load_legacy_processor(folder).image_processor).__name__
        'LegacyDonutImageProcessor'
    """
    folder = Path(folder)
    return DonutProcessor(image_processor=_image_processor(folder), tokenizer=_tokenizer(folder))


def legacy_random_offsets(free_rows: int, free_columns: int) -> tuple[int, int]:
    """Draw the offset of the next chart on its canvas as 4.28.1 does with ``random_padding=True``.

    Draws the top, then the left, from numpy's global generator: after ``np.random.seed(s)``, one call per chart
    reproduces the padding of 4.28.1. The rest of the canvas is black before normalization (-1 with UniChart's mean and
    standard deviation).

    Args:
        free_rows: Height of the canvas minus height of the resized chart.
        free_columns: Width of the canvas minus width of the resized chart.

    Returns:
        (top, left) in pixels.

    Example:
        >>> np.random.seed(0)
        >>> legacy_random_offsets(48, 0)
        (44, 0)
    """
    top = np.random.randint(low=0, high=free_rows + 1)
    left = np.random.randint(low=0, high=free_columns + 1)
    return int(top), int(left)


def _image_processor(folder: Path) -> LegacyDonutImageProcessor:
    path = folder / "processor_config.json"
    section = read_json(path, advice=ADVICE).get("image_processor") if path.is_file() else None
    if section is None:
        path = folder / "preprocessor_config.json"
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: it holds the image size that the checkpoint was trained with")
        section = read_json(path, advice=ADVICE)
    settings = {key: section.get(key, default) for key, default in IMAGE_DEFAULTS.items()}
    settings["size"] = _size(settings["size"], path)
    return LegacyDonutImageProcessor(**settings)


def _size(size: Any, path: Path) -> dict[str, int]:
    """Parse ``size`` as 4.28.1 does: [width, height], as the first feature extractors saved it, a number, or a
    dict."""
    if isinstance(size, list) and len(size) == 2:
        size = {"height": size[1], "width": size[0]}
    elif isinstance(size, int):
        size = {"height": size, "width": size}
    if not isinstance(size, Mapping) or not {"height", "width"} <= set(size):
        raise ValueError(f"{path}: size is {size!r}; Donut needs [width, height], one number, or height and width")
    return {"height": size["height"], "width": size["width"]}


def _tokenizer(folder: Path) -> TokenizersBackend:
    path = folder / "tokenizer_config.json"
    settings = read_json(path, advice=ADVICE) if path.is_file() else {}
    clean_up = settings.get("clean_up_tokenization_spaces", True)
    if (folder / "tokenizer.json").is_file():
        return TokenizersBackend.from_pretrained(folder, clean_up_tokenization_spaces=clean_up)
    with tempfile.TemporaryDirectory() as built:
        (Path(built) / "tokenizer.json").write_text(json.dumps(tokenizer_json(folder)), encoding="utf-8")
        for name in ("tokenizer_config.json", "special_tokens_map.json"):
            if (folder / name).is_file():
                shutil.copy(folder / name, built)
        tokenizer = TokenizersBackend.from_pretrained(built, clean_up_tokenization_spaces=clean_up)
    tokenizer.name_or_path = str(folder)
    return tokenizer
