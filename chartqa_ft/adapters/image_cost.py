"""The cost of a chart in image tokens or patches: one function that sets it for every model family.

Each family has its own setting for it. The attributes of the image processor decide which argument applies, so that
families that are not listed here work as well, or are refused with an error:

| the image processor has                  | such as                   | argument                 |
|------------------------------------------|---------------------------|--------------------------|
| `size` in pixels, `merge_size`           | Qwen2-VL, 2.5, 3          | `max_pixels`             |
| `max_image_size`, `do_image_splitting`   | Idefics3, SmolVLM         | `image_size`/`max_tiles` |
| `crop_to_patches`, `max_patches`         | InternVL                  | `max_tiles`              |
| `image_grid_pinpoints`                   | LLaVA-Next                | `max_tiles`              |
| `pan_and_scan_max_num_crops`             | Gemma 3                   | `max_tiles`              |
| `max_patches`, `patch_size`              | Pix2Struct, MatCha        | `max_patches`            |
| `size`, with a Swin encoder              | Donut, UniChart, Nougat   | `image_size`             |
| anything else: learned patch positions   | LLaVA 1.5, TrOCR, KOSMOS-2, PaliGemma, Florence-2 | none |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isqrt
from typing import Any, NamedTuple

from torch import nn

from .wrappers import base_model

_PROCESSOR_DEFAULTS_WIN = (
    "max_patches",
    "do_pan_and_scan",
    "pan_and_scan_min_crop_size",
    "pan_and_scan_max_num_crops",
    "pan_and_scan_min_ratio_to_activate",
)
_SIZE_SETTINGS = (
    "size",
    "crop_size",
    "max_image_size",
    "patch_size",
    "merge_size",
    "min_patches",
    "do_image_splitting",
    "crop_to_patches",
    "image_grid_pinpoints",
    *_PROCESSOR_DEFAULTS_WIN,
)
_SWIN = ("donut-swin", "swin")


def set_image_cost(
    model: nn.Module,
    processor: Any,
    *,
    image_size: int | None = None,
    max_pixels: int | None = None,
    max_tiles: int | None = None,
    max_patches: int | None = None,
) -> dict[str, Any]:
    """Set the cost of a chart in the processor and, where the two must agree, in the model's config.

    `save_pretrained` of processor and model saves the settings. Two processor classes (Pix2Struct, Gemma 3) have
    defaults that take precedence over saved values: call such a processor with
    `images_kwargs=image_kwargs(processor)`, as the adapters do.

    Args:
        model: The loaded model, PEFT-wrapped or not.
        processor: Its processor, with an `image_processor`.
        image_size: In pixels. Donut, UniChart, Nougat: side of the square canvas, a multiple of what the stages and
            windows of the encoder need. Idefics3, SmolVLM: longest edge of the chart before it is split, a multiple of
            the side of a tile; the side of one tile disables splitting. Other vision towers have a fixed size, and any
            other value is refused.
        max_pixels: Qwen-VL: maximum area in pixels (height x width). A token covers (`patch_size` x `merge_size`)^2
            pixels. If the minimum area is larger, it is lowered to that of one token.
        max_tiles: Maximum number of tiles of a chart, without the overview image that is added to them. 0 and 1 both
            disable splitting. InternVL, LLaVA-Next (always the overview and at least one tile; larger grids are
            removed and come back only with the checkpoint), Gemma 3 (pan and scan), Idefics3 and SmolVLM (a square
            grid: 5 means 2 x 2; limited by the row and column tokens of the tokenizer).
        max_patches: Pix2Struct, MatCha: number of patches of chart and header together, each of 16 x 16 pixels.

    Returns:
        The settings that were set, by name, e.g. `{"image_processor.max_patches": 1024}`; empty if no argument is
        given or the only one, `image_size`, is the fixed size of the model.

    Raises:
        ValueError: The family does not have an argument, or cannot have a value; the message names what it can have.

    Example:
        >>> from chartqa_ft import set_image_cost, tiny_unichart
        >>> model, processor = tiny_unichart("test")
        >>> for name, value in set_image_cost(model, processor, image_size=192).items():
        ...     print(name, value)
        image_processor.size {'height': 192, 'width': 192}
        config.encoder.image_size [192, 192]
        >>> set_image_cost(model, processor, image_size=100)
        Traceback (most recent call last):
        ...
        ValueError: image_size=100 must be a multiple of 96 (a whole window in the last stage): the nearest is 96
    """
    asked = {"image_size": image_size, "max_pixels": max_pixels, "max_tiles": max_tiles, "max_patches": max_patches}
    given = {name: value for name, value in asked.items() if value is not None}
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < (0 if name == "max_tiles" else 1):
            raise ValueError(f"{name} must be a positive whole number, got {value!r}")
    config, image_processor = model.config, processor.image_processor
    rule = _rule(config, image_processor)
    for name, value in list(given.items()):
        if name in rule.arguments:
            continue
        if name != "image_size":
            raise _does_not_apply(name, value, config, image_processor, rule)
        _check_fixed_size(value, config, image_processor, rule)
        del given[name]
    return rule.apply(model, processor, **given) if given else {}


def image_kwargs(processor: Any) -> dict[str, Any]:
    """Return the settings of the image processor to pass with every call of the processor.

    `Pix2StructProcessor` and `Gemma3Processor` have defaults in their class attribute `images_kwargs`, which take
    precedence over what was saved with the checkpoint, e.g. `max_patches=2048`. `None` in the image processor keeps
    the default.

    Example:
        >>> from types import SimpleNamespace
        >>> image_kwargs(SimpleNamespace(image_processor=SimpleNamespace(max_patches=512)))
        {'max_patches': 512}
    """
    values = {name: getattr(processor.image_processor, name, None) for name in _PROCESSOR_DEFAULTS_WIN}
    return {name: value for name, value in values.items() if value is not None}


def image_settings(processor: Any) -> dict[str, Any]:
    """Return the settings of an image processor that determine the size of a chart, as JSON types, for reports.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> image_settings(tiny_unichart("test")[1])
        {'size': {'height': 96, 'width': 96}}
    """
    image_processor = getattr(processor, "image_processor", None)
    found = {name: getattr(image_processor, name, None) for name in _SIZE_SETTINGS}
    plain = {name: value for name, value in found.items() if isinstance(value, (bool, int, float, list))}
    sizes = {name: _edges(value) for name, value in found.items() if name not in plain and value is not None}
    return {**plain, **{name: edges for name, edges in sizes.items() if edges}}


def follow_processor(model: nn.Module, processor: Any) -> None:
    """Apply the image settings of a processor to a model that was saved with others.

    A PEFT checkpoint holds its processor, but not the config of its base model.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> model, processor = tiny_unichart("test")
        >>> processor.image_processor.size = {"height": 192, "width": 192}
        >>> follow_processor(model, processor)
        >>> model.config.encoder.image_size
        [192, 192]
    """
    config, image_processor = model.config, processor.image_processor
    arguments = _rule(config, image_processor).arguments
    grids = getattr(image_processor, "image_grid_pinpoints", None)
    if grids is not None and hasattr(config, "image_grid_pinpoints"):
        config.image_grid_pinpoints = [list(grid) for grid in grids]
    size = _edges(getattr(image_processor, "size", None))
    canvas = (size.get("height"), size.get("width"))
    # `set_image_cost` sets square sizes only. Any other is that of the base model, such as 2560 x 1920 of Donut.
    height, width = canvas
    if arguments == ("image_size",) and height is not None and height == width and _tower_size(config) != canvas:
        _set_canvas(model, processor, height)


def cost_arguments(model: nn.Module, processor: Any) -> tuple[str, ...]:
    """Return the arguments of `set_image_cost` that the family has, such as `("max_pixels",)`; empty if it has none.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> cost_arguments(*tiny_unichart("test"))
        ('image_size',)
    """
    image_processor = getattr(processor, "image_processor", None)
    return () if image_processor is None else _rule(base_model(model).config, image_processor).arguments


def fixed_sizes(config: Any, image_processor: Any) -> tuple[str, tuple[int, int] | None, tuple[int, int] | None]:
    """Return the setting that fixes the size of all pictures, this size, and that of the input of the vision tower.

    Sizes are (height, width) in pixels; `None` if they are not fixed, or not known.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> model, processor = tiny_unichart("test")
        >>> fixed_sizes(model.config, processor.image_processor)
        ('size', (96, 96), (96, 96))
    """
    crops = bool(getattr(image_processor, "do_center_crop", None))
    setting = "crop_size" if crops else "size"
    edges = _edges(getattr(image_processor, setting, None))
    fixed = {"height", "width"} <= set(edges) and (crops or bool(getattr(image_processor, "do_resize", None)))
    return setting, (edges["height"], edges["width"]) if fixed else None, _tower_size(config)


class _Rule(NamedTuple):
    """The arguments of `set_image_cost` that apply to a family, and the function that sets them."""

    arguments: tuple[str, ...]
    apply: Callable[..., dict[str, Any]]


def _rule(config: Any, image_processor: Any) -> _Rule:
    def has(*names: str) -> bool:
        return all(hasattr(image_processor, name) for name in names)

    size = _edges(getattr(image_processor, "size", None))
    # GLM-4V has the same attributes, but counts the area of an image twice; it has no argument max_pixels.
    takes = getattr(getattr(image_processor, "valid_kwargs", None), "__annotations__", {})
    if has("merge_size", "patch_size") and "max_pixels" in takes and {"shortest_edge", "longest_edge"} <= set(size):
        return _Rule(("max_pixels",), _set_max_pixels)
    if has("do_image_splitting", "max_image_size") and "longest_edge" in size:
        return _Rule(("image_size", "max_tiles"), _set_split)
    if has("crop_to_patches", "min_patches", "max_patches"):
        return _Rule(("max_tiles",), _set_crops)
    if has("image_grid_pinpoints"):
        return _Rule(("max_tiles",), _set_grids)
    if has("do_pan_and_scan", "pan_and_scan_max_num_crops"):
        return _Rule(("max_tiles",), _set_pan_and_scan)
    if has("max_patches", "patch_size"):
        return _Rule(("max_patches",), _set_max_patches)
    encoder = getattr(config, "encoder", None)
    swin = getattr(encoder, "model_type", None) in _SWIN and not getattr(encoder, "use_absolute_embeddings", False)
    if swin and "height" in size:
        return _Rule(("image_size",), _set_canvas)
    return _Rule((), lambda model, processor: {})


# ------------------------------------------------------------------------------------------------------ one per family
def _set_max_pixels(model: nn.Module, processor: Any, max_pixels: int) -> dict[str, Any]:
    image_processor = processor.image_processor
    token = (image_processor.patch_size * image_processor.merge_size) ** 2
    if max_pixels < token:
        raise ValueError(f"max_pixels={max_pixels} is less than the {token} pixels of one image token")
    least = _edges(image_processor.size)["shortest_edge"]
    # Charts are enlarged to the minimum and rounded up, so that a minimum equal to the maximum would exceed it.
    return _set_size(image_processor, longest_edge=max_pixels, shortest_edge=least if least <= max_pixels else token)


def _set_split(
    model: nn.Module, processor: Any, image_size: int | None = None, max_tiles: int | None = None
) -> dict[str, Any]:
    image_processor = processor.image_processor
    tile = _edges(image_processor.max_image_size)["longest_edge"]
    vocabulary = processor.tokenizer.get_vocab()
    most = 1
    while f"<row_{most + 1}_col_{most + 1}>" in vocabulary:
        most += 1
    if image_size is None:
        side = min(max(1, isqrt(max_tiles or 0)), most)
    elif max_tiles is not None:
        raise ValueError(
            f"image_size and max_tiles set the same thing for {_family(model.config, image_processor)}, the longest "
            f"edge before splitting into tiles of {tile}: pass one of them"
        )
    else:
        side = _multiple("image_size", image_size, tile, "the side of a tile") // tile
        if side > most:
            raise ValueError(
                f"image_size={image_size} makes {side} x {side} tiles of {tile} pixels, but the tokenizer has "
                f"row and column tokens for {most} x {most} only: at most {most * tile}"
            )
    return {
        **_set_size(image_processor, longest_edge=side * tile),
        **_set(image_processor, do_image_splitting=side > 1),
    }


def _set_crops(model: nn.Module, processor: Any, max_tiles: int) -> dict[str, Any]:
    image_processor, most = processor.image_processor, max(1, max_tiles)
    least = min(image_processor.min_patches, most)
    return _set(image_processor, crop_to_patches=most > 1, min_patches=least, max_patches=most)


def _set_grids(model: nn.Module, processor: Any, max_tiles: int) -> dict[str, Any]:
    image_processor, config = processor.image_processor, model.config
    tile = _tower_size(config)
    if tile is None or tile[0] != tile[1]:
        raise ValueError(
            f"max_tiles={max_tiles}: the config of {_family(config, image_processor)} does not give the side of a "
            "tile (vision_config.image_size, one number)"
        )
    side = tile[0]
    grids = [list(grid) for grid in image_processor.image_grid_pinpoints]
    grids = [grid for grid in grids if (grid[0] // side) * (grid[1] // side) <= max(1, max_tiles)] or [[side, side]]
    done = _set(image_processor, image_grid_pinpoints=grids)
    if hasattr(config, "image_grid_pinpoints"):
        config.image_grid_pinpoints = [list(grid) for grid in grids]
        done["config.image_grid_pinpoints"] = config.image_grid_pinpoints
    return done


def _set_pan_and_scan(model: nn.Module, processor: Any, max_tiles: int) -> dict[str, Any]:
    if max_tiles <= 1:
        return _set(processor.image_processor, do_pan_and_scan=False)
    return _set(processor.image_processor, do_pan_and_scan=True, pan_and_scan_max_num_crops=max_tiles)


def _set_max_patches(model: nn.Module, processor: Any, max_patches: int) -> dict[str, Any]:
    # Rows and columns have seq_len position embeddings each, and a chart may be a single row or column of patches.
    positions = getattr(getattr(model.config, "vision_config", None), "seq_len", None)
    if positions is not None and max_patches > positions:
        raise ValueError(
            f"max_patches={max_patches}: {_family(model.config, processor.image_processor)} has positions for at most "
            f"{positions} (vision_config.seq_len)"
        )
    return _set(processor.image_processor, max_patches=max_patches)


def _set_canvas(model: nn.Module, processor: Any, image_size: int) -> dict[str, Any]:
    # Positions are relative, within windows. Each stage halves the grid of patches, and that of the last one must
    # consist of whole windows: a grid smaller than a window fails, and others are padded with zeros that are attended
    # to.
    encoder = model.config.encoder
    patch = encoder.patch_size if isinstance(encoder.patch_size, int) else max(encoder.patch_size)
    unit = patch * 2 ** (len(encoder.depths) - 1) * encoder.window_size
    _multiple("image_size", image_size, unit, "a whole window in the last stage")
    encoder.image_size = [image_size, image_size]
    # A forward pass with a grid that is no larger than a window permanently disables the shift of a block: restore it.
    for stage in model.encoder.encoder.layers:
        for number, block in enumerate(stage.blocks):
            block.window_size = encoder.window_size
            block.shift_size = 0 if number % 2 == 0 else encoder.window_size // 2
    done = _set_size(processor.image_processor, height=image_size, width=image_size)
    return {**done, "config.encoder.image_size": encoder.image_size}


# ------------------------------------------------------------------------------------------------------------ errors
def _family(config: Any, image_processor: Any) -> str:
    return f"{config.model_type} ({type(image_processor).__name__})"


def _does_not_apply(name: str, value: int, config: Any, image_processor: Any, rule: _Rule) -> ValueError:
    known = f"what applies is {' or '.join(rule.arguments)}" if rule.arguments else "no such setting is known for it"
    return ValueError(f"{name}={value} does not apply to {_family(config, image_processor)}: {known}")


def _check_fixed_size(image_size: int, config: Any, image_processor: Any, rule: _Rule) -> None:
    edges = _edges(getattr(image_processor, "size", None))
    if not {"height", "width"} <= set(edges):
        edges = _edges(getattr(image_processor, "crop_size", None))
    fixed = (edges.get("height"), edges.get("width"))
    if None in fixed or _tower_size(config) not in (fixed, None):  # not a fixed size, or not known to be one
        raise _does_not_apply("image_size", image_size, config, image_processor, rule)
    if fixed != (image_size, image_size):
        raise ValueError(
            f"image_size={image_size} does not fit {_family(config, image_processor)}: its vision tower has "
            f"learned positions for {fixed[0]} x {fixed[1]} pixels. Omit image_size"
            + (f"; what applies is {' or '.join(rule.arguments)}" if rule.arguments else "")
        )


def _tower_size(config: Any) -> tuple[int, int] | None:
    """Return (height, width) in pixels of the input of the vision tower, or `None` if the config does not give it."""
    tower = getattr(config, "vision_config", None) or getattr(config, "encoder", None)
    size = getattr(tower, "image_size", None)
    if size is None:
        return None
    return (size, size) if isinstance(size, int) else tuple(size)


def _multiple(name: str, value: int, unit: int, reason: str) -> int:
    if value % unit:
        nearest = max(1, (2 * value + unit) // (2 * unit)) * unit
        raise ValueError(f"{name}={value} must be a multiple of {unit} ({reason}): the nearest is {nearest}")
    return value


# -------------------------------------------------------------------------------------------------------- attributes
def _edges(size: Any) -> dict[str, int]:
    """Return the edges that are set in a size, which is a dict or transformers' `SizeDict`."""
    if size is None:
        return {}
    items = size.items() if isinstance(size, Mapping) else vars(size).items()
    return {name: value for name, value in items if value is not None}


def _set_size(image_processor: Any, **edges: int) -> dict[str, Any]:
    size = _edges(image_processor.size) | edges
    image_processor.size = size if isinstance(image_processor.size, Mapping) else type(image_processor.size)(**size)
    return {"image_processor.size": size}


def _set(image_processor: Any, **values: Any) -> dict[str, Any]:
    for name, value in values.items():
        setattr(image_processor, name, value)
    return {f"image_processor.{name}": value for name, value in values.items()}
