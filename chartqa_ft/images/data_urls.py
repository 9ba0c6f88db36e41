"""Charts as `data:` URLs, the form in which OpenAI-compatible servers take images."""

from __future__ import annotations

import base64
import io
from typing import Any

from PIL import Image

from .check import check_pixels
from .opening import open_image, stored_bytes
from .rgb import to_rgb

_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
"""Formats that all common servers read, with their media types."""
_PLAIN_MODES = ("RGB", "L")


def data_url(image: Any) -> str:
    """Return an image as a `data:` URL in base64.

    The bytes of a PNG, JPEG or WebP file are sent as they are if every reader sees the same picture in them. Images in
    other formats, with transparency, more than 8 bits, another color space, a rotation or several frames, and images
    that are not files are sent as the PNG of `to_rgb`, because servers disagree about them.

    Args:
        image: what `open_image` takes: a PIL image, a path, the content of a file, an array, or what the `image`
            column of a data set stores.

    Raises:
        OSError: the file cannot be read or decoded.
        ValueError: the image is damaged, has no pixels or is too large.
        TypeError: it is no image.

    Example:
        >>> data_url(Image.new("RGB", (2, 1), "white"))[:32]
        'data:image/png;base64,iVBORw0KGg'
    """
    opened = open_image(image)
    check_pixels(opened, None)
    content = stored_bytes(image)
    if content is not None and _is_plain(opened):
        return _url(_TYPES[opened.format], content)
    file = io.BytesIO()
    to_rgb(opened).save(file, "PNG")
    return _url("image/png", file.getvalue())


def _is_plain(image: Image.Image) -> bool:
    """Return whether the file of an image means the same picture to every reader."""
    if image.format not in _TYPES or image.mode not in _PLAIN_MODES or getattr(image, "is_animated", False):
        return False
    return to_rgb(image) is image if image.mode == "RGB" else to_rgb(image).tobytes() == image.convert("RGB").tobytes()


def _url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
