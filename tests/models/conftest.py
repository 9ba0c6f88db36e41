"""A small base model on disk, and trainers on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from chartqa_ft import ChartQATrainer
from chartqa_ft.models.load import load_checkpoint
from chartqa_ft.models.lora import default_lora_config
from chartqa_ft.models.tiny import tiny_unichart

from ..support.common import arguments


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """The folder of a tiny UniChart for charts of 64 x 64 pixels."""
    folder = tmp_path_factory.mktemp("base")
    model, processor = tiny_unichart("test", image_size=64, window_size=4)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture
def base_trainer(base) -> Callable[..., ChartQATrainer]:
    """Makes a trainer of the base model, or of LoRA weights on it."""

    def make(folder: Path, *, lora: bool = False, train_dataset=None, **changes) -> ChartQATrainer:
        model, processor, adapter = load_checkpoint(base)
        config = default_lora_config(model, r=2) if lora else None
        return ChartQATrainer(
            model, arguments(folder, **changes), train_dataset, None, processor, adapter, peft_config=config
        )

    return make
