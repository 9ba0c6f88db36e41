"""Tokens that a checkpoint does not know: they join its vocabulary, with embeddings that can be made again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from .base import base_model


def add_tokens(model: nn.Module, processor: Any, tokens: Sequence[str], *, special: bool = False) -> list[int]:
    """Teach a model new tokens: they join the tokenizer's vocabulary and the embeddings grow, see `grow_vocabulary`.

    Call it before the model is wrapped by PEFT, and give the ids to `default_lora_config(model, new_tokens=ids)`.

    Args:
        special: whether decoding with `skip_special_tokens=True` leaves the tokens out.

    Returns:
        The ids of all `tokens`, in their order; one that was known before keeps its id.

    Raises:
        TypeError: `tokens` is one string.
        ValueError: see `grow_vocabulary`.
    """
    if isinstance(tokens, str):
        raise TypeError(f"tokens must be a list of strings, got the string {tokens!r}: write [{tokens!r}]")
    tokenizer = getattr(processor, "tokenizer", processor)
    tokenizer.add_tokens([token for token in tokens if token not in tokenizer.get_vocab()], special_tokens=special)
    grow_vocabulary(model, processor)
    return [tokenizer.convert_tokens_to_ids(token) for token in tokens]


def grow_vocabulary(model: nn.Module, processor: Any) -> int:
    """Give every id of the tokenizer a row of the embeddings, input and output.

    A new row is the mean of the old ones (as https://nlp.stanford.edu/~johnhew/vocab-expansion.html advises: it cannot
    take over the distribution). transformers draws new rows around that mean; the mean itself is the same every time,
    so that a base checkpoint can be grown again, to the same values, when an adapter is loaded that was trained on it.
    Embeddings that already have rows to spare (many checkpoints pad them) stay as they are.

    Call it on the base model before PEFT loads an adapter with new tokens; it does no harm where nothing is missing.

    Returns:
        How many rows were added.

    Raises:
        ValueError: the model is wrapped by PEFT and too small: grow the base model first.
    """
    wanted = len(getattr(processor, "tokenizer", processor))
    base = base_model(model)
    # Only the decoder of a VisionEncoderDecoderModel has a vocabulary, and the whole refuses to be resized.
    owner = base.decoder if base.config.model_type == "vision-encoder-decoder" else base
    known = owner.get_input_embeddings().weight.shape[0]
    declare_tying(base)
    if wanted <= known:
        return 0
    if getattr(model, "peft_config", None):
        raise ValueError(
            f"the tokenizer has {wanted} tokens and the embeddings {known} rows, and this model already carries a "
            "PEFT adapter: call grow_vocabulary(model, processor) or add_tokens(...) before get_peft_model"
        )
    owner.resize_token_embeddings(wanted, mean_resizing=False)
    rows = [owner.get_input_embeddings().weight]
    head = owner.get_output_embeddings()
    if head is not None:
        rows += [head.weight] if head.weight is not rows[0] else []
        rows += [head.bias] if getattr(head, "bias", None) is not None else []
    with torch.no_grad():
        for parameter in rows:
            parameter[known:] = parameter[:known].float().mean(dim=0).to(parameter.dtype)
    return wanted - known


def declare_tying(model: nn.Module) -> None:
    """Where input and output embeddings are one tensor, make a model say so in the two places where PEFT looks.

    A VisionEncoderDecoderModel says it in its decoder alone, which PEFT does not see: it would train a token's input
    row and leave the output row, and merging would change both (logits of the new token off by 0.4 in a tiny model).
    """
    model = base_model(model)
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    if outputs is None or outputs.weight is not inputs.weight:
        return
    model.config.tie_word_embeddings = True
    if not model._tied_weights_keys:
        names = {id(module): name for name, module in model.named_modules()}
        model._tied_weights_keys = {f"{names[id(outputs)]}.weight": f"{names[id(inputs)]}.weight"}
