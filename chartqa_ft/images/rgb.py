"""Any image mode to RGB, as a browser shows it."""

from __future__ import annotations

import logging
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

logger = logging.getLogger(__name__)

_ORIENTATION_TAG = 0x0112


def to_rgb(image: Image.Image) -> Image.Image:
    """Return `image` as the RGB picture a browser would show, 8 bits a channel.

    Transparency of any kind (alpha channel, palette entry, colour key) is composited on white, 16-bit grey is scaled
    to 8 bits (65535 -> 255) rather than clipped, an EXIF orientation is applied, and an animation gives its first
    frame. Colour profiles are not applied. An image that already is plain RGB comes back as the same object, and the
    result never carries an orientation, so a second call changes nothing.

    Mode `I` (32 bits) holds 16-bit values as Pillow reads them; when nothing exceeds 255 it is taken as 8-bit values,
    and when something exceeds 65535 as 31-bit ones. Mode `F` is taken as 0..1 when nothing exceeds 1, else as 0..255.

    Raises:
        OSError: The pixels cannot be decoded (a truncated or damaged file).
    """
    first = 1 if image.info.get("default_image") else 0  # an APNG may hide a still picture before its first frame
    if getattr(image, "is_animated", False) and image.tell() != first:
        position = image.tell()
        image.seek(first)
        try:
            # A copy: going back to the caller's frame replaces the pixels of the object itself.
            return _to_rgb(image.copy())
        finally:
            image.seek(position)
    return _to_rgb(image)


def _to_rgb(image: Image.Image) -> Image.Image:
    # Some formats tell their orientation or apply it by themselves only once they are loaded (PNG, TIFF).
    image.load()
    orientation = _orientation(image)
    if image.mode == "RGB" and orientation == 1 and not image.has_transparency_data:
        return image
    rgb = _flatten(image)
    rgb = _turn(rgb, orientation)
    rgb.info = {}  # otherwise the orientation would be applied again, or a colour key found again
    return rgb


def _flatten(image: Image.Image) -> Image.Image:
    """A new RGB image of the same size, alpha on white, not yet turned."""
    from PIL import Image

    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        return _deep_grey(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    if image.mode == "La":
        image = image.convert("LA")
    key = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(key, tuple) and max(key) > 255:
        image = image.copy()
        image.info["transparency"] = tuple(value >> 8 for value in key)  # Pillow keeps the high bytes of 16-bit RGB
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, rgba).convert("RGB")


def _deep_grey(image: Image.Image) -> Image.Image:
    """Grey with more than 8 bits to RGB. Pillow's own `convert` clips everything above 255 to white."""
    import numpy as np
    from PIL import Image

    values = np.asarray(image).astype(np.float64)
    largest = values.max(initial=0.0)
    if image.mode == "F":
        divisor = 1 / 255 if largest <= 1 else 1.0
    elif image.mode == "I":
        divisor = 1.0 if largest <= 255 else 257.0 if largest <= 65535 else (2**31 - 1) / 255
    else:
        divisor = 257.0
    grey = np.nan_to_num(values / divisor, nan=255.0, posinf=255.0, neginf=0.0)
    grey = np.floor(np.clip(grey, 0, 255) + 0.5).astype(np.uint8)
    key = image.info.get("transparency")
    if isinstance(key, int):
        grey[values == key] = 255
    return Image.fromarray(grey).convert("RGB")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation 1..8; 1 (upright) when there is none or the EXIF block is damaged, as browsers do."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except (SyntaxError, ValueError, KeyError, TypeError, OverflowError, EOFError, struct.error) as error:
        logger.debug("Unreadable EXIF block ignored: %s", error)
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
