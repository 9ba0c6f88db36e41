"""The exact loss: summed over answer tokens here, divided once by the tokens of the whole optimizer step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..adapters import IGNORE_INDEX, Adapter, base_model
from ..adapters.casting import cast_charts
from ..adapters.sharing.prefixes import ChartPrefixes
from ..adapters.tasks.task import QA_NAME
from .arguments import ChartQATrainingArguments


class AnswerLoss:
    """Computes the loss of every answer token of a batch.

    Args:
        adapter: the adapter of the model's family.
        args: `label_smoothing_factor` and `torch_compile` are read.
    """

    def __init__(self, adapter: Adapter, args: ChartQATrainingArguments) -> None:
        self.adapter, self.args = adapter, args

    def __call__(
        self, model: nn.Module, inputs: Mapping[str, Any], encoder_outputs: Any = None
    ) -> tuple[torch.Tensor, Any]:
        """Return the losses in nats, shape (answer tokens,), in the order of the rows, and the model's outputs."""
        labels = inputs["labels"]
        if self.args.torch_compile and isinstance(encoder_outputs, ChartPrefixes):
            encoder_outputs = None  # the model would be compiled again for other caches
        mask = self.adapter.loss_mask(labels, encoder_outputs)
        arguments = self.adapter.model_inputs(inputs, encoder_outputs=encoder_outputs)
        arguments = cast_charts(arguments, base_model(model))
        if self.args.torch_compile:
            # A hook that comes and goes would make the compiled model compile again.
            outputs = model(**arguments)
            outputs["logits"] = outputs["logits"][mask]
        else:
            with answer_logits_only(base_model(model), mask):
                outputs = model(**arguments)
            outputs["logits"] = outputs["logits"].flatten(0, -2)
        return token_losses(outputs["logits"], labels[labels != -100], self.args.label_smoothing_factor), outputs


def weighted_by_task(
    losses: torch.Tensor, inputs: Mapping[str, Any], weights: Mapping[str, float] | None
) -> torch.Tensor:
    """Return the losses of answer tokens, each multiplied by the weight of its record's task.

    Args:
        losses: the loss of each answer token, shape (tokens,).
        inputs: the batch, with `labels` (rows, length) and `rows`, the texts of each row.
        weights: task -> weight; tasks that are missing have 1.

    Example:
        >>> inputs = {"labels": torch.tensor([[-100, 5], [6, 7]]), "rows": [{"task": "table"}, {}]}
        >>> weighted_by_task(torch.ones(3), inputs, {"table": 0.5})
        tensor([0.5000, 1.0000, 1.0000])
    """
    if not weights:
        return losses
    of_rows = [weights.get(row.get("task") or QA_NAME, 1.0) for row in inputs["rows"]]
    row_of_token = (inputs["labels"] != IGNORE_INDEX).nonzero()[:, 0]
    return losses * torch.tensor(of_rows, dtype=losses.dtype, device=losses.device)[row_of_token]


def loss_of_batch(
    losses: torch.Tensor, num_items_in_batch: torch.Tensor | int | None, num_processes: int
) -> torch.Tensor:
    """Return the share of one batch in the mean loss of an optimizer step, as a 0-d tensor.

    Args:
        losses: the loss of each answer token, shape (tokens,).
        num_items_in_batch: number of answer tokens of the optimizer step on all ranks; `None`: those of `losses`.
        num_processes: number of ranks. DDP averages their gradients, so the share of each rank is multiplied by it.

    Example:
        >>> loss_of_batch(torch.tensor([1.0, 3.0]), 8, num_processes=2)
        tensor(1.)
        >>> loss_of_batch(torch.tensor([1.0, 3.0]), None, num_processes=2)
        tensor(2.)
    """
    if num_items_in_batch is None:
        return losses.sum() / max(losses.numel(), 1)
    divisor = torch.as_tensor(num_items_in_batch, device=losses.device).clamp(min=1)
    return losses.sum() / divisor * num_processes


@contextmanager
def answer_logits_only(model: nn.Module, mask: torch.BoolTensor) -> Iterator[None]:
    """Let the output embedding of `model` see only the positions in `mask` within this context.

    Logits over a vocabulary of 57,546 at every prompt and padding position take most of the memory of a small batch
    and much of its time, but no part in the loss. The forward pass returns logits of shape
    (1, mask.sum(), vocabulary), with a dimension of rows, since Chameleon sets some of them by three indices.

    Args:
        model: the transformers model (unwrapped), with `get_output_embeddings()`.
        mask: bool, shape (rows, length): the positions whose logits are wanted.

    Raises:
        ValueError: within the context, the model has other positions than the batch.
    """

    def select(module: nn.Module, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        if args[0].shape[:-1] != mask.shape:
            rows, length = mask.shape
            raise ValueError(
                f"{type(model).__name__} computes logits for {tuple(args[0].shape[:-1])} positions of a batch of "
                f"{rows} x {length} tokens (it may put those of the chart before the text), so it is not known which "
                "of them predict the answer: this family cannot be trained with this adapter"
            )
        return (args[0][mask][None],)

    handle = model.get_output_embeddings().register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()


def token_losses(logits: torch.Tensor, targets: torch.LongTensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """Return the cross-entropy of each answer token in nats, shape (tokens,), in float32 or wider.

    Args:
        logits: shape (tokens, vocabulary), any floating dtype.
        targets: int64, shape (tokens,).
        label_smoothing: weight of the uniform distribution over the vocabulary (Szegedy et al., 2016, section 7).

    Example:
        >>> token_losses(torch.zeros(2, 4), torch.tensor([0, 3]))  # log(4)
        tensor([1.3863, 1.3863])
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(logits, targets, reduction="none", label_smoothing=label_smoothing)


def sum_by_row(losses: torch.Tensor, mask: torch.BoolTensor) -> torch.Tensor:
    """Sum the losses (tokens,) of the positions in `mask` (rows, length) for each row: float64, shape (rows,).

    Example:
        >>> mask = torch.tensor([[False, True, True], [False, False, True]])
        >>> sum_by_row(torch.tensor([1.0, 2.0, 4.0]), mask)
        tensor([3., 4.], dtype=torch.float64)
    """
    row_of_token = mask.nonzero()[:, 0]
    return torch.zeros(len(mask), dtype=torch.float64, device=losses.device).index_add_(
        0, row_of_token, losses.double()
    )
