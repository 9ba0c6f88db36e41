"""`RunningLoss`: the reported loss, exact to the token, and the place in a stream, both kept across a resume."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..files import read_json, write_json
from .saving import checkpoint_folder

logger = logging.getLogger(__name__)

STATE_NAME = "chartqa_state.json"
"""The file that is written last into a checkpoint, and so marks it as complete."""
_ADVICE = "resume from another checkpoint"
_STORED = ("window", "total", "epoch", "batches")


class RunningLoss(TrainerCallback):
    """Sums the losses and the number of answer tokens since the last log and since the first step.

    Upstream reports the mean of batch means, on several ranks of each rank's own batches, and forgets the sum on
    resume. Here local sums stay on the device, and ranks synchronize only when a number is needed. `epoch` and
    `batches` (of this rank in this epoch) say how far a stream, which has no length, was read at the last save.

    Args:
        accelerator: adds up the sums of all ranks.

    Example:
        >>> from accelerate import Accelerator
        >>> loss = RunningLoss(Accelerator(cpu=True))
        >>> loss.add(torch.tensor(6.0), torch.tensor(3))
        >>> loss.since_last_log()
        2.0
        >>> loss.add(torch.tensor(4.0), torch.tensor(1))
        >>> loss.since_last_log(), loss.since_start()
        (4.0, 2.5)
    """

    def __init__(self, accelerator: Any):
        self.accelerator = accelerator
        self.reset()

    def reset(self) -> None:
        """Start from zero."""
        self.window = [0.0, 0.0]
        self.total = [0.0, 0.0]
        self.local: torch.Tensor | None = None
        self.epoch = self.batches = 0

    def add(self, loss_sum: torch.Tensor, tokens: torch.Tensor) -> None:
        """Add one batch of this rank: the sum over its answer tokens in nats (0-d), and their number (0-d)."""
        dtype = torch.float32 if loss_sum.device.type == "mps" else torch.float64
        batch = torch.stack([loss_sum.detach().to(dtype), tokens.to(dtype)])
        self.local = batch if self.local is None else self.local + batch
        self.count_batch()

    def count_batch(self) -> None:
        """Count a batch of this epoch, as the place in a stream."""
        self.batches += 1

    def synchronize(self) -> None:
        """Add up what all ranks have summed since the last call. Every rank must call it."""
        local = torch.zeros(2, device=self.accelerator.device) if self.local is None else self.local
        dtype = torch.float32 if local.device.type == "mps" else torch.float64
        loss_sum, tokens = self.accelerator.reduce(local.to(dtype), reduction="sum").tolist()
        self.local = None
        for running in (self.window, self.total):
            running[0] += loss_sum
            running[1] += tokens

    def since_last_log(self) -> float:
        """Return the mean loss per answer token since the last call, in nats. Every rank must call it."""
        self.synchronize()
        mean = _mean(self.window)
        self.window = [0.0, 0.0]
        return mean

    def since_start(self) -> float:
        """Return the mean loss per answer token of the whole training, in nats. Every rank must call it."""
        self.synchronize()
        return _mean(self.total)

    def on_epoch_end(self, args, state, control, **kwargs):
        self.epoch, self.batches = self.epoch + 1, 0

    def on_save(self, args, state, control, **kwargs):
        self.synchronize()
        self.accelerator.wait_for_everyone()
        if args.should_save:
            folder = checkpoint_folder(args.output_dir, state.global_step)
            write_json(folder / STATE_NAME, {name: getattr(self, name) for name in _STORED}, indent=None)

    def restore(self, checkpoint: str | Path | None) -> None:
        """Continue from the sums of a checkpoint, or from zero if it has none (it was written by another trainer).

        Args:
            checkpoint: the folder; `None` starts from zero.

        Raises:
            ValueError: the file with the sums is damaged; the message names it.
        """
        self.reset()
        file = None if checkpoint is None else Path(checkpoint) / STATE_NAME
        if file is not None and file.is_file():
            sums = read_json(file, advice=_ADVICE)
            try:
                self.window, self.total = sums["window"], sums["total"]
            except KeyError as error:
                raise ValueError(f"{file} is damaged (it lacks {error}): {_ADVICE}") from error
            self.epoch, self.batches = sums.get("epoch", 0), sums.get("batches", 0)


def _mean(sums: list[float]) -> float:
    return sums[0] / max(sums[1], 1.0)


def last_checkpoint(output_dir: str | Path) -> str | None:
    """Return the newest complete checkpoint in a folder, or `None`.

    A process that was killed while saving leaves an incomplete checkpoint. Those are skipped with a warning.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> last_checkpoint(folder) is None
        True
        >>> _ = write_json(folder / "checkpoint-20" / "chartqa_state.json", {})
        >>> Path(last_checkpoint(folder)).name
        'checkpoint-20'
    """
    numbered = [
        (int(path.name.rpartition("-")[2]), path)
        for path in Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*")
        if path.is_dir() and path.name.rpartition("-")[2].isdecimal()
    ]
    for _, path in sorted(numbered, reverse=True):
        if (path / STATE_NAME).is_file():
            return str(path)
        logger.warning("%s was not written to its end: resuming from an earlier checkpoint. You can delete it.", path)
    return None
