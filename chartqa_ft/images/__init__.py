"""A chart's pixels: opened, checked without decoding, made RGB, resized and cached."""

from .opening import open_image
from .rgb import to_rgb

__all__ = ["open_image", "to_rgb"]
