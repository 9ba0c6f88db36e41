"""Adding tokens to the vocabulary of a model, with initial embeddings that can be reproduced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import torch
from torch import nn

from .wrappers import base_model


def add_tokens(model: nn.Module, processor: Any, tokens: Sequence[str], *, special: bool = False) -> list[int]:
    """Add tokens to the vocabulary of the tokenizer, and resize the embeddings of the model (see `grow_vocabulary`).

    Call it before the model is wrapped by PEFT, and pass the ids to `default_lora_config(model, new_tokens=ids)`.

    Args:
        model: The model; its embeddings are resized in place.
        processor: Its processor or tokenizer.
        tokens: The tokens to add.
        special: Whether decoding with `skip_special_tokens=True` skips the tokens.

    Returns:
        The ids of all `tokens`, in order. Tokens that are in the vocabulary already keep their id.

    Raises:
        TypeError: `tokens` is not a list of strings, or `special` is not a boolean.
        ValueError: A token is empty, or the model has fewer logits than embeddings (Mllama); see also
            `grow_vocabulary`.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> model, processor = tiny_unichart("test")
        >>> ids = add_tokens(model, processor, ["<table>", "<chartqa>"])
        >>> model.decoder.get_input_embeddings().num_embeddings == ids[0] + 1
        True
    """
    if isinstance(tokens, str):
        raise TypeError(f"tokens must be a list of strings, got the string {tokens!r}: write [{tokens!r}]")
    if isinstance(tokens, (bytes, Mapping, Set)) or not isinstance(tokens, Iterable):
        raise TypeError(f"tokens must be a list of strings, got {tokens!r}")
    tokens = list(tokens)
    for position, token in enumerate(tokens):
        if not isinstance(token, str):
            raise TypeError(f"tokens[{position}] must be a string, got {token!r}")
        if not token.strip():
            raise ValueError(f"tokens[{position}] is {token!r}: a token cannot be empty or blank")
    if not isinstance(special, bool):
        raise TypeError(f"special must be True or False, got {special!r}")
    tokenizer = getattr(processor, "tokenizer", processor)
    new = [token for token in tokens if token not in tokenizer.get_vocab()]
    owner = _owner(model)
    head = owner.get_output_embeddings()
    if new and head is not None and len(head.weight) < len(owner.get_input_embeddings().weight):
        raise ValueError(
            f"{base_model(model).config.model_type!r} models have fewer logits than embeddings, so a new token would "
            f"never be generated ({new[0]!r}): use tokens of the vocabulary"
        )
    tokenizer.add_tokens(new, special_tokens=special)
    grow_vocabulary(model, processor)
    return [tokenizer.convert_tokens_to_ids(token) for token in tokens]


def grow_vocabulary(model: nn.Module, processor: Any) -> int:
    """Resize the input and output embeddings so that each id of the tokenizer has a row.

    A new row is the mean of the old ones, as https://nlp.stanford.edu/~johnhew/vocab-expansion.html recommends: it
    cannot dominate the distribution. transformers draws new rows around that mean at random. The mean itself can be
    reproduced, so that a base checkpoint gets the same rows again when PEFT weights trained on it are loaded.
    Embeddings with enough rows (many checkpoints pad them) are not changed.

    Call it on the base model before PEFT loads weights with new tokens. It has no effect if no row is missing.

    Args:
        model: The model; its embeddings are resized in place.
        processor: Its processor or tokenizer.

    Returns:
        The number of rows that were added.

    Raises:
        ValueError: Rows are missing and the model is already wrapped by PEFT.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> model, processor = tiny_unichart("test")
        >>> processor.tokenizer.add_tokens(["<table>"])
        1
        >>> grow_vocabulary(model, processor), grow_vocabulary(model, processor)
        (1, 0)
    """
    wanted = len(getattr(processor, "tokenizer", processor))
    base, owner = base_model(model), _owner(model)
    known = owner.get_input_embeddings().weight.shape[0]
    declare_tying(base)
    if wanted <= known:
        return 0
    if getattr(model, "peft_config", None):
        raise ValueError(
            f"the tokenizer has {wanted} tokens and the embeddings {known} rows, but this model is already wrapped by "
            "PEFT: call grow_vocabulary(model, processor) or add_tokens(...) before get_peft_model"
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


def _owner(model: nn.Module) -> Any:
    """Return the part of a model that has the vocabulary: of a `VisionEncoderDecoderModel` the decoder."""
    base = base_model(model)
    return base.decoder if base.config.model_type == "vision-encoder-decoder" else base


def declare_tying(model: nn.Module) -> None:
    """Declare tied input and output embeddings in the two attributes that PEFT reads.

    A `VisionEncoderDecoderModel` declares them only in its decoder, where PEFT does not look: it would train the input
    row of a token but not the output row, and merging would change both (in a tiny model, the logit of the new token
    is off by 0.4).

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> model, processor = tiny_unichart("test")
        >>> declare_tying(model)
        >>> model.config.tie_word_embeddings
        True
    """
    model = base_model(model)
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    if outputs is None or outputs.weight is not inputs.weight:
        return
    model.config.tie_word_embeddings = True
    if not model._tied_weights_keys:
        names = {id(module): name for name, module in model.named_modules()}
        model._tied_weights_keys = {f"{names[id(outputs)]}.weight": f"{names[id(inputs)]}.weight"}
