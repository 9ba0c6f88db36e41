"""Model families behind one interface: which adapter a model needs, and how to add an own one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

from .base import IGNORE_INDEX, Adapter, base_model
from .decoder_prompt import DecoderPrompt, add_prompt_tokens

__all__ = [
    "IGNORE_INDEX",
    "Adapter",
    "DecoderPrompt",
    "adapter_for",
    "add_prompt_tokens",
    "base_model",
    "register_adapter",
]

SETTINGS_KEY = "chartqa_settings"
"""Where the config of a model keeps the settings of the adapter that it was trained with: however it is loaded, they
are found."""

_REGISTRY: dict[str, type[Adapter]] = {}
AdapterClass = TypeVar("AdapterClass", bound=type[Adapter])


def register_adapter(*model_types: str) -> Callable[[AdapterClass], AdapterClass]:
    """Class decorator: use this adapter for models whose `config.model_type` is one of `model_types`.

    A later registration of the same type wins, so that a user can replace one of ours.
    """

    def register(cls: AdapterClass) -> AdapterClass:
        for model_type in model_types:
            _REGISTRY[model_type] = cls
        return cls

    return register


register_adapter("vision-encoder-decoder")(DecoderPrompt)


def adapter_for(model: nn.Module, processor: Any, *, prompt: str | None = None, **settings: Any) -> Adapter:
    """The adapter of a model, found by its `config.model_type`.

    Args:
        model: a loaded model, PEFT-wrapped or not.
        processor: its processor (tokenizer + image processor).
        prompt: how the question is put, with the field `{question}`; `None` takes the one that the model was trained
            with by `ChartQATrainer`, else the family's published ChartQA prompt.
        settings: further arguments of the adapter, such as `max_length` and `on_long_answer`.

    Raises:
        ValueError: no adapter is known for this model type, or the family's markers are not in the vocabulary.
    """
    model_type = base_model(model).config.model_type
    if model_type not in _REGISTRY:
        raise ValueError(
            f"no adapter is registered for model_type {model_type!r} (known: {', '.join(sorted(_REGISTRY))}). "
            f"Write a subclass of chartqa_ft.Adapter and decorate it with @register_adapter({model_type!r})."
        )
    saved = getattr(base_model(model).config, SETTINGS_KEY, {})
    prompt = prompt if prompt is not None else saved.get("prompt")
    settings.setdefault("max_length", saved.get("max_length"))
    return _REGISTRY[model_type](model, processor, prompt=prompt, **settings)
