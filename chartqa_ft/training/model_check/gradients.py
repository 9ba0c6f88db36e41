"""Line 5: a step has the same gradient, however its rows are split into batches."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback

from ..arguments import ChartQATrainingArguments
from ..trainer import ChartQATrainer
from .report import CheckLine
from .rounding import in_full
from .subject import Subject
from .untouched import untouched

__all__ = ["check_gradients_of_splits", "gradient_sample", "relative_l2", "trainer_of"]

ROWS = 4
_LARGEST_SAMPLE = 4_000_000
"""Number of values of a gradient that are compared, evenly spread over all weights."""
_LAUNCHED = ("ACCELERATE_MIXED", "ACCELERATE_DYNAMO", "ACCELERATE_USE")
"""Variables with which `accelerate launch` would change how the trainer computes: a model is checked as it is."""
_SPLITS = ((4, 1), (2, 2), (1, 4))
"""Rows of a batch, and batches of a step."""


class _StepSeen(Exception):
    """The gradients of a step are there: the optimizer must not use them."""


class _SampleGradient(TrainerCallback):
    """Takes a sample of the gradients, and ends the training before the optimizer's step."""

    def __init__(self) -> None:
        self.sample: torch.Tensor | None = None

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.sample = gradient_sample(model)
        raise _StepSeen


def check_gradients_of_splits(subject: Subject) -> CheckLine:
    """Compare the gradients of 4 rows in one batch, in two of two and in four of one, as the trainer computes them."""
    rows = [subject.examples[number % len(subject.examples)] for number in range(ROWS)]
    found = {}
    for size, batches in _SPLITS:
        with tempfile.TemporaryDirectory() as folder, untouched(subject.model):
            found[f"{size}x{batches}"] = _gradient(subject, rows, folder, size, batches)
    names = list(found)
    differences = {name: relative_l2(found[name], found[names[0]]) for name in names[1:]}
    number, bound = max(differences.values()), subject.rounding.gradients
    weights = sum(weight.numel() for weight in subject.model.parameters() if weight.requires_grad)
    kind = "PEFT weights" if subject.is_peft else "weights"
    words = f"{len(rows)} questions; {weights:,} trainable {kind}"
    if len(found[names[0]]) < weights:
        words += f", of which {len(found[names[0]]):,} are compared"
    if number > bound:
        words += (
            "\n" + ", ".join(f"{name} differs by {value:.1e}" for name, value in differences.items()) + " from "
            f"{names[0]}: gradient accumulation would train another model than a large batch"
        )
    return CheckLine(
        "gradients",
        "pass" if number <= bound else "fail",
        number,
        bound,
        words,
        {"relative_differences": differences, "weights": weights},
    )


def _gradient(subject: Subject, rows: Sequence[Mapping[str, Any]], folder: str, size: int, batches: int) -> Any:
    sample = _SampleGradient()
    settings = {"per_device_train_batch_size": size, "gradient_accumulation_steps": batches}
    trainer = trainer_of(subject, rows, folder, callbacks=[sample], **settings)
    with suppress(_StepSeen):
        trainer.train()
    assert sample.sample is not None
    return sample.sample


def trainer_of(
    subject: Subject, rows: Sequence[Mapping[str, Any]], folder: str, *, callbacks: Sequence[Any] = (), **changes: Any
) -> ChartQATrainer:
    """Return a trainer of the model as it is: in its dtype, on its device, without an optimizer that has states.

    Args:
        subject: The model. Call this within `untouched`.
        rows: Records to train on.
        folder: An empty folder.
        callbacks: Callbacks of the trainer.
        **changes: Training arguments that differ.
    """
    settings: dict[str, Any] = {
        "output_dir": folder,
        "max_steps": 1,
        "optim": "sgd",
        "warmup_steps": 0,
        "max_grad_norm": 0.0,
        "random_padding": False,
        "group_by_chart": False,
        "chart_cache": "off",
        "bf16": False,
        "fp16": False,
        "chunk_encoder": False,
        "save_strategy": "no",
        "eval_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "write_predictions": False,
        "use_cpu": subject.device.type == "cpu",
        **changes,
    }
    for name in [name for name in os.environ if name.startswith(_LAUNCHED)]:
        del os.environ[name]
    args = ChartQATrainingArguments(**settings)
    args._n_gpu = min(args.n_gpu, 1)  # Trainer would split a batch over all GPUs that it sees
    return ChartQATrainer(
        subject.model,
        args,
        train_dataset=[dict(row) for row in rows],
        processing_class=subject.adapter.processor,
        adapter=subject.adapter,
        callbacks=list(callbacks),
    )


def gradient_sample(model: nn.Module) -> torch.Tensor:
    """Return the gradients of the trainable weights as one vector on the CPU, or an even sample of them.

    Weights without a gradient count as zeros.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> layer(torch.ones(1, 2)).sum().backward()
        >>> gradient_sample(layer).tolist()
        [1.0, 1.0, 1.0]
    """
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    step = max(1, -(-sum(weight.numel() for weight in weights) // _LARGEST_SAMPLE))
    parts = []
    for weight in weights:
        if weight.grad is None:
            parts.append(torch.zeros(-(-weight.numel() // step)))
        else:
            parts.append(in_full(weight.grad.reshape(-1)[::step]))
    return torch.cat(parts) if parts else torch.zeros(0)


def relative_l2(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return |found - expected| / |expected|, infinity if one of them is not finite.

    Example:
        >>> relative_l2(torch.tensor([3.0, 4.5]), torch.tensor([3.0, 4.0]))
        0.1
    """
    if not (found.isfinite().all() and expected.isfinite().all()):
        return float("inf")
    return float((found.double() - expected.double()).norm() / expected.double().norm().clamp(min=1e-30))


@contextmanager
def fresh_gradients(model: nn.Module) -> Iterator[None]:
    """Context that begins and ends without gradients.

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> with fresh_gradients(layer):
        ...     layer(torch.ones(1, 1)).sum().backward()
        >>> print(layer.weight.grad)
        None
    """
    model.zero_grad(set_to_none=True)
    try:
        yield
    finally:
        model.zero_grad(set_to_none=True)
