"""Find the layers that LoRA adapts: the linear layers of transformer blocks, by the structure of a model."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from functools import cache

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

WEIGHT_READ = re.compile(
    r"""
    (?<!isinstance\()(?<!getattr\()(?<!_\()               # not `init.zeros_(self.layer.weight)`
    \bself\.(\w+)\.weight\b
    (?!\.(?:data|dtype|device|shape|is_\w+)\b|\[|\s*=)    # not `self.layer.weight.dtype`
    """,
    re.VERBOSE,
)
"""Code that computes with the weight of a layer, by its name."""


def block_linears(model: nn.Module, vision: bool) -> list[str]:
    """Return the full names of the linear layers in the transformer blocks of a model.

    Args:
        model: A model that is not wrapped by PEFT.
        vision: Whether to include the blocks of the vision model, in addition to those of the text side.

    Raises:
        ValueError: There are no such blocks.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> model, _ = tiny_unichart("test", image_size=64, window_size=4)
        >>> names = block_linears(model, vision=False)
        >>> len(names), names[0]
        (10, 'decoder.model.decoder.layers.0.self_attn.k_proj')
    """
    towers = vision_models(model)
    text = text_model(model)
    names = [name for name in _in_blocks(model, text) if not any(_inside(name, other) for other in towers)]
    if not names:
        raise ValueError(
            f"found no transformer blocks with linear layers on the text side of {type(model).__name__}: name the "
            'layers to adapt, target_modules=[...] or "all-linear"'
        )
    if vision:
        states = _states_read(model)
        added = [name for tower in towers for name in _in_blocks(model, tower, states)]
        if not added:
            raise ValueError(
                f"found no vision model with transformer blocks in {type(model).__name__}: name the layers to adapt, "
                'target_modules=[...] or "all-linear"'
            )
        names = [*names, *added]
    return names


def as_pattern(model: nn.Module, names: Sequence[str]) -> str | list[str]:
    r"""Return a regular expression that matches `names` and no other module, or the names if there is none.

    The expression looks like `layers\.\d+\.(attn\.(q|v)|mlp\.(fc1|fc2))`.
    """
    stacks: dict[str, set[int]] = {}
    layers: dict[str, dict[str, list[str]]] = {}
    for name in names:
        match = re.fullmatch(r"(.*?)\.(\d+)\.(.*)", name)
        if match is None:
            return list(names)
        stack, number, inner = match.groups()
        stacks.setdefault(stack, set()).add(int(number))
        *parents, leaf = (r"\d+" if step.isdigit() else re.escape(step) for step in inner.split("."))
        leaves = layers.setdefault(stack, {}).setdefault(r"\.".join(parents), [])
        leaves += [leaf] if leaf not in leaves else []
    patterns = []
    for stack, numbers in stacks.items():
        has_all = len(numbers) == len(model.get_submodule(stack))
        number = r"\d+" if has_all else f"({'|'.join(map(str, sorted(numbers)))})"
        layer_patterns = []
        for parent, leaves in layers[stack].items():
            choice = leaves[0] if len(leaves) == 1 else f"({'|'.join(leaves)})"
            layer_patterns += [rf"{parent}\.{choice}"] if parent else leaves
        patterns.append(rf"{re.escape(stack)}\.{number}\.({'|'.join(layer_patterns)})")
    pattern = "|".join(patterns)
    matched = [name for name, _ in model.named_modules() if re.fullmatch(pattern, name)]
    return pattern if sorted(matched) == sorted(names) else list(names)


def expert_parameters(model: nn.Module) -> list[str]:
    """Return the names of parameters that hold several experts each, of shape (experts, ., .), on the text side.

    They are no linear layers: LoRA adapts them by `target_parameters`.

    Args:
        model: A model that is not wrapped by PEFT.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> expert_parameters(tiny_unichart("test", image_size=64, window_size=4)[0])
        []
    """
    text = text_model(model)
    names = []
    for path, module in model.get_submodule(text).named_modules(prefix=text):
        if not isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            own = module.named_parameters(prefix=path, recurse=False)
            names += [name for name, parameter in own if parameter.dim() == 3]
    return [name for name in names if re.search(r"\.\d+\.", name)]


def share_of_blocks(model: nn.Module, names: Sequence[str]) -> float:
    """Return the share of some parameters in the weights of the transformer blocks on the text side, 0 to 1."""
    sizes = block_weights(model)
    return sum(sizes[name] for name in names) / sum(sizes.values())


def block_weights(model: nn.Module) -> dict[str, int]:
    """Return the matrices in the transformer blocks on the text side of a model: name -> number of weights.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> sizes = block_weights(tiny_unichart("test", image_size=64, window_size=4)[0])
        >>> len(sizes), sizes["decoder.model.decoder.layers.0.fc1.weight"]
        (10, 2048)
    """
    text = text_model(model)
    return {
        name: parameter.numel()
        for name, parameter in model.named_parameters()
        if _inside(name, text) and parameter.dim() > 1 and re.search(r"\.\d+\.", name)
    }


def text_model(model: nn.Module) -> str:
    """Return the smallest model with the input embeddings: the language model without vision and projector.

    Where the decoder stands beside it (T5Gemma 2), the smallest model with both.
    """
    embeddings = model.get_input_embeddings()
    path = next(name for name, module in model.named_modules() if module is embeddings)
    holders = [name for name, module in model.named_modules() if isinstance(module, PreTrainedModel)]
    text = max((name for name in holders if _inside(path, name)), key=len)
    decoder = model.get_decoder() if model.config.is_encoder_decoder else None
    beside = next((name for name, module in model.named_modules() if module is decoder), text)
    if not (_inside(beside, text) or _inside(text, beside)):
        text = max((name for name in holders if _inside(path, name) and _inside(beside, name)), key=len)
    return text


def vision_models(model: nn.Module) -> list[str]:
    """Return the vision model if transformers knows it, otherwise all outermost models that only take images."""
    names = {id(module): name for name, module in model.named_modules()}
    encoder = model.get_encoder(modality="image")
    if encoder is not model and not any(part is model.get_input_embeddings() for part in encoder.modules()):
        return [names[id(encoder)]]
    found: list[str] = []
    for name, module in model.named_modules():
        only_images = isinstance(module, PreTrainedModel) and tuple(module.input_modalities) == ("image",)
        if only_images and not any(_inside(name, outer) for outer in found):
            found.append(name)
    return found


def _in_blocks(model: nn.Module, root: str, states: Sequence[int] = ()) -> Iterator[str]:
    """Yield the linear layers below `root` in stacks of blocks with attention: no pooler, head or patch merger.

    Args:
        model: The whole model.
        root: The name of a module in it.
        states: The hidden states that are used; blocks after the last of them are not. 0 is the input of the first
            block, -1 the output of the last one. If empty, all blocks are used.
    """
    stacks: list[tuple[str, int]] = []
    for name, module in model.get_submodule(root).named_modules(prefix=root):
        outer = next((stack for stack in stacks if _inside(name, stack[0])), None)
        if outer is None:
            attends = any("att" in inner.lower() for inner, _ in module.named_modules())
            if isinstance(module, nn.ModuleList) and attends:
                size = len(module)
                stacks.append((name, max((i if i >= 0 else size + 1 + i for i in states), default=size)))
        elif isinstance(module, (nn.Linear, Conv1D)) and int(name[len(outer[0]) + 1 :].split(".")[0]) < outer[1]:
            parent, _, own = name.rpartition(".")
            parent_class: type = type(model.get_submodule(parent))
            if own not in _weights_read(parent_class):
                yield name


@cache
def _weights_read(module_class: type) -> frozenset[str]:
    """Return the layers of a class whose weights its code computes with, instead of calling the layers.

    PEFT changes what a layer returns, so such code would ignore LoRA weights: those of `correction_coefs` of Gemma 3n
    in training, and of `out_proj` in the fast path of Mamba blocks. Reading a type, a device or a shape, assigning and
    initializing are no computation, and neither are the slices for Bloom's `pretraining_tp`, which is 1.
    """
    try:
        source = inspect.getsource(module_class)
    except (OSError, TypeError):  # defined without a file
        return frozenset()
    return frozenset(WEIGHT_READ.findall(source))


def _states_read(model: nn.Module) -> list[int]:
    """Return the hidden states of the vision model that the text side uses, if the config names them."""
    config = model.config
    states = getattr(config, "vision_feature_layer", getattr(config, "vision_feature_layers", None))
    return [] if states is None else [states] if isinstance(states, int) else list(states)


def _inside(name: str, root: str) -> bool:
    return not root or name == root or name.startswith(f"{root}.")
