"""Loading a checkpoint's processor, with or without torchvision, and error messages that say what to do."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoProcessor, ProcessorMixin
from transformers.dynamic_module_utils import get_class_from_dynamic_module
from transformers.utils import is_torchvision_available

from ..files import read_json
from ..printable import printable_errors
from .image_only import VIDEO_PACKAGES, VideoSettings, image_only, takes_images_and_videos

__all__ = ["VideoSettings", "image_only", "load_processor"]

logger = logging.getLogger(__name__)

# Files that may name the class of a processor, in the order in which upstream reads them.
_NAMING_FILES = (
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "tokenizer_config.json",
    "config.json",
)


@printable_errors()
def load_processor(folder: str | Path, *, trust_remote_code: bool = False, **kwargs: Any) -> ProcessorMixin:
    """Load the processor of a checkpoint, whether or not torchvision is installed.

    Returns `AutoProcessor.from_pretrained` where that works. If it fails only because of the video processor
    (torchvision is missing, or num2words for SmolVLM), returns an `image_only` processor of the same class.

    Args:
        folder: A local folder.
        trust_remote_code: Run code of the checkpoint. Only for authors that you trust.
        **kwargs: Settings of processor, image processor or tokenizer that replace the saved ones.

    Raises:
        ImportError: A package is missing; the message names it.
        OSError: A file is missing or damaged.
        ValueError: The folder holds no processor of images and text, or one that transformers does not know.

    Example:
        >>> import tempfile
        >>> from chartqa_ft import tiny_unichart
        >>> folder = tempfile.mkdtemp()
        >>> model, processor = tiny_unichart("test")
        >>> _ = processor.save_pretrained(folder)
        >>> type(load_processor(folder)).__name__
        'DonutProcessor'
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder} to load a processor from")
    try:
        processor = AutoProcessor.from_pretrained(folder, trust_remote_code=trust_remote_code, **kwargs)
    except Exception as error:
        processor = _without_video(folder, error, trust_remote_code, kwargs)
    if not (hasattr(processor, "image_processor") and hasattr(processor, "tokenizer")):
        raise ValueError(
            f"{folder} holds a {type(processor).__name__} and no processor of images and text: save the base model's "
            "processor there too (AutoProcessor.from_pretrained(base).save_pretrained(folder))"
        )
    return processor


def _without_video(folder: Path, error: Exception, trust_remote_code: bool, kwargs: dict[str, Any]) -> ProcessorMixin:
    """Return the image-only processor if `error` is due to videos, else raise `error` with advice."""
    try:
        upstream: Any = _processor_class(folder, trust_remote_code)
        if upstream is not None and (_videos_work() or not takes_images_and_videos(upstream)):
            upstream = None
    except Exception as reason:
        logger.debug("the class of the processor in %s cannot be determined: %s", folder, reason)
        upstream = None
    if upstream is None:
        raise _explained(folder, error) from error
    try:
        processor = image_only(upstream).from_pretrained(folder, trust_remote_code=trust_remote_code, **kwargs)
    except Exception as reason:
        raise _explained(folder, reason) from reason
    logger.info("%s: images only, since videos need torchvision or num2words, which are not installed", folder)
    return processor


def _videos_work() -> bool:
    return is_torchvision_available() and all(find_spec(name) is not None for name in VIDEO_PACKAGES)


def _explained(folder: Path, error: Exception) -> Exception:
    text = str(error).strip()
    if "torchvision" in text.lower() and not is_torchvision_available():
        return ImportError(
            f"the processor in {folder} needs torchvision even for images: pip install torchvision, in the release "
            f"for torch {torch.__version__} (with --no-deps, so that pip keeps this torch)",
            name="torchvision",
        )
    start = f"the processor in {folder} cannot be loaded ({type(error).__name__}: {text})"
    if isinstance(error, ImportError):
        name = getattr(error, "name", None)
        advice = f"pip install {name}" if name else "install the package named above (pip install ...)"
        return ImportError(f"{start}. A package is missing: {advice}", name=name)
    if isinstance(error, OSError):
        return OSError(
            f"{start}. Files are missing or damaged: download the checkpoint again, or save the base model's "
            "processor there (AutoProcessor.from_pretrained(base).save_pretrained(folder))"
        )
    if "sentencepiece" in text or "tiktoken" in text:
        return ImportError(
            f"{start}. The tokenizer is not stored as tokenizer.json: pip install sentencepiece tiktoken"
        )
    if "trust_remote_code" in text:
        return ValueError(f"{start}. Pass trust_remote_code=True if you trust its author")
    return ValueError(
        f"{start}. Check that its *_config.json files are complete, that they name a processor_class that "
        f"transformers {transformers.__version__} knows, and that the packages it needs are installed"
    )


def _processor_class(folder: Path, trust_remote_code: bool) -> type[ProcessorMixin] | None:
    """Return the class that `AutoProcessor` would load, or `None`."""
    for name in _NAMING_FILES:
        settings = read_json(folder / name) if (folder / name).is_file() else {}
        remote = settings.get("auto_map", {}).get("AutoProcessor")
        if remote and trust_remote_code:
            return get_class_from_dynamic_module(remote, folder)
        named = settings.get("processor_class")
        if named and hasattr(transformers, named):
            return getattr(transformers, named)
    mapping = transformers.models.auto.processing_auto.PROCESSOR_MAPPING
    return mapping.get(type(AutoConfig.from_pretrained(folder, trust_remote_code=False)), None)
