"""Open the image of a record: a PIL image, a path, an array, or what `datasets` stores."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from .check import FORMATS


def open_image(image: Any) -> Any:
    """Return a PIL image for anything that represents one. Files are opened but not yet decoded.

    Args:
        image: a PIL image (returned unchanged), the path of a file, a uint8 array of shape (height, width) or (height,
            width, channels), or what a `datasets.Image` stores: a dict of `bytes` and `path`, one of which may be
            `None`.

    Raises:
        OSError: a file cannot be read.
        TypeError: the object is not an image, path or array, or the array does not have the form of an image.

    Example:
        >>> open_image(np.zeros((30, 40, 3), dtype=np.uint8)).size
        (40, 30)
    """
    if _is_stored(image):
        return _open_stored(image)
    if isinstance(image, np.ndarray):
        return Image.fromarray(image)
    if not isinstance(image, Image.Image):
        raise TypeError(f"expected a PIL image, a path or an array of uint8, got {type(image).__name__}")
    return image


def stored_bytes(image: Any) -> bytes | None:
    """Return the content of an image's file, or `None` if it is not stored in a file or cannot be read.

    Example:
        >>> stored_bytes({"bytes": b"GIF89a", "path": None})
        b'GIF89a'
    """
    try:
        return _content(image) if _is_stored(image) else None
    except OSError:
        return None  # opening it will raise an error that names the record


def _is_stored(image: Any) -> bool:
    return isinstance(image, (str, Path)) or (isinstance(image, Mapping) and ("bytes" in image or "path" in image))


def _content(image: Any) -> bytes:
    path = image
    if isinstance(image, Mapping):
        if image.get("bytes") is not None:
            return image["bytes"]
        path = image.get("path")
    if path is None:
        raise OSError("it has neither bytes nor a path")
    return Path(path).read_bytes()


def _open_stored(image: Any) -> Any:
    # From memory, because an image that is read from its file keeps the file open.
    content = io.BytesIO(_content(image))
    try:
        Image.init()  # a Pillow without AVIF or JPEG 2000 raises KeyError for their names
        return Image.open(content, formats=[name for name in FORMATS if name in Image.OPEN])
    except UnidentifiedImageError:
        path = image.get("path") if isinstance(image, Mapping) else image
        name = "the stored image" if path is None else path
        raise OSError(f"{name} is no image file of the formats {', '.join(FORMATS)}") from None
