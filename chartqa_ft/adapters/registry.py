"""Which adapter a model gets, and how to register another one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import nn

from .argument_checks import check_model, shown
from .base import Adapter
from .causal import Causal
from .chat_frame import reads_clock
from .decoder_prompt import DecoderPrompt
from .encoder_prompt import EncoderPrompt
from .kosmos2 import Kosmos2
from .own_layouts import Blip2, GotOcr2, Kosmos2_5, T5Gemma2
from .paligemma import PaliGemma
from .pix2struct import Pix2Struct
from .tasks.registry import as_tasks, check_prompts, task_named
from .tasks.task import QA_NAME
from .wrappers import base_model

SETTINGS_KEY = "chartqa_settings"
"""Key in `model.config` of the adapter settings that a model was trained with, which are thus found however it is
loaded."""

_REGISTRY: dict[str, type[Adapter]] = {
    "vision-encoder-decoder": DecoderPrompt,
    "pix2struct": Pix2Struct,
    "paligemma": PaliGemma,
    "kosmos-2": Kosmos2,
    "kosmos-2.5": Kosmos2_5,
    "blip-2": Blip2,
    "instructblip": Blip2,
    "got_ocr2": GotOcr2,
    "t5gemma2": T5Gemma2,
}

AdapterClass = TypeVar("AdapterClass", bound=type[Adapter])


def register_adapter(*model_types: str) -> Callable[[AdapterClass], AdapterClass]:
    """Class decorator that registers an adapter for models whose `config.model_type` is one of `model_types`.

    A later registration replaces an earlier one of the same type, also one of this library.

    Example:
        >>> from chartqa_ft.adapters import Causal, register_adapter
        >>> @register_adapter("my-family")
        ... class MyFamily(Causal):
        ...     raw_layout = "{image}{prompt}"
    """

    def register(cls: AdapterClass) -> AdapterClass:
        for model_type in model_types:
            _REGISTRY[model_type] = cls
        return cls

    return register


def adapter_class(model: nn.Module) -> type[Adapter]:
    """Return the adapter class for a model: the registered one, else `EncoderPrompt` or `Causal`.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> model, processor = tiny_unichart("test")
        >>> adapter_class(model).__name__
        'DecoderPrompt'
    """
    config = base_model(model).config
    registered = _REGISTRY.get(config.model_type)
    if registered is Blip2 and config.is_encoder_decoder:  # with T5 as its language model
        registered = None
    return registered or (EncoderPrompt if getattr(config, "is_encoder_decoder", False) else Causal)


def adapter_for(
    model: nn.Module,
    processor: Any,
    *,
    prompt: str | None = None,
    prompts: Mapping[str, str] | None = None,
    saved: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Adapter:
    """Return the adapter for a model, selected by its configuration.

    A registered `model_type` has its own adapter. Any other encoder-decoder gets `EncoderPrompt`, and any other
    decoder-only model with a chat template `Causal`.

    Args:
        model: A loaded model, PEFT-wrapped or not.
        processor: Its processor (tokenizer + image processor).
        prompt: Template of the prompt with the field `{question}`. `None` uses the prompt that the model was trained
            with by `ChartQATrainer`, else the published ChartQA prompt of the family.
        prompts: Task -> template of its prompt, for other tasks than `qa`, such as `{"table": "Read the chart."}`.
            Other tasks have the prompt that the model was trained with, else the published one of the family.
        saved: Adapter settings that were saved with a checkpoint. `None` uses those in the config of the model.
        **settings: Further arguments of the adapter, such as `max_length`, `on_long_answer`, `tasks` and `task` (see
            `Adapter`), for chat families `system_prompt`, and for Pix2Struct `font_path`. They take precedence over
            saved ones.

    Raises:
        TypeError: `model` or `processor` is something else, or an argument has another type than that documented.
        ValueError: The markers of the prompt are not in the vocabulary, an unknown family has no chat template, or
            there is no such task. The message says what to do.

    Example:
        >>> from chartqa_ft import adapter_for, tiny_unichart
        >>> adapter = adapter_for(*tiny_unichart("test"), max_length=64)
        >>> adapter.settings()
        {'adapter': 'decoder-prompt', 'prompt': '<chartqa> {question} <s_answer>', 'max_length': 64}
    """
    check_model(model)
    adapter = adapter_class(model)
    kept = getattr(base_model(model).config, SETTINGS_KEY, {}) if saved is None else saved
    names = (*adapter.setting_names, "prompts", "task")
    prompt_date = settings.get("prompt_date")
    settings = {**{name: kept[name] for name in names if name in kept}, **settings}
    if prompt is not None:
        settings["prompt"] = prompt
    if settings.get("system_prompt") is None:
        settings.pop("system_prompt", None)
    elif "system_prompt" not in adapter.setting_names:
        raise ValueError(
            f"{base_model(model).config.model_type!r} models have no chat template, and so no system message: put the "
            "text of system_prompt into prompt="
        )
    if prompts is not None:
        known = as_tasks(settings.get("tasks"))
        for name in check_prompts(prompts):
            task_named(name, known)
        settings["prompts"] = {**settings.get("prompts", {}), **prompts}
    if settings.get("task") is not None:
        task_named(settings["task"], as_tasks(settings.get("tasks")))
    made = adapter(model, processor, **settings)
    writes_date = reads_clock(getattr(made, "dateless_template", None))
    if prompt_date is not None and prompt_date != kept.get("prompt_date") and not writes_date:
        raise ValueError(
            f"prompt_date={prompt_date!r} has no effect: the prompts of this {made.model_type!r} model hold no date. "
            "Leave it out"
        )
    trained = {QA_NAME: kept.get("prompt"), **(kept.get("prompts") or {})}
    for name, given in {QA_NAME: prompt, **(prompts or {})}.items():
        if given is not None and given != trained.get(name):
            made.check_new_prompt(given)
    return made


def check_adapter(adapter: Any, model: nn.Module | None = None) -> None:
    """Check that `adapter` is an adapter, and that of a model if there is one.

    Args:
        adapter: The object to check.
        model: A loaded model, PEFT-wrapped or not.

    Raises:
        TypeError: It is something else; the message says what to pass.
        ValueError: It was created for a model of another family.

    Example:
        >>> check_adapter("decoder-prompt")
        Traceback (most recent call last):
        ...
        TypeError: adapter must be an Adapter, got 'decoder-prompt': pass adapter_for(model, processor)
    """
    if not isinstance(adapter, Adapter):
        raise TypeError(f"adapter must be an Adapter, got {shown(adapter)}: pass adapter_for(model, processor)")
    family, wanted = getattr(adapter, "model_type", None), None
    if model is not None:
        wanted = base_model(model).config.model_type
    if family is not None and wanted is not None and family != wanted:
        raise ValueError(
            f"adapter was created for a model of the family {family}, and this model is of {wanted}: pass "
            "adapter_for(model, processor)"
        )
