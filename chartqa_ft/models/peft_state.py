"""The PEFT weights of a model: which are active, and whether what is trained is what is saved and asked."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from torch import nn

from ..adapters import base_model
from .peft_types import check_can_merge, check_peft_config

if TYPE_CHECKING:
    from peft import PeftConfig


def active_name(model: nn.Module) -> str:
    """Return the name of the active PEFT weights of a `PeftModel`, usually `"default"`.

    Example:
        >>> from chartqa_ft import default_lora_config, tiny_unichart
        >>> from peft import get_peft_model
        >>> model, _ = tiny_unichart("test", image_size=64, window_size=4)
        >>> active_name(get_peft_model(model, default_lora_config(model), adapter_name="chart"))
        'chart'
    """
    active = model.active_adapter
    return active if isinstance(active, str) else active[0]


def active_config(model: nn.Module) -> PeftConfig | None:
    """Return the configuration of the active PEFT weights; `None` if the model has no PEFT weights."""
    configs = getattr(model, "peft_config", None)
    return configs[active_name(model)] if configs else None


def plain_layer(layer: nn.Module) -> nn.Module:
    """Return the layer inside what PEFT wraps around it.

    Example:
        >>> from peft import LoraConfig, get_peft_model
        >>> model = get_peft_model(nn.Sequential(nn.Linear(2, 2)), LoraConfig(target_modules=["0"]))
        >>> plain_layer(model.base_model.model[0])
        Linear(in_features=2, out_features=2, bias=True)
    """
    while True:
        if hasattr(layer, "get_base_layer"):
            layer = layer.get_base_layer()
        elif hasattr(layer, "original_module"):
            layer = layer.original_module
        else:
            return layer


def check_peft_state(model: nn.Module) -> None:
    """Refuse PEFT weights that could not be saved and loaded as they are trained.

    One set of PEFT weights can be trained, of any name and beside others that are not active. It must be the only
    active one, enabled and not merged.

    Args:
        model: The model of a trainer, with or without PEFT weights.

    Raises:
        ValueError: The message names what is wrong and the call that corrects it.

    Example:
        >>> from chartqa_ft import default_lora_config, tiny_unichart
        >>> from peft import get_peft_model
        >>> model, _ = tiny_unichart("test", image_size=64, window_size=4)
        >>> model = get_peft_model(model, default_lora_config(model))
        >>> model.base_model.disable_adapter_layers()
        >>> check_peft_state(model)
        Traceback (most recent call last):
        ValueError: the PEFT weights of the model are disabled: call model.base_model.enable_adapter_layers() before \
training
    """
    peft = sys.modules.get("peft")
    if peft is None:  # nothing can have added PEFT weights
        return
    if not isinstance(model, peft.PeftModel):
        _refuse_hidden_weights(model)
        return
    base = model.get_base_model()
    if isinstance(base, peft.PeftModel):
        raise ValueError(
            "the model is a PeftModel inside a PeftModel, of which only the outer one would be saved: call "
            "merge_and_unload() on the inner one, save the result, and train from its folder"
        )
    for name, config in model.peft_config.items():
        check_peft_config(config, where=f"the PEFT weights {name!r} of the model")
    _refuse_half_tied_rows(base)
    status = model.get_model_status()
    if status.enabled is not True:
        raise ValueError(
            "the PEFT weights of the model are disabled: call model.base_model.enable_adapter_layers() before training"
        )
    if status.merged_adapters:
        raise ValueError(
            f"the PEFT weights {_names(status.merged_adapters)} are merged into the layers of the model: call "
            "model.unmerge_adapter() to train them, or model.merge_and_unload() and save the result as a new base "
            "model"
        )
    if status.active_adapters == "irregular" or len(status.active_adapters) != 1:
        raise ValueError(
            f"the model has several active PEFT weights ({_names(status.active_adapters)}), and a checkpoint holds "
            f"one: choose it with model.set_adapter({next(iter(model.peft_config))!r}), or merge the others into the "
            "base model first"
        )


def check_mergeable(model: nn.Module) -> None:
    """Refuse PEFT weights that could not be merged at the end of training.

    Raises:
        ValueError: The method cannot be merged, or LoRA trains biases (`lora_bias`) of layers that have none.
    """
    config = active_config(model)
    if config is None:
        return
    check_can_merge(config, "push_merged=True")
    if getattr(config, "lora_bias", False):
        for name, module in model.named_modules():
            if hasattr(module, "lora_B") and getattr(plain_layer(module), "bias", None) is None:
                raise ValueError(
                    f"push_merged=True: lora_bias=True trains a bias of {name}, which has none to merge it into: "
                    "leave lora_bias out, or push with push_merged=False"
                )


def _refuse_hidden_weights(model: nn.Module) -> None:
    """Refuse PEFT layers in a model that is not a `PeftModel`."""
    peft = sys.modules["peft"]
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    if getattr(model, "peft_config", None):
        if isinstance(model, peft.PeftMixedModel):
            raise ValueError("a PeftMixedModel cannot be saved: use peft.get_peft_model(..., mixed=False)")
        raise ValueError(
            "the PEFT weights of this model were added by model.add_adapter() or loaded by from_pretrained() of "
            "transformers, which a PEFT checkpoint cannot be made of: pass the base model and peft_config= to the "
            "trainer, or load the checkpoint with load_checkpoint(folder, trainable=True)"
        )
    for name, module in base_model(model).named_modules():
        if isinstance(module, (BaseTunerLayer, AuxiliaryTrainingWrapper, peft.PeftModel)):
            raise ValueError(
                f"{name} of the model has PEFT weights, but the model itself is no PeftModel, and saving it would mix "
                "both: wrap the whole model (peft_config=, with target_modules for that part)"
            )


def _refuse_half_tied_rows(base: nn.Module) -> None:
    """Refuse trained rows of one of two tied embeddings: loading would train the rows of both."""
    from peft.tuners.trainable_tokens import TrainableTokensLayer
    from peft.utils.other import TrainableTokensWrapper

    layers = [layer for layer in (base.get_input_embeddings(), base.get_output_embeddings()) if layer is not None]
    kinds = (TrainableTokensLayer, TrainableTokensWrapper)
    weights = {id(getattr(plain_layer(layer), "weight", layer)) for layer in layers}
    is_tied = len(layers) == 2 and len(weights) == 1
    if is_tied and isinstance(layers[0], kinds) != isinstance(layers[1], kinds):
        raise ValueError(
            "the PEFT weights train token rows of one of two tied embeddings, and loading them would change both: "
            "pass the base model and peft_config= to the trainer, which adapts both alike"
        )


def _names(names: str | list[str]) -> str:
    return names if isinstance(names, str) else ", ".join(map(repr, names))
