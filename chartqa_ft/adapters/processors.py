"""Processors that load with and without torchvision.

Of a family that also takes videos, transformers 5.23 loads no processor where torchvision is missing: its video
processor has no other backend, while every image processor has one on Pillow. A chart is an image, so a variant of the
same class with a stand-in for its video processor does all that is needed here. What such a variant saves is what
upstream would have saved, so it loads with plain `AutoProcessor` where torchvision is installed.
"""

from __future__ import annotations

import copy
import inspect
import json
import logging
import types
from functools import cache
from pathlib import Path
from typing import Any

import transformers
from transformers import AutoConfig, AutoProcessor, ProcessorMixin
from transformers.dynamic_module_utils import get_class_from_dynamic_module
from transformers.utils import PushToHubMixin, is_torchvision_available

logger = logging.getLogger(__name__)

_VIDEO = "video_processor"
# Where a class's name may stand, in upstream's order.
_NAMING_FILES = (
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "tokenizer_config.json",
    "config.json",
)
# Packages that upstream's constructors ask for and that only videos need.
_FOR_VIDEOS_ALONE = ("num2words",)


def load_processor(folder: str | Path, *, trust_remote_code: bool = False, **kwargs: Any) -> ProcessorMixin:
    """Load the processor of a checkpoint, whether or not torchvision is installed.

    This is `AutoProcessor.from_pretrained` where that works. Where only the part for videos stands in the way
    (torchvision is missing, or SmolVLM's num2words), it is `image_only` of the same class.

    Args:
        folder: a local folder.
        trust_remote_code: run code that comes with the checkpoint. Only for authors that you trust.
        kwargs: settings of processor, image processor or tokenizer in place of the saved ones.

    Raises:
        ImportError: a package is missing; the message names it.
        OSError: a file is missing or damaged.
        ValueError: the folder holds no processor of images and text, or one that transformers does not know.
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
    """The image-only processor where that helps against `error`, else the error with what to do about it."""
    try:
        upstream = _processor_class(folder, trust_remote_code)
        helps = upstream is not None and _takes_images_and_videos(upstream) and not _videos_work()
    except Exception as reason:
        logger.debug("the class of the processor in %s cannot be told: %s", folder, reason)
        helps = False
    if not helps:
        raise _explained(folder, error) from error
    try:
        processor = image_only(upstream).from_pretrained(folder, trust_remote_code=trust_remote_code, **kwargs)
    except Exception as reason:
        raise _explained(folder, reason) from reason
    logger.info("%s: images only, since videos need torchvision or num2words, which are not installed", folder)
    return processor


def _videos_work() -> bool:
    return is_torchvision_available() and all(_installed(name) for name in _FOR_VIDEOS_ALONE)


def _installed(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None


def _explained(folder: Path, error: Exception) -> Exception:
    text = str(error).strip()
    start = f"the processor in {folder} cannot be loaded ({type(error).__name__}: {text})"
    if isinstance(error, ImportError):
        name = getattr(error, "name", None)
        advice = f"pip install {name}" if name else "install what it names (pip install ...)"
        return ImportError(f"{start}. A package is missing: {advice}", name=name)
    if isinstance(error, OSError):
        return OSError(
            f"{start}. Files are missing or damaged: fetch the checkpoint again, or save the base model's processor "
            "there (AutoProcessor.from_pretrained(base).save_pretrained(folder))"
        )
    if "sentencepiece" in text or "tiktoken" in text:
        return ImportError(
            f"{start}. The tokenizer is not stored as tokenizer.json: pip install sentencepiece tiktoken"
        )
    if "trust_remote_code" in text:
        return ValueError(f"{start}. Pass trust_remote_code=True if you trust its author")
    return ValueError(
        f"{start}. See that its *_config.json files are whole, name a processor_class that transformers "
        f"{transformers.__version__} knows, and that the packages this processor names are installed"
    )


def _processor_class(folder: Path, trust_remote_code: bool) -> type[ProcessorMixin] | None:
    """The class that `AutoProcessor` would take, or None where there is none."""
    for name in _NAMING_FILES:
        settings = _read_json(folder / name)
        remote = settings.get("auto_map", {}).get("AutoProcessor")
        if remote and trust_remote_code:
            return get_class_from_dynamic_module(remote, folder)
        named = settings.get("processor_class")
        if named and hasattr(transformers, named):
            return getattr(transformers, named)
    mapping = transformers.models.auto.processing_auto.PROCESSOR_MAPPING
    return mapping.get(type(AutoConfig.from_pretrained(folder)), None)


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _takes_images_and_videos(processor_class: type[ProcessorMixin]) -> bool:
    attributes = processor_class.get_attributes()
    return _VIDEO in attributes and "image_processor" in attributes


class VideoSettings(PushToHubMixin):
    """Stands where a video processor would: keeps its settings for saving and refuses videos.

    Args:
        settings: what a saved video processor holds (JSON types); also read as attributes.
    """

    # What processors ask of their video processor even when there is no video.
    _auto_class = None
    model_input_names: tuple[str, ...] = ()
    valid_kwargs = None
    num_frames = None
    fps = None

    def __init__(self, settings: dict[str, Any] | None = None):
        self.settings = copy.deepcopy(settings or {})
        for name in ("num_frames", "fps"):
            if name in self.settings:
                setattr(self, name, self.settings[name])

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and name in self.__dict__.get("settings", {}):
            return self.settings[name]
        raise AttributeError(f"{name}: this processor takes images only, since videos need torchvision")

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        raise ImportError("this processor takes images only: videos need torchvision (pip install torchvision)")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.settings})"

    def to_dict(self) -> dict[str, Any]:
        """The settings, as they were loaded."""
        return copy.deepcopy(self.settings)


class _ImageOnly:
    """What a processor class gets in front of its own methods to do without a video processor."""

    _upstream: type[ProcessorMixin]

    @property
    def video_processor(self) -> Any:
        return self.__dict__[_VIDEO]

    @video_processor.setter
    def video_processor(self, value: Any) -> None:
        if value is None:
            value = VideoSettings(_default_settings(self._upstream, self.__dict__.get("image_processor")))
        # In __dict__, where upstream's `to_dict` looks for what it saves.
        self.__dict__[_VIDEO] = value

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
        if argument_name == _VIDEO and (argument is None or isinstance(argument, VideoSettings)):
            return VideoSettings
        return super().check_argument_for_proper_class(argument_name, argument)

    @classmethod
    def _get_arguments_from_pretrained(cls, folder: Any, processor_dict: dict | None = None, **kwargs: Any) -> list:
        names = cls.get_attributes()
        without_video = type(cls.__name__, (cls._upstream,), {"get_attributes": staticmethod(lambda: _others(names))})
        parts = without_video._get_arguments_from_pretrained(folder, processor_dict, **kwargs)
        image_processor = parts[_others(names).index("image_processor")]
        settings = _saved_settings(Path(folder), processor_dict or {}, cls._upstream, image_processor)
        parts.insert(names.index(_VIDEO), VideoSettings(settings))
        return parts

    def __reduce_ex__(self, protocol: int) -> tuple:
        # The class is made at run time, so that pickle cannot find it by name.
        return _rebuild, (self._upstream,), self.__dict__


def _others(names: list[str]) -> list[str]:
    return [name for name in names if name != _VIDEO]


def _rebuild(upstream: type[ProcessorMixin]) -> ProcessorMixin:
    made = image_only(upstream)
    return made.__new__(made)


@cache
def image_only(processor_class: type[ProcessorMixin]) -> type[ProcessorMixin]:
    """A subclass of a processor class that needs no torchvision: it takes images and text, and refuses videos.

    Its instances save the files that upstream's would: `processor_config.json` names the upstream class and holds the
    settings of the video processor, as they were loaded or, built with `video_processor=None`, upstream's defaults.
    They can be pickled and copied.

    Args:
        processor_class: a class with an `image_processor`; one without a `video_processor` is returned as it is.

    Raises:
        ValueError: the class takes videos and no images.
    """
    attributes = processor_class.get_attributes()
    if _VIDEO not in attributes:
        return processor_class
    if "image_processor" not in attributes:
        raise ValueError(f"{processor_class.__name__} takes videos and no images: it cannot read charts")
    if issubclass(processor_class, _ImageOnly):
        return processor_class
    members = {
        "_upstream": processor_class,
        "__module__": processor_class.__module__,
        "__qualname__": processor_class.__qualname__,
        "__doc__": processor_class.__doc__,
        **_constructor(processor_class),
    }
    return type(processor_class.__name__, (_ImageOnly, processor_class), members)


def _constructor(processor_class: type[ProcessorMixin]) -> dict[str, Any]:
    """`__init__` where upstream's asks for a package that only videos need, which is not there: SmolVLM refuses to be
    made without num2words, with which it spells out how many frames a video has.

    It is upstream's own function over a copy of its module's names, in which the package is replaced: upstream stays
    as it is, and the parameters stay visible to `get_attributes` and `from_args_and_dict`.
    """
    init = inspect.getattr_static(processor_class, "__init__")
    names = getattr(init, "__globals__", {})
    missing = [name for name in _FOR_VIDEOS_ALONE if name in names and names[name] is None]
    if not missing:
        return {}
    own = types.FunctionType(
        init.__code__, {**names, **dict.fromkeys(missing, str)}, init.__name__, init.__defaults__, init.__closure__
    )
    own.__kwdefaults__, own.__doc__ = init.__kwdefaults__, init.__doc__
    return {"__init__": own}


def _default_settings(processor_class: type[ProcessorMixin], image_processor: Any) -> dict[str, Any]:
    """The entry of a video processor with upstream's default settings: its class alone.

    Upstream names it after the processor or, where there is none of its own, after the image processor (Qwen2.5-VL).
    Without either, upstream tells the class by the model's `config.json`.
    """
    stems = [processor_class.__name__.removesuffix("Processor")]
    if image_processor is not None:
        stems.append(type(image_processor).__name__.split("ImageProcessor")[0])
    for stem in stems:
        if hasattr(transformers, f"{stem}VideoProcessor"):
            return {"video_processor_type": f"{stem}VideoProcessor"}
    return {}


def _saved_settings(
    folder: Path, processor_dict: dict[str, Any], processor_class: type[ProcessorMixin], image_processor: Any
) -> dict[str, Any]:
    """The settings of the video processor in a folder, in the order in which upstream looks for them."""
    if isinstance(processor_dict.get(_VIDEO), dict):
        return processor_dict[_VIDEO]
    own = _read_json(folder / "video_preprocessor_config.json")
    if own:
        return own
    # Older checkpoints (Qwen2-VL) keep one file for images and videos.
    shared = _read_json(folder / "preprocessor_config.json")
    shared = {key: value for key, value in shared.items() if key not in ("image_processor_type", "processor_class")}
    return {**shared, **_default_settings(processor_class, image_processor)}
