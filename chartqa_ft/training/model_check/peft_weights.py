"""Line 7: every PEFT weight takes part in training and is saved, and nothing else is trained."""

from __future__ import annotations

import re

import torch
from torch import nn

from ...models.lora_share import adapted_share, is_peft
from .gradients import fresh_gradients
from .report import CheckLine
from .subject import Subject

__all__ = ["check_peft_gradients", "fill_zero_weights", "trained_but_not_saved", "zero_weights"]

_NAME = "peft_gradients"


def check_peft_gradients(subject: Subject, *, note: str = "") -> CheckLine:
    """Look for adapted layers without a gradient, and for weights that are trained and not saved.

    Args:
        subject: A model with PEFT weights, none of which is zero (see `fill_zero_weights`).
        note: Where the PEFT weights come from, for the words of the line.
    """
    model = subject.model
    model.train()
    with fresh_gradients(model):
        losses, _ = subject.loss(subject.collate(subject.examples))
        losses.mean().backward()
        targets = _gradients_by_target(model)
    dead = sorted(name for name, has_gradient in targets.items() if not has_gradient)
    unsaved = trained_but_not_saved(model)
    adapted = adapted_share(model)
    trainable = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    total = sum(weight.numel() for weight in model.parameters())
    words = (
        f"{len(targets) - len(dead)} of {len(targets)} targets; {100 * adapted:.0f} % of the weights of the language "
        f"model's blocks are adapted, by {trainable:,} trainable weights ({100 * trainable / total:.2g} % of all)"
        f"{note}"
    )
    wrong = []
    if not targets:
        wrong.append("no PEFT weight is trainable: load them with load_checkpoint(..., trainable=True)")
    if dead:
        wrong.append(f"no gradient: {_listed(dead)}. Leave these layers out of target_modules: they learn nothing")
    if unsaved:
        wrong.append(
            f"trained, and not saved with the PEFT weights: {_listed(unsaved)}. Freeze them, or name them in "
            "modules_to_save"
        )
    return CheckLine(
        _NAME,
        "fail" if wrong else "pass",
        number=len(dead),
        bound=0,
        unit="without gradient",
        words="\n".join([*wrong, words]),
        details={
            "targets": len(targets),
            "without_gradient": dead,
            "not_saved": unsaved,
            "share_of_blocks_adapted": adapted,
            "trainable_weights": trainable,
        },
    )


def fill_zero_weights(model: nn.Module) -> list[nn.Parameter]:
    """Fill PEFT weights that are all zero with small random numbers, so that they have an effect; return them.

    New LoRA weights change nothing, since `lora_B` is zero: neither a wrong merge nor a lost weight would show.

    Example:
        >>> from peft import get_peft_model
        >>> from chartqa_ft import default_lora_config, tiny_unichart
        >>> model, _ = tiny_unichart("test", image_size=64, window_size=4)
        >>> len(fill_zero_weights(get_peft_model(model, default_lora_config(model))))
        10
    """
    filled = zero_weights(model)
    with torch.no_grad():
        for weight in filled:
            weight.normal_(std=0.02)
    return filled


def zero_weights(model: nn.Module) -> list[nn.Parameter]:
    """Return the PEFT weights of a model that are all zero.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> zero_weights(tiny_unichart("test", image_size=64, window_size=4)[0])
        []
    """
    return [
        weight
        for name, weight in model.named_parameters()
        if is_peft(name) and weight.is_floating_point() and not weight.any()
    ]


def trained_but_not_saved(model: nn.Module) -> list[str]:
    """Return the names of trainable weights that PEFT would not save."""
    from peft import get_peft_model_state_dict

    saved = get_peft_model_state_dict(model, save_embedding_layers=False).values()
    places = {(value.data_ptr(), value.numel()) for value in saved}
    return [
        re.sub(r"^base_model\.model\.", "", name)
        for name, weight in model.named_parameters()
        if weight.requires_grad and (weight.data_ptr(), weight.numel()) not in places
    ]


def _gradients_by_target(model: nn.Module) -> dict[str, bool]:
    """Return whether any weight of each adapted layer has a gradient that is not zero."""
    found: dict[str, bool] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            layer = re.sub(r"^base_model\.model\.|\.(lora_\w+|token_adapter|modules_to_save|ia3_\w+)\b.*$", "", name)
            found[layer] = found.get(layer, False) or (weight.grad is not None and bool(weight.grad.any()))
    return found


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
