"""Check what tokenizer and processor make of a prompt, before the first record is encoded."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image

_PROBE = "7"


def check_prompt_inputs(adapter: Any) -> None:
    """Check the prompt of an adapter whose model reads tokens and chart together; others pass.

    Args:
        adapter: The `Adapter`, after its `setup`.

    Raises:
        ValueError: Answers would follow an EOS. The message says what to set.

    Example:
        >>> from chartqa_ft import adapter_for, tiny_unichart
        >>> check_prompt_inputs(adapter_for(*tiny_unichart("test")))
    """
    if adapter.prompt_key == "input_ids" and hasattr(adapter, "prompt_batch"):
        _check_end(adapter)


def _check_end(adapter: Any) -> None:
    """Check that the tokenizer puts no EOS between prompt and answer."""
    tokenizer = adapter.tokenizer
    if not _ends(adapter, tokenizer([_PROBE])["input_ids"][0]):
        return
    # Chat templates that begin with BOS, and the processors of some families, do without its special tokens.
    try:
        batch = adapter.prompt_batch([{"question": _PROBE}], [Image.new("RGB", (96, 64), "white")])
        ids = torch.as_tensor(batch["input_ids"])[0][torch.as_tensor(batch["attention_mask"])[0].bool()].tolist()
    except Exception:  # processors raise errors of many types; those of records name the record
        return
    if _ends(adapter, ids) > _ends(adapter, adapter.tokenize([adapter.prompt_text(_PROBE)])[0]):
        raise ValueError(
            f"the tokenizer adds {tokenizer.convert_ids_to_tokens(ids[-1])!r} to the end of every prompt, so that "
            "answers would follow the token that ends them: set processor.tokenizer.add_eos_token = False, or take "
            "the token out of the post-processor of the tokenizer"
        )


def _ends(adapter: Any, ids: list[int]) -> int:
    """Return how many of the last ids end an answer."""
    return next((n for n, token in enumerate(reversed(ids)) if token not in adapter.eos_token_ids), len(ids))
