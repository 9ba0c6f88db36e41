"""`MemoryAdvice`: what a batch needed when memory ran out, and which arguments need less."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch

from ..adapters import base_model
from ..adapters.image_cost import cost_arguments, image_settings

_SHOWN = ("input_ids", "decoder_input_ids", "labels", "pixel_values", "flattened_patches", "image_grid_thw")
_IMAGE_TOKENS = ("image_token_id", "image_token_index")


class MemoryAdvice:
    """Keeps the shapes of the last batch of a trainer, and says what to lower when memory runs out.

    Args:
        trainer: the `ChartQATrainer`, whose model and arguments the advice is about.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self._batch: dict[str, tuple[int, ...]] = {}
        self._rows = 0
        self._ids: torch.Tensor | None = None

    def see(self, inputs: Mapping[str, Any]) -> None:
        """Take note of a batch: of its shapes, and of its ids to count image tokens in."""
        self._batch = {name: tuple(value.shape) for name, value in inputs.items() if isinstance(value, torch.Tensor)}
        sized = [self._batch[name] for name in ("labels", "input_ids", "decoder_input_ids") if self._batch.get(name)]
        self._rows = len(inputs["rows"]) if "rows" in inputs else sized[0][0] if sized else 0
        self._ids = inputs.get("input_ids")

    def of_training(self) -> str:
        """Return what a training step needed, what is kept, and what to lower."""
        args = self.trainer.args
        batch, accumulation = args.per_device_train_batch_size, args.gradient_accumulation_steps
        advice = []
        if batch > 1:
            smaller = batch // 2 if batch % 2 == 0 else 1
            advice.append(
                f"lower per_device_train_batch_size from {batch} to {smaller} and raise gradient_accumulation_steps "
                f"from {accumulation} to {accumulation * batch // smaller}, which is the same effective batch"
            )
        if not (args.gradient_checkpointing or getattr(args, "activation_checkpointing", None)):
            advice.append("set activation_checkpointing=True")
        advice += self._smaller_images()
        if not hasattr(self.trainer.model, "peft_config"):
            advice.append("train LoRA weights alone (peft_config=default_lora_config(model), --lora)")
        if not getattr(base_model(self.trainer.model), "is_quantized", False):
            advice.append("load the model in 4 bits (quantized_loading(4), --quantize 4, with LoRA on a GPU)")
        kept = "Checkpoints that are complete are untouched: resume from the last with resume_from_checkpoint=True"
        return f"{self._facts()}To need less memory, {'; '.join(advice)}. {kept}"

    def of_evaluation(self) -> str:
        """Return what an evaluation needed, what is kept, and what to lower."""
        args, trainer = self.trainer.args, self.trainer
        advice = []
        if args.per_device_eval_batch_size > 1:
            advice.append(f"lower per_device_eval_batch_size (now {args.per_device_eval_batch_size})")
        decoding = trainer.decoding()
        beams = decoding["num_beams"]
        if args.predict_with_generate and beams > 1:
            advice.append(f"lower generation_num_beams (now {beams})")
        if args.predict_with_generate:
            advice.append(f"lower generation_max_new_tokens (now {decoding['max_new_tokens']})")
        if trainer.adapter.needs_equal_prompts and args.eval_window > 1:
            advice.append(f"lower eval_window (now {args.eval_window})")
        advice += self._smaller_images()
        return f"{self._facts()}{trainer.evaluator.kept}To need less memory, {'; '.join(advice)}"

    def _facts(self) -> str:
        if not self._batch:
            return ""
        shapes = [f"{name} {_times(self._batch[name])}" for name in _SHOWN if name in self._batch]
        config = base_model(self.trainer.model).config
        token = next((found for name in _IMAGE_TOKENS if (found := getattr(config, name, None)) is not None), None)
        if token is not None and self._ids is not None:
            with suppress(RuntimeError):  # the device has no memory even for that
                shapes.append(f"{int((self._ids == token).sum()):,} image tokens")
        return f"The last batch had {self._rows} rows ({', '.join(shapes)}). "

    def _smaller_images(self) -> list[str]:
        processor = self.trainer.processing_class
        names = cost_arguments(self.trainer.model, processor)
        settings = image_settings(processor) if names else {}
        now = ", ".join(f"{name} {value}" for name, value in settings.items() if name in ("size", *names))
        return [f"lower {' or '.join(names)} of the charts (set_image_cost{f'; now {now}' if now else ''})"] * bool(
            names
        )


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
