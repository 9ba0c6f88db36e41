"""Chart images: open, check without decoding, convert to RGB, resize and cache them."""

from .opening import open_image
from .rgb import to_rgb

__all__ = ["open_image", "to_rgb"]
