"""What stands in a record: an image in any form, a text with any characters, and how errors name the record."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..images import FORMATS


def open_image(image: Any) -> Any:
    """A PIL image as it is, or made of what else may stand for one.

    Raises:
        OSError: a file cannot be read.
        TypeError: no image, path or array, or an array that no picture has.
    """
    if isinstance(image, (str, Path)):
        # From memory: an image that is still read from its file would keep it open.
        content = io.BytesIO(Path(image).read_bytes())
        try:
            Image.init()  # a Pillow without AVIF or JPEG 2000 raises KeyError when it is asked for them
            return Image.open(content, formats=[name for name in FORMATS if name in Image.OPEN])
        except UnidentifiedImageError:
            raise OSError(f"{image} is no image file of the formats {', '.join(FORMATS)}") from None
    if isinstance(image, np.ndarray):
        return Image.fromarray(image)
    if not isinstance(image, Image.Image):
        raise TypeError(f"expected a PIL image, a path or an array of uint8, got {type(image).__name__}")
    return image


def encodable(text: str) -> str:
    """`text` with U+FFFD for lone surrogates, which no tokenizer takes; everything else stays as it is."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def describe(example: Mapping[str, Any]) -> str:
    """How an error names a record: by chart and question."""
    return f"record (chart_id={example.get('chart_id')!r}, question={example.get('question')!r})"
