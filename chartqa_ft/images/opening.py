"""Open the image of a record: a PIL image, a path, an array, or what `datasets` stores."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from ..files import read_regular
from .bombs import MAX_FILE_BYTES
from .check import FORMATS, ImageTooLargeError, check_exif, check_number, known_formats, refuse_bomb
from .rgb import ORIENTATION_TAG, to_rgb


def open_image(image: Any) -> Any:
    """Return a PIL image for anything that represents one. Files are opened but not yet decoded.

    Only the formats of `FORMATS` are opened: Pillow has more, and runs other programs for some of them. A file that
    would take far more memory or time than its pixels is refused before it is opened.

    Args:
        image: a PIL image (returned unchanged, but an animation that was sought to a later frame gives that frame),
            the path of a file or its content, an array, tensor or nested list (see `array_image`), or what a
            `datasets.Image` stores: a dict of `bytes` and `path`, one of which may be `None`.

    Raises:
        OSError: a file cannot be read, is not a regular file, or is of another format.
        TypeError: the object is not an image, path or array, or the array does not have the form of an image.
        ValueError: the values of an array are not those of an image, or a file is built to exhaust memory or time.

    Example:
        >>> open_image(np.zeros((30, 40, 3), dtype=np.uint8)).size
        (40, 30)
    """
    if _is_stored(image):
        return _open_stored(image)
    if isinstance(image, Image.Image):
        check_format(image)
        return image.copy() if _frame(image) else image
    is_nested = isinstance(image, (list, tuple)) and len(image) > 0 and np.ndim(image[0]) > 0
    if is_nested or hasattr(image, "__array__"):
        return array_image(image)
    raise TypeError(f"expected a PIL image, a path or an array of uint8, got {type(image).__name__}")


def decoded(image: Any) -> Any:
    """Return what `datasets` makes of an image that it stores: decoded and upright, in its own mode.

    Unlike `datasets`, this opens only what `open_image` does.

    Raises:
        OSError, ValueError: it cannot be opened or decoded; see `open_image`.

    Example:
        >>> file = io.BytesIO()
        >>> Image.new("L", (40, 30)).save(file, "PNG")
        >>> decoded({"bytes": file.getvalue(), "path": None}).mode
        'L'
    """
    opened = open_image(image)
    opened.load()
    return ImageOps.exif_transpose(opened) if opened.getexif().get(ORIENTATION_TAG) is not None else opened


def check_format(image: Image.Image) -> None:
    """Check that an image that is not decoded yet has a format of `FORMATS`.

    Raises:
        OSError: it has another format. Decoding an EPS, for instance, would run Ghostscript.

    Example:
        >>> check_format(Image.new("RGB", (40, 30)))
    """
    format = getattr(image, "format", None)
    # A JPEG with several pictures is an "MPO" to Pillow.
    is_open = bool(getattr(image, "tile", None)) or isinstance(image, ImageFile.StubImageFile)
    if is_open and format not in (None, "MPO", *FORMATS):
        name = getattr(image, "filename", None) or "the image"
        raise OSError(f"{name} is a file of the format {format}: convert it to one of {', '.join(FORMATS)}")


def array_image(array: Any) -> Any:
    """Return the PIL image of an array.

    Args:
        array: numpy array, tensor or nested list of shape (height, width), (height, width, channels) or (channels,
            height, width), with 1, 3 or 4 channels. A tensor whose first and last dimensions could both be channels
            has them first, any other array last. Values are integers, or floats in 0..1 or 0..255.

    Raises:
        TypeError: the array does not have the shape of an image.
        ValueError: there are values below 0 or above 255, as in an image that was normalized for a model.

    Example:
        >>> array_image(np.ones((3, 20, 30), dtype=np.float32)).getpixel((0, 0))
        (255, 255, 255)
    """
    first = hasattr(array, "detach")  # PyTorch's order
    if first:
        array = array.detach().cpu()
        array = array.float() if array.dtype.is_floating_point else array
    try:
        pixels = np.asarray(array)
    except ValueError as error:
        raise TypeError(f"the rows of a nested list must have equal lengths to be an image ({error})") from None
    if pixels.ndim == 3:
        places = [place for place in (0, -1) if pixels.shape[place] in (1, 3, 4)]
        if places and (len(places) == 1 or first) and places[0] == 0:
            pixels = np.moveaxis(pixels, 0, -1)
        if pixels.shape[-1] == 1:
            pixels = pixels[..., 0]
    if pixels.ndim not in (2, 3):
        raise TypeError(
            f"an array of shape {pixels.shape} is not an image: (height, width) or (height, width, channels)"
        )
    if pixels.dtype == np.uint8 or pixels.size == 0 or pixels.dtype.kind not in "biuf":
        return Image.fromarray(np.ascontiguousarray(pixels))
    return Image.fromarray(_as_bytes(pixels))


def _as_bytes(pixels: np.ndarray) -> np.ndarray:
    """Return pixels of another dtype as uint8, or gray with more than 8 bits as a dtype that Pillow has a mode for."""
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * 255
    low, high = pixels.min(), pixels.max()
    if not low >= 0 or not (high <= 255 or (pixels.ndim == 2 and pixels.dtype.kind in "iu")):
        raise ValueError(
            f"an array of {pixels.dtype} with values from {low} to {high} is no image: pass integers of 0..255 or "
            "floats of 0..1, before any normalization"
        )
    if pixels.dtype.kind == "f" and 1 < high < 2:
        raise ValueError(
            f"an array of {pixels.dtype} with values up to {high:g} is too bright for 0..1 and all but black for "
            "0..255: clip it to 0..1, which resizing may have left"
        )
    if high > np.iinfo(np.int32).max:
        raise ValueError(f"an array of {pixels.dtype} with values up to {high} is no image: pass integers of 0..255")
    if pixels.dtype.kind == "f":
        return np.floor(pixels.astype(np.float64) * (255.0 if high <= 1 else 1.0) + 0.5).astype(np.uint8)
    if high > 255:
        return pixels if pixels.dtype == np.uint16 else pixels.astype(np.int32)
    return pixels.astype(np.uint8)


def snapshot(image: Any) -> Any:
    """Return an image that does not change with the object or the file that it comes from.

    What cannot be read is returned as it is: opening it raises an error that names the record.

    Example:
        >>> chart = Image.new("RGB", (2, 1), "white")
        >>> before = snapshot(chart)
        >>> chart.paste("black", (0, 0, 2, 1))
        >>> before.getpixel((0, 0))
        (255, 255, 255)
    """
    try:
        if isinstance(image, Image.Image):
            return _still(image)
        if isinstance(image, Mapping):
            content = stored_bytes(image)
            return image if content is None else {**image, "bytes": bytes(content)}
        if isinstance(image, (str, Path)):
            content = stored_bytes(image)
            return image if content is None else {"bytes": content, "path": str(image)}
    except (OSError, SyntaxError, ValueError, EOFError):
        return image
    for copy in ("clone", "copy"):  # of a tensor, and of an array
        if hasattr(image, copy):
            return getattr(image, copy)()
    return bytes(image) if isinstance(image, (bytearray, memoryview)) else image


def _still(image: Image.Image) -> Image.Image:
    if getattr(image, "is_animated", False) and not image.tell():
        return to_rgb(image).copy()  # the first frame need not be the one at 0
    return image.copy()


def _frame(image: Image.Image) -> int:
    """Return the frame that an animation was sought to, 0 for a still picture."""
    return image.tell() if getattr(image, "is_animated", False) else 0


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
    return isinstance(image, (str, Path, bytes, bytearray, memoryview)) or (
        isinstance(image, Mapping) and ("bytes" in image or "path" in image)
    )


def _content(image: Any) -> bytes:
    path = image
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image)
    if isinstance(image, Mapping):
        if image.get("bytes") is not None:
            return image["bytes"]
        path = image.get("path")
    if path is None:
        raise OSError("it has neither bytes nor a path")
    return read_regular(path, MAX_FILE_BYTES)


def _open_stored(image: Any) -> Any:
    # From memory, because an image that is read from its file keeps the file open.
    content = _content(image)
    limit = Image.MAX_IMAGE_PIXELS  # of Pillow's warning; its error comes at twice as many
    refuse_bomb(content, None if limit is None else 2 * limit)
    try:
        opened = Image.open(io.BytesIO(content), formats=known_formats())
        check_exif(opened)
        if opened.format == "JPEG2000":
            check_number(opened.size, limit, opened.format)
        return opened
    except Image.DecompressionBombError as error:
        raise ImageTooLargeError(f"{error} (this limit is Pillow's own: PIL.Image.MAX_IMAGE_PIXELS)") from error
    except UnidentifiedImageError:
        path = image.get("path") if isinstance(image, Mapping) else image if isinstance(image, (str, Path)) else None
        name = "the stored image" if path is None else path
        raise OSError(f"{name} is no image file of the formats {', '.join(FORMATS)}") from None
