"""Checks of arguments of transformers that are written for text models, and mean something else for others."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from ...adapters import base_model
from .findings import CheckContext, Finding, register_check


@register_check("train")
def check_text_arguments(context: CheckContext) -> Iterator[Finding]:
    """Find noise that would be added to pixels, and pixels that would be counted as tokens."""
    trainer, model = context.trainer, base_model(context.trainer.model)
    if trainer.args.neftune_noise_alpha is not None and not isinstance(_input_embeddings(model), nn.Embedding):
        yield Finding(
            "neftune_noise_alpha",
            "error",
            f"neftune_noise_alpha adds noise to the embeddings of tokens, and {type(model).__name__} has a chart as "
            "its input",
            "leave it unset",
        )
    main_input = getattr(model, "main_input_name", "input_ids")
    if trainer.args.include_num_input_tokens_seen != "no" and not main_input.endswith("_ids"):
        yield Finding(
            "include_num_input_tokens_seen",
            "error",
            f"include_num_input_tokens_seen would count the numbers in {main_input} as tokens",
            "leave it out for this model",
        )


def _input_embeddings(model: nn.Module) -> nn.Module | None:
    try:
        return model.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        return None
