"""Convert images of any mode to RGB, as a browser shows them."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

logger = logging.getLogger(__name__)

ORIENTATION_TAG = 0x0112
"""EXIF tag of the orientation."""
_BAND = 2**20
"""Pixels that are converted at once; most charts of ChartQA have fewer."""


def to_rgb(image: Image.Image) -> Image.Image:
    """Return the image as a browser would show it: RGB with 8 bits per channel.

    Transparency of any kind (alpha channel, palette entry, color key) is composited on white, 16-bit gray is scaled to
    8 bits (65535 -> 255) rather than clipped, the EXIF orientation is applied, and the first frame of an animation is
    taken. Color profiles are not applied. An image that is plain RGB already is returned as the same object. The
    result has no orientation, so that a second call changes nothing.

    Values of mode `I` (32 bits) are taken as 8-bit if none exceeds 255, as 31-bit if one exceeds 65535, else as
    16-bit, as Pillow reads them from files. Values of mode `F` are taken as 0..1 if none exceeds 1, else as 0..255.

    Raises:
        OSError: the pixels cannot be decoded (a truncated or damaged file).

    Example:
        >>> from PIL import Image
        >>> to_rgb(Image.new("RGBA", (1, 1), (255, 0, 0, 0))).getpixel((0, 0))
        (255, 255, 255)
    """
    first = 1 if image.info.get("default_image") else 0  # an APNG may hide a still picture before its first frame
    if getattr(image, "is_animated", False) and image.tell() != first:
        position = image.tell()
        image.seek(first)
        try:
            # A copy, because going back to the caller's frame replaces the pixels of the object.
            return _to_rgb(image.copy())
        finally:
            image.seek(position)
    return _to_rgb(image)


def with_rgb_values(image: Image.Image) -> Image.Image:
    """Return an image whose `tobytes("raw", "RGB")` and `convert("L")` are those of `to_rgb(image)`.

    An opaque RGBA image, as most charts of ChartQA are, is returned as it is, which saves the conversion.

    Raises:
        OSError: the pixels cannot be decoded.

    Example:
        >>> from PIL import Image
        >>> with_rgb_values(Image.new("RGBA", (1, 1), (255, 0, 0, 255))).tobytes("raw", "RGB")
        b'\\xff\\x00\\x00'
    """
    if not getattr(image, "is_animated", False):
        image.load()
        if image.mode == "RGBA" and _orientation(image) == 1 and _is_opaque(image):
            return image
    return to_rgb(image)


def _to_rgb(image: Image.Image) -> Image.Image:
    # Some formats (PNG, TIFF) give or apply their orientation only when they are loaded.
    image.load()
    orientation = _orientation(image)
    if image.mode == "RGB" and orientation == 1 and not image.has_transparency_data:
        return image
    rgb = _flatten(image)
    rgb = _turn(rgb, orientation)
    rgb.info = {}  # otherwise the orientation or a color key would be applied again
    return rgb


def _flatten(image: Image.Image) -> Image.Image:
    """Return a new RGB image with alpha composited on white, not yet rotated."""
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        return _in_bands(image, _deep_gray(image))
    if not image.has_transparency_data:
        return image.convert("RGB")
    if image.mode == "La":
        image = image.convert("LA")
    key = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(key, tuple) and max(key) > 255:
        image = image.copy()
        image.info["transparency"] = tuple(value >> 8 for value in key)  # Pillow keeps the high bytes of 16-bit RGB
    return _in_bands(image, _on_white)


def _in_bands(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Return `convert(image)` as an RGB image. A large one is converted in bands of rows, which takes a fifth of the
    memory: converting needs several copies of what it converts."""
    from PIL import Image

    if image.width * image.height <= _BAND:
        return convert(image)
    whole, top = Image.new("RGB", image.size), 0
    for band in _bands(image):
        whole.paste(convert(band), (0, top))
        top += band.height
    return whole


def _bands(image: Image.Image) -> Iterator[Image.Image]:
    """Yield an image in bands of about `_BAND` pixels from top to bottom."""
    rows = max(1, _BAND // max(1, image.width))
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height)))


def _on_white(image: Image.Image) -> Image.Image:
    from PIL import Image

    rgba = image if image.mode == "RGBA" else image.convert("RGBA")
    if _is_opaque(rgba):  # as most charts of ChartQA are; five times as fast
        return rgba.convert("RGB")
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, rgba).convert("RGB")


def _is_opaque(rgba: Image.Image) -> bool:
    return rgba.getchannel("A").getextrema()[0] == 255


def _deep_gray(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """Return a function that converts gray with more than 8 bits to RGB, for this image or bands of its rows.

    Pillow's `convert` clips everything above 255 to white.
    """
    import numpy as np
    from PIL import Image

    key = image.info.get("transparency")

    def gray(values: np.ndarray, divisor: float) -> np.ndarray:
        scaled = np.nan_to_num(values.astype(np.float64) / divisor, nan=255.0, posinf=255.0, neginf=0.0)
        found = np.floor(np.clip(scaled, 0, 255) + 0.5).astype(np.uint8)
        if isinstance(key, int):
            found[values == key] = 255
        return found

    if image.mode not in ("I", "F"):
        table = gray(np.arange(2**16), 257.0)
        return lambda band: Image.fromarray(table[np.asarray(band)]).convert("RGB")
    # numpy's `max`, which is NaN if a value is.
    largest: float = np.max([np.asarray(band).max(initial=0) for band in _bands(image)], initial=0.0)
    if image.mode == "F":
        divisor = 1 / 255 if largest <= 1 else 1.0
    else:
        divisor = 1.0 if largest <= 255 else 257.0 if largest <= 65535 else (2**31 - 1) / 255
    return lambda band: Image.fromarray(gray(np.asarray(band), divisor)).convert("RGB")


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 (upright) if it is missing or damaged, as browsers do."""
    try:
        value = image.getexif().get(ORIENTATION_TAG, 1)
    except (SyntaxError, ValueError, KeyError, TypeError, OverflowError, EOFError, struct.error) as error:
        logger.debug("unreadable EXIF block ignored: %s", error)
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _turn(image: Image.Image, orientation: int) -> Image.Image:
    from PIL import Image

    methods = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    return image.transpose(methods[orientation]) if orientation in methods else image
