"""The loss of the answers, exact to the token: summed here, divided once by the tokens of the whole optimizer step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn


@contextmanager
def answer_logits_only(model: nn.Module, mask: torch.BoolTensor) -> Iterator[None]:
    """Within this context the output embedding of `model` sees only the positions in `mask`.

    A vocabulary of 57,546 at every prompt and padding position is most of a small batch's memory and a good part of
    its time, and takes no part in the loss. The forward pass then returns logits of shape (mask.sum(), vocabulary).

    Args:
        model: the transformers model (unwrapped), with `get_output_embeddings()`.
        mask: bool, shape (rows, length): the positions whose logits are wanted.
    """

    def select(module: nn.Module, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        return (args[0][mask],)

    handle = model.get_output_embeddings().register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()


def token_losses(logits: torch.Tensor, targets: torch.LongTensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """Cross-entropy of each answer token in nats, at least in float32: shape (tokens,).

    Args:
        logits: shape (tokens, vocabulary), any floating dtype.
        targets: int64, shape (tokens,).
        label_smoothing: weight of the uniform distribution over the vocabulary (Szegedy et al., 2016, section 7).
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(logits, targets, reduction="none", label_smoothing=label_smoothing)


def sum_by_row(losses: torch.Tensor, mask: torch.BoolTensor) -> torch.Tensor:
    """Sum the losses (tokens,) of the positions in `mask` (rows, length) for each row: float64, shape (rows,)."""
    row_of_token = mask.nonzero()[:, 0]
    return torch.zeros(len(mask), dtype=torch.float64, device=losses.device).index_add_(
        0, row_of_token, losses.double()
    )
