"""What tests of models on a base that moves, is private or is merged let a client process do."""

from __future__ import annotations

from typing import Any

from .push_flows import answers_of, records


def adapt_and_push(
    folder: str,
    base: str,
    *,
    loading: dict[str, Any] | None = None,
    pushing: dict[str, Any] | None = None,
    lora: bool = True,
    **changes: Any,
) -> list[str]:
    """Train two steps on a checkpoint, by LoRA unless told otherwise, and push; returns what is answered then."""
    from chartqa_ft import ChartQATrainer, default_lora_config, load_checkpoint
    from tests.support.common import arguments

    model, processor, adapter = load_checkpoint(base, **(loading or {}))
    config = default_lora_config(model, r=2) if lora and not hasattr(model, "peft_config") else None
    settings = arguments(folder, **{"max_steps": 2, "learning_rate": 0.3, **changes})
    made = ChartQATrainer(model, settings, records(), None, processor, adapter, peft_config=config)
    made.train()
    answers = answers_of(made.model, made.processing_class, made.adapter)
    made.push_to_hub(**(pushing or {}))
    return answers


def answers(name: str, **loading: Any) -> list[str]:
    """What a checkpoint answers."""
    from chartqa_ft import load_checkpoint

    return answers_of(*load_checkpoint(name, **loading))


def trainer_by_name(folder: str, base: str, **changes: Any) -> None:
    """Let a trainer load its model itself."""
    from chartqa_ft import ChartQATrainer
    from tests.support.common import arguments

    ChartQATrainer(base, arguments(folder, **changes), records())
