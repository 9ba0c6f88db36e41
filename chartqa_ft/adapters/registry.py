"""Which adapter a model needs, and how to register an own one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import nn

from .base import Adapter, base_model
from .causal import Causal, Kosmos2, PaliGemma
from .decoder_prompt import DecoderPrompt
from .encoder_prompt import EncoderPrompt, Pix2Struct

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


register_adapter("pix2struct")(Pix2Struct)


register_adapter("paligemma")(PaliGemma)


register_adapter("kosmos-2")(Kosmos2)


def adapter_class(model: nn.Module) -> type[Adapter]:
    """The adapter class of a model: the one registered for its `config.model_type`, else by its kind."""
    config = base_model(model).config
    registered = _REGISTRY.get(config.model_type)
    return registered or (EncoderPrompt if getattr(config, "is_encoder_decoder", False) else Causal)


def adapter_for(
    model: nn.Module,
    processor: Any,
    *,
    prompt: str | None = None,
    saved: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Adapter:
    """The adapter of a model, found by its configuration.

    A registered `model_type` has its own; every other encoder-decoder gets `EncoderPrompt`, and every decoder-only
    model with a chat template `Causal`.

    Args:
        model: a loaded model, PEFT-wrapped or not.
        processor: its processor (tokenizer + image processor).
        prompt: how the question is put, with the field `{question}`; `None` takes the one that the model was trained
            with by `ChartQATrainer`, else the family's published ChartQA prompt.
        saved: settings of the adapter that a checkpoint was saved with; `None`: those in the model's config.
        settings: further arguments of the adapter, such as `max_length`, `on_long_answer` and, for Pix2Struct,
            `font_path`; they win over saved ones.

    Raises:
        ValueError: the family's markers are not in the vocabulary, or an unknown family has no chat template; the
            message says what to write.
    """
    adapter = adapter_class(model)
    kept = getattr(base_model(model).config, SETTINGS_KEY, {}) if saved is None else saved
    settings = {**{name: kept[name] for name in adapter.setting_names if name in kept}, **settings}
    if prompt is not None:
        settings["prompt"] = prompt
    return adapter(model, processor, **settings)
