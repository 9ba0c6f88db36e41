"""The parts of a model that reads charts, by its structure: vision tower, projector and language model."""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import nn

from ..adapters import base_model
from .lora_targets import text_model, vision_models

__all__ = ["PARTS", "check_parts", "freeze_parts", "model_parts"]

PARTS = ("vision", "projector", "language")
"""The names of the parts, in the order in which a chart passes through them."""
_PROJECTOR = re.compile(r"(deepstack_|multi_modal_|patch_)?(merger|projector|connector|aligner)(s|_list)?")
"""Names of modules that are the projector, although they are inside a vision tower (Qwen-VL, GLM-V) or a language
model (T5Gemma 2)."""


def model_parts(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Return the parameters of each part of a model, without the parts that the model lacks.

    - `"vision"`: the vision tower; in UniChart, Donut and Pix2Struct, the encoder.
    - `"language"`: the language model with its embeddings and its output layer; in these models, the decoder.
    - `"projector"`: everything else, which is what connects the two: a projector or connector, patch mergers, a
      Q-Former, learned image tokens.

    Each parameter is in one part. PEFT weights belong to the part whose layers they adapt; those that adapt no layer,
    such as prompts, belong to none.

    Args:
        model: A transformers model, with or without PEFT weights.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> model, _ = tiny_unichart("test", image_size=64, window_size=4)
        >>> parts = model_parts(model)
        >>> list(parts), len(parts["vision"]) == len(list(model.encoder.parameters()))
        (['vision', 'language'], True)
    """
    base = base_model(model)
    text, towers = text_model(base), vision_models(base)
    projectors = [
        name
        for name, _ in base.named_modules()
        if _PROJECTOR.fullmatch(name.rpartition(".")[2]) and not re.search(r"\.\d+\.", name)
    ]
    head = base.get_output_embeddings()
    own = {
        "projector": _ids(base, projectors),
        "vision": _ids(base, towers),  # before the language model, which contains it in T5Gemma 2
        "language": _ids(base, [text]) | ({id(weight) for weight in head.parameters()} if head is not None else set()),
    }
    parts: dict[str, list[nn.Parameter]] = {name: [] for name in PARTS}
    for weight in base.parameters():
        parts[next((name for name, ids in own.items() if id(weight) in ids), "projector")].append(weight)
    return {name: weights for name, weights in parts.items() if weights}


def check_parts(model: nn.Module, names: Iterable[str], argument: str) -> None:
    """Check that a model has the parts that an argument names.

    Args:
        model: The model.
        names: The names of parts.
        argument: The name of the argument.

    Raises:
        ValueError: The model lacks one of them; the message lists the parts that it has.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> check_parts(tiny_unichart("test", image_size=64, window_size=4)[0], ["projector"], "freeze")
        Traceback (most recent call last):
        ...
        ValueError: freeze has 'projector', which VisionEncoderDecoderModel lacks: its parts are vision and language
    """
    there = list(model_parts(model))
    missing = [name for name in names if name not in there]
    if missing:
        raise ValueError(
            f"{argument} has {', '.join(map(repr, missing))}, which {type(base_model(model)).__name__} lacks: its "
            f"parts are {', '.join(there[:-1])} and {there[-1]}"
        )


def freeze_parts(model: nn.Module, names: Iterable[str]) -> None:
    """Set `requires_grad` of all parameters in some parts of a model to `False`, PEFT weights included.

    Args:
        model: The model.
        names: The names of parts; see `model_parts`.

    Raises:
        ValueError: The model lacks one of them.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> model, _ = tiny_unichart("test", image_size=64, window_size=4)
        >>> freeze_parts(model, ["vision"])
        >>> {name.split(".")[0] for name, weight in model.named_parameters() if weight.requires_grad}
        {'decoder'}
    """
    names = list(names)
    if not names:
        return
    check_parts(model, names, "freeze")
    parts = model_parts(model)
    for name in names:
        for weight in parts[name]:
            weight.requires_grad_(False)


def _ids(model: nn.Module, names: Iterable[str]) -> set[int]:
    """Return the ids of the parameters in some modules of a model."""
    return {id(weight) for name in names for weight in model.get_submodule(name).parameters()}
