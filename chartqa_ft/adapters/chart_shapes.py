"""Check that what the image processor makes of charts fits into one batch, and into the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from .image_cost import fixed_sizes
from .text import describe
from .wrappers import base_model

_SWITCHES = ("do_resize", "do_pad", "do_center_crop")
_POSITIONS = (
    *("clip_vision_model", "siglip_vision_model", "blip_2_vision_model", "instructblip_vision_model"),
    *("kosmos_2_vision_model", "vit", "deit"),
)
"""Vision towers with learned positions, which take pictures of one size."""


def check_tower(model: nn.Module, processor: Any) -> None:
    """Check that pictures of the image processor have the size, or patches of the size, that the model takes.

    Args:
        model: The model, wrapped or not.
        processor: Its processor.

    Raises:
        ValueError: They do not, so that the first forward pass would fail; the message names the setting.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> check_tower(*tiny_unichart("test"))
    """
    config, image_processor = base_model(model).config, getattr(processor, "image_processor", None)
    tower = getattr(config, "vision_config", None) or getattr(config, "encoder", None)
    setting, made, taken = fixed_sizes(config, image_processor)
    if made and taken and made != taken and getattr(tower, "model_type", None) in _POSITIONS:
        raise ValueError(
            f"the image processor makes pictures of {made[0]} x {made[1]} pixels (image_processor.{setting}), and the "
            f"vision tower has learned positions for {taken[0]} x {taken[1]}: set image_processor.{setting} to that, "
            "or load the processor of this model"
        )
    values = getattr(tower, "patch_embed_hidden_size", None)  # of Pix2Struct
    patch = getattr(image_processor, "patch_size", None)
    if values and patch and 3 * patch["height"] * patch["width"] != values:
        raise ValueError(
            f"image_processor.patch_size is {patch['height']} x {patch['width']}, and the model takes patches of "
            f"{values} values (3 colors x height x width): load the processor of this model"
        )
    for setting, name in (("patch_size", "patch_size"), ("merge_size", "spatial_merge_size")):
        own, needed = getattr(image_processor, setting, None), getattr(tower, name, None)
        merges = hasattr(image_processor, "merge_size") and hasattr(tower, "spatial_merge_size")
        if merges and isinstance(own, int) and isinstance(needed, int) and own != needed:
            raise ValueError(
                f"image_processor.{setting} is {own}, and the model has {needed} (vision_config.{name}): set it to "
                "that, or load the processor of this model"
            )


def unequal_charts(
    examples: Sequence[Mapping[str, Any]], shapes: Sequence[tuple[int, ...] | None], image_processor: Any
) -> ValueError | None:
    """Return the error for charts whose tensors cannot be stacked, or `None` if they have one shape.

    Args:
        examples: Records.
        shapes: The shape of each one's chart; `None` if it is not known.
        image_processor: The image processor.

    Example:
        >>> examples = [{"question": "How much?", "chart_id": name} for name in ("a", "b")]
        >>> print(unequal_charts(examples, [(3, 42, 64), (3, 42, 64)], None))
        None
    """
    known = [(shape, example) for shape, example in zip(shapes, examples, strict=True) if shape is not None]
    other = next(((shape, example) for shape, example in known if shape != known[0][0]), None)
    if other is None:
        return None
    off = [name for name in _SWITCHES if getattr(image_processor, name, None) is False]
    fix = f"set {' or '.join(f'image_processor.{name}' for name in off)} to True" if off else "change its sizes"
    return ValueError(
        f"charts of different shapes cannot be in one batch: the image processor makes {_shown(known[0][0])} of the "
        f"chart of {describe(known[0][1])} and {_shown(other[0])} of that of {describe(other[1])}: {fix}, so that all "
        "charts get one shape"
    )


def shape_of_chart(made: Any) -> tuple[int, ...] | None:
    """Return the shape of a single chart in what a processor made, or `None` if it is not one picture.

    Example:
        >>> import torch
        >>> shape_of_chart({"pixel_values": torch.zeros(1, 3, 8, 9)})
        (3, 8, 9)
    """
    pixels = made.get("pixel_values") if isinstance(made, Mapping) else None
    shape = tuple(getattr(pixels, "shape", ()))
    return shape[1:] if len(shape) == 4 and shape[0] == 1 else None


def _shown(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
