"""Load a quantized base model, for QLoRA."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import torch


def quantized_loading(bits: int = 4) -> dict[str, Any]:
    """Return arguments of `from_pretrained` that load a base model quantized by bitsandbytes, for QLoRA.

    With 4 bits, weights are stored as NormalFloat with double quantization, and computations use bfloat16, or float16
    on GPUs without it (QLoRA, arXiv:2305.14314). Each process loads the whole model on its own GPU, as
    DistributedDataParallel requires. `ChartQATrainer(peft_config=...)` freezes the base model and keeps everything
    that is not quantized (norms, embeddings, lm_head) in float32. `default_lora_config` finds quantized layers like
    any others. For gradient checkpointing, use the trainer's argument `activation_checkpointing`.

    Args:
        bits: 4 or 8.

    Returns:
        `quantization_config`, `dtype` and `device_map`.

    Raises:
        ValueError: `bits` is neither 4 nor 8.
        ImportError: bitsandbytes is not installed.
        RuntimeError: There is no CUDA GPU.

    Example:
        >>> from chartqa_ft import load_checkpoint, quantized_loading
        >>> quantized_loading(3)
        Traceback (most recent call last):
        ValueError: bits must be 4 or 8, got 3
        >>> name = "llava-hf/llava-1.5-7b-hf"
        >>> model, processor, adapter = load_checkpoint(name, **quantized_loading(4))  # doctest: +SKIP
    """
    if bits not in (4, 8):
        raise ValueError(f"bits must be 4 or 8, got {bits!r}")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ImportError(
            f"loading a model in {bits} bits needs bitsandbytes: pip install bitsandbytes, or leave the option out"
        )
    if not torch.cuda.is_available():
        raise RuntimeError(
            f"loading a model in {bits} bits needs a CUDA GPU, and torch finds none: use a machine with one, or leave "
            "the option out and train plain LoRA"
        )
    from transformers import BitsAndBytesConfig

    dtype = torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if bits == 8:
        config = BitsAndBytesConfig(load_in_8bit=True)
    else:
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    return {"quantization_config": config, "dtype": dtype, "device_map": {"": int(os.environ.get("LOCAL_RANK", "0"))}}
