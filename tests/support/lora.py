"""Tiny models of every family with LoRA, and their loss on answers."""

from __future__ import annotations

import re
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from chartqa_ft.adapters import Adapter
from chartqa_ft.models.lora import default_lora_config

from .families import FAMILIES, build
from .family_cases import answer_logits

OUTSIDE = re.compile(r"projector|projection|connector|merger|pooler")
# Linear layers outside the blocks of the text and vision models: never a target unless asked for.
PROMPT = "Question: {question} Answer:"
ALL = sorted(FAMILIES)


def family(name: str) -> tuple[nn.Module, Any]:
    """A tiny model in evaluation mode, and its processor."""
    model, processor = build(name)
    with torch.no_grad():
        for weight in model.parameters():
            # Gemma3's projector begins at zero, which no checkpoint has: the vision model would get no gradient.
            if weight.dim() > 1 and not weight.any():
                weight.normal_(std=0.08)
    return model.eval(), processor


def wrapped(model: nn.Module, **settings: Any) -> PeftModel:
    """`model` with the default adapter, without dropout."""
    torch.manual_seed(0)
    return get_peft_model(model, default_lora_config(model, **settings)).eval()


def targets(model: PeftModel) -> set[str]:
    return {name for name, module in model.get_base_model().named_modules() if isinstance(module, LoraLayer)}


def loss(model: nn.Module, adapter: Adapter, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    labels = batch["labels"]
    return nn.functional.cross_entropy(answer_logits(model, adapter, batch), labels[labels != -100])


def small_llama() -> LlamaForCausalLM:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=20, **sizes))
