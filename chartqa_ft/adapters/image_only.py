"""Processor classes without their video processor, so that they work without torchvision.

In transformers 5.23, a video processor needs torchvision, while every image processor also works with Pillow alone. A
processor that takes videos as well therefore cannot be loaded without torchvision, even to process images.
`image_only` derives a class from it whose video processor is replaced by its settings. It saves the same files as the
upstream class, so plain `AutoProcessor` loads them where torchvision is installed.
"""

from __future__ import annotations

import ast
import copy
import inspect
import types
from functools import cache
from pathlib import Path
from typing import Any

import transformers
from transformers import ProcessorMixin
from transformers.utils import PushToHubMixin

from ..files import read_json

VIDEO_PACKAGES = ("num2words",)
"""Packages that constructors of upstream require although only videos need them."""

_VIDEO = "video_processor"


class VideoSettings(PushToHubMixin):
    """Replaces a video processor: keeps its settings for saving, and refuses videos.

    Args:
        settings: The content of a saved video processor (JSON types). They can be read as attributes.
        defaults: Values of attributes that `settings` lacks; they are not saved.

    Example:
        >>> settings = VideoSettings({"video_processor_type": "SmolVLMVideoProcessor", "fps": 1})
        >>> settings.fps, settings.num_frames
        (1, None)
    """

    # Attributes of a video processor that processors read even without a video.
    _auto_class = None
    model_input_names: tuple[str, ...] = ()
    valid_kwargs = None
    num_frames = None
    fps = None

    def __init__(self, settings: dict[str, Any] | None = None, defaults: dict[str, Any] | None = None):
        self.settings = copy.deepcopy(settings or {})
        self.defaults = copy.deepcopy(defaults or {})
        for name in ("num_frames", "fps"):
            if name in self.settings:
                setattr(self, name, self.settings[name])

    def __getattr__(self, name: str) -> Any:
        for values in () if name.startswith("_") else ("settings", "defaults"):
            if name in self.__dict__.get(values, {}):
                return self.__dict__[values][name]
        raise AttributeError(f"{name}: this processor takes images only, since videos need torchvision")

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        raise ImportError("this processor takes images only: videos need torchvision (pip install torchvision)")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.settings})"

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as they were loaded."""
        return copy.deepcopy(self.settings)


@cache
def image_only(processor_class: type[ProcessorMixin]) -> type[ProcessorMixin]:
    """Return a subclass of a processor class that takes images and text, refuses videos, and needs no torchvision.

    Its instances save the same files as the upstream class: `processor_config.json` names the upstream class and holds
    the settings of the video processor as they were loaded or, if it was created with `video_processor=None`,
    upstream's defaults. They can be pickled and copied.

    Args:
        processor_class: A class with an `image_processor`. One without a `video_processor` is returned as it is.

    Raises:
        ValueError: The class takes videos but no images.

    Example:
        >>> from transformers import DonutProcessor, SmolVLMProcessor
        >>> image_only(SmolVLMProcessor).__mro__[2] is SmolVLMProcessor
        True
        >>> image_only(DonutProcessor) is DonutProcessor
        True
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


def takes_images_and_videos(processor_class: type[ProcessorMixin]) -> bool:
    """Return whether a processor class has both an image processor and a video processor.

    Example:
        >>> from transformers import DonutProcessor, SmolVLMProcessor
        >>> takes_images_and_videos(SmolVLMProcessor), takes_images_and_videos(DonutProcessor)
        (True, False)
    """
    attributes = processor_class.get_attributes()
    return _VIDEO in attributes and "image_processor" in attributes


class _ImageOnly(ProcessorMixin):
    """Methods that a processor class needs to work without a video processor; they precede its own."""

    _upstream: type[ProcessorMixin]

    @property
    def video_processor(self) -> Any:
        return self.__dict__[_VIDEO]

    @video_processor.setter
    def video_processor(self, value: Any) -> None:
        if value is None:
            settings = _default_settings(self._upstream, self.__dict__.get("image_processor"))
            value = VideoSettings(settings, class_attributes(self._upstream))
        # `to_dict` of upstream reads what it saves from __dict__.
        self.__dict__[_VIDEO] = value

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
        if argument_name == _VIDEO and (argument is None or isinstance(argument, VideoSettings)):
            return VideoSettings
        return super().check_argument_for_proper_class(argument_name, argument)

    @classmethod
    def _get_arguments_from_pretrained(cls, folder: Any, processor_dict: dict | None = None, **kwargs: Any) -> list:
        names = cls.get_attributes()
        members = {"get_attributes": staticmethod(lambda: _others(names))}
        without_video: Any = type(cls.__name__, (cls._upstream,), members)
        parts = without_video._get_arguments_from_pretrained(folder, processor_dict, **kwargs)
        image_processor = parts[_others(names).index("image_processor")]
        settings = _saved_settings(Path(folder), processor_dict or {}, cls._upstream, image_processor)
        parts.insert(names.index(_VIDEO), VideoSettings(settings, class_attributes(cls._upstream)))
        return parts

    def __reduce_ex__(self, protocol: Any) -> tuple:
        # pickle cannot find the class by name, since it is created at run time.
        return _rebuild, (self._upstream,), self.__dict__


def _others(names: list[str]) -> list[str]:
    return [name for name in names if name != _VIDEO]


def _rebuild(upstream: Any) -> ProcessorMixin:
    cls: Any = image_only(upstream)
    return cls.__new__(cls)


def _constructor(processor_class: type[ProcessorMixin]) -> dict[str, Any]:
    """Return a replacement of `__init__` if upstream's requires a missing package that only videos need.

    SmolVLM cannot be created without num2words, which spells out the number of frames of a video. The replacement is
    upstream's function with a copy of its module's globals in which the package is replaced. Upstream is not modified,
    and `get_attributes` and `from_args_and_dict` see the same parameters.
    """
    init = inspect.getattr_static(processor_class, "__init__")
    names = getattr(init, "__globals__", {})
    missing = [name for name in VIDEO_PACKAGES if name in names and names[name] is None]
    if not missing:
        return {}
    replacement = types.FunctionType(
        init.__code__, {**names, **dict.fromkeys(missing, str)}, init.__name__, init.__defaults__, init.__closure__
    )
    replacement.__kwdefaults__, replacement.__doc__ = init.__kwdefaults__, init.__doc__
    return {"__init__": replacement}


def _default_settings(processor_class: type[ProcessorMixin], image_processor: Any) -> dict[str, Any]:
    """Return the settings of a video processor with upstream's defaults: only its class.

    Upstream names it like the processor or, if it has none of its own, like the image processor (Qwen2.5-VL). Without
    either, upstream finds the class by the model's `config.json`.
    """
    stems = [processor_class.__name__.removesuffix("Processor")]
    if image_processor is not None:
        stems.append(type(image_processor).__name__.split("ImageProcessor")[0])
    for stem in stems:
        if hasattr(transformers, f"{stem}VideoProcessor"):
            return {"video_processor_type": f"{stem}VideoProcessor"}
    return {}


def class_attributes(processor_class: type[ProcessorMixin]) -> dict[str, Any]:
    """Return the constants in the class of a processor's video processor, some of which processors read for images.

    The class cannot be imported without torchvision. They are read from the source of the module beside that of the
    processor, and empty if there is none.

    Example:
        >>> from transformers import SmolVLMProcessor
        >>> class_attributes(SmolVLMProcessor)["do_rescale"]
        True
    """
    module = Path(inspect.getfile(processor_class))
    source = module.with_name(f"video_{module.name}")
    if not source.is_file():
        return {}
    classes = [node for node in ast.parse(source.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)]
    found: dict[str, Any] = {}
    for statement in (part for node in classes if node.name.endswith("VideoProcessor") for part in node.body):
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            found |= {name.id: statement.value.value for name in statement.targets if isinstance(name, ast.Name)}
    return found


def _saved_settings(
    folder: Path, processor_dict: dict[str, Any], processor_class: type[ProcessorMixin], image_processor: Any
) -> dict[str, Any]:
    """Return the settings of the video processor in a folder; files are read in upstream's order."""
    if isinstance(processor_dict.get(_VIDEO), dict):
        return processor_dict[_VIDEO]
    path = folder / "video_preprocessor_config.json"
    saved = read_json(path) if path.is_file() else {}
    if saved:
        return saved
    # Older checkpoints (Qwen2-VL) have one file for images and videos.
    path = folder / "preprocessor_config.json"
    shared = read_json(path) if path.is_file() else {}
    shared = {key: value for key, value in shared.items() if key not in ("image_processor_type", "processor_class")}
    return {**shared, **_default_settings(processor_class, image_processor)}
