"""Settings of generation that look at single rows: texts that end an answer, and a function of allowed tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers import StopStringCriteria

__all__ = ["numbered", "with_stop_strings"]

_ALLOWED = "prefix_allowed_tokens_fn"


def with_stop_strings(
    model: nn.Module, tokenizer: Any, settings: Mapping[str, Any], arguments: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return settings and arguments of `generate` with `stop_strings` as a stopping criterion.

    Upstream needs the tokenizer for it, which it does not hand on to every way of decoding.

    Args:
        model: An unwrapped model, whose own `stop_strings` are used if the settings have none.
        tokenizer: The tokenizer.
        settings: Fields of the generation config that a user passed.
        arguments: Other arguments of `model.generate`.

    Example:
        >>> from chartqa_ft.models.tiny import tiny_unichart
        >>> model, processor = tiny_unichart()
        >>> settings, arguments = with_stop_strings(model, processor.tokenizer, {"stop_strings": ["."]}, {})
        >>> settings, [type(one).__name__ for one in arguments["stopping_criteria"]]
        ({'stop_strings': None}, ['StopStringCriteria'])
    """
    own = getattr(model.generation_config, "stop_strings", None)
    texts = settings.get("stop_strings", own)
    if texts is None:
        return dict(settings), dict(arguments)
    criteria = [StopStringCriteria(tokenizer, texts), *(arguments.get("stopping_criteria") or [])]
    return {**settings, "stop_strings": None}, {**arguments, "stopping_criteria": criteria}


def numbered(arguments: Mapping[str, Any], rows: Sequence[Any] | torch.Tensor) -> dict[str, Any]:
    """Return arguments of `generate` for a part of a batch, whose function of allowed tokens gets other row numbers.

    Args:
        arguments: Arguments of `generate`.
        rows: For each row of the part, what `prefix_allowed_tokens_fn` gets as its number.

    Example:
        >>> part = numbered({"prefix_allowed_tokens_fn": lambda row, ids: [row]}, [5, 7])
        >>> part["prefix_allowed_tokens_fn"](1, None)
        [7]
    """
    allowed: Callable[[Any, torch.Tensor], list[int]] | None = arguments.get(_ALLOWED)
    if allowed is None:
        return dict(arguments)
    numbers = rows.tolist() if isinstance(rows, torch.Tensor) else list(rows)
    return {**arguments, _ALLOWED: lambda row, ids: allowed(numbers[row], ids)}
