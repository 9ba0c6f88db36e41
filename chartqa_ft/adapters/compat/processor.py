"""The processor of old Donut checkpoints: their tokenizer verbatim, their thumbnail, their random padding."""

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

from .marks import LEGACY_VERSION, MARK, read_json
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
"""What DonutImageProcessor of 4.28.1 takes for a key that its JSON lacks."""


class LegacyDonutImageProcessor(DonutImageProcessorPil):
    """Donut's image processor with the thumbnail of 4.28.1; saved under upstream's name, with a mark.

    Gives the ``pixel_values`` of 4.28.1 bit for bit. What it cannot undo: Pillow 13 resamples portraits of more than
    2:1 otherwise than Pillow 9-12 did (by up to 8 of 255 levels).
    """

    def thumbnail(self, image: np.ndarray, size: SizeDict, resample: Any = None, **kwargs: Any) -> np.ndarray:
        """Shrink an image, (channels, height, width), until it fits ``size``: bicubic, whatever ``resample`` says."""
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
    """The processor of a checkpoint for which ``needs_compat`` holds, in the old layout or saved again.

    What its ``save_pretrained`` writes loads here with the same behaviour, and with plain ``AutoProcessor`` too: there
    the tokenizer stays right, and the thumbnail is upstream's.

    Raises:
        FileNotFoundError: a file is missing; the message names it.
        ValueError: a file cannot be understood; the message names it.
    """
    folder = Path(folder)
    return DonutProcessor(image_processor=_image_processor(folder), tokenizer=_tokenizer(folder))


def legacy_random_offsets(free_rows: int, free_columns: int) -> tuple[int, int]:
    """Where 4.28.1's ``random_padding=True`` puts the next chart on its canvas, as (top, left) in pixels.

    Draws the top, then the left, from numpy's global generator: after ``np.random.seed(s)`` one call per chart gives
    4.28.1's padding. The rest of the canvas is black before normalization (-1 with UniChart's mean and deviation).

    Args:
        free_rows: height of the canvas minus height of the resized chart.
        free_columns: the same of the widths.
    """
    top = np.random.randint(low=0, high=free_rows + 1)
    left = np.random.randint(low=0, high=free_columns + 1)
    return int(top), int(left)


def _image_processor(folder: Path) -> LegacyDonutImageProcessor:
    path = folder / "processor_config.json"
    section = read_json(path).get("image_processor") if path.is_file() else None
    if section is None:
        path = folder / "preprocessor_config.json"
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: it tells the image size that the checkpoint was trained with")
        section = read_json(path)
    settings = {key: section.get(key, default) for key, default in IMAGE_DEFAULTS.items()}
    settings["size"] = _size(settings["size"], path)
    return LegacyDonutImageProcessor(**settings)


def _size(size: Any, path: Path) -> dict[str, int]:
    """How 4.28.1 reads ``size``: [width, height], as the first feature extractors wrote it, one number, or a dict."""
    if isinstance(size, list) and len(size) == 2:
        size = {"height": size[1], "width": size[0]}
    elif isinstance(size, int):
        size = {"height": size, "width": size}
    if not isinstance(size, Mapping) or not {"height", "width"} <= set(size):
        raise ValueError(f"{path}: size is {size!r}; Donut needs [width, height], one number, or height and width")
    return {"height": size["height"], "width": size["width"]}


def _tokenizer(folder: Path) -> TokenizersBackend:
    path = folder / "tokenizer_config.json"
    settings = read_json(path) if path.is_file() else {}
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
