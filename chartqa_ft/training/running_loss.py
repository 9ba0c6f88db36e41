"""What a run carries over a resume: the sums of its reported loss, exact to the token, and its place in a stream."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

logger = logging.getLogger(__name__)

STATE_NAME = "chartqa_state.json"
"""Written last into a checkpoint, so that it also marks the checkpoint as complete."""


class RunningLoss(TrainerCallback):
    """Sums the losses and counts of answer tokens since the last log and since the first step.

    Upstream reports the mean of batch means, on several ranks of each rank's own share, and forgets the sum on resume.
    The local sums stay on the device; ranks meet only when a number is wanted. `epoch` and `batches` (of this rank in
    this epoch) say where in a stream, which has no length, a run was when it was saved.
    """

    def __init__(self, accelerator: Any):
        self.accelerator = accelerator
        self.reset()

    def reset(self) -> None:
        self.window = [0.0, 0.0]
        self.total = [0.0, 0.0]
        self.local: torch.Tensor | None = None
        self.epoch = self.batches = 0

    def add(self, loss_sum: torch.Tensor, tokens: torch.Tensor) -> None:
        """Add one batch of this rank: the sum over its answer tokens in nats (0-d), and their number (0-d)."""
        dtype = torch.float32 if loss_sum.device.type == "mps" else torch.float64
        batch = torch.stack([loss_sum.detach().to(dtype), tokens.to(dtype)])
        self.local = batch if self.local is None else self.local + batch
        self.batches += 1

    def synchronize(self) -> None:
        """Add what all ranks have summed since the last time. Every rank must call it."""
        local = torch.zeros(2, device=self.accelerator.device) if self.local is None else self.local
        dtype = torch.float32 if local.device.type == "mps" else torch.float64
        loss_sum, tokens = self.accelerator.reduce(local.to(dtype), reduction="sum").tolist()
        self.local = None
        for running in (self.window, self.total):
            running[0] += loss_sum
            running[1] += tokens

    def since_last_log(self) -> float:
        """Mean loss per answer token since the last call, in nats. Every rank must call it."""
        self.synchronize()
        mean = _mean(self.window)
        self.window = [0.0, 0.0]
        return mean

    def since_start(self) -> float:
        """Mean loss per answer token of the whole training, in nats. Every rank must call it."""
        self.synchronize()
        return _mean(self.total)

    def on_epoch_end(self, args, state, control, **kwargs):
        self.epoch, self.batches = self.epoch + 1, 0

    def on_save(self, args, state, control, **kwargs):
        self.synchronize()
        self.accelerator.wait_for_everyone()
        if args.should_save:
            folder = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
            partial = folder / (STATE_NAME + ".part")
            names = ("window", "total", "epoch", "batches")
            partial.write_text(json.dumps({name: getattr(self, name) for name in names}), encoding="utf-8")
            os.replace(partial, folder / STATE_NAME)

    def restore(self, checkpoint: str | Path) -> None:
        """Go on from the sums of a checkpoint; from zero when it holds none (written by another trainer)."""
        self.reset()
        file = Path(checkpoint) / STATE_NAME
        if file.is_file():
            sums = json.loads(file.read_text(encoding="utf-8"))
            self.window, self.total = sums["window"], sums["total"]
            self.epoch, self.batches = sums.get("epoch", 0), sums.get("batches", 0)


def _mean(sums: list[float]) -> float:
    return sums[0] / max(sums[1], 1.0)


def last_checkpoint(output_dir: str | Path) -> str | None:
    """The newest checkpoint in a folder that was written to its end, or `None`.

    A process killed while saving leaves a folder that looks like a checkpoint; such ones are named in a warning and
    passed over.
    """
    numbered = [
        (int(path.name.rpartition("-")[2]), path)
        for path in Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*")
        if path.is_dir() and path.name.rpartition("-")[2].isdecimal()
    ]
    for _, path in sorted(numbered, reverse=True):
        if (path / STATE_NAME).is_file():
            return str(path)
        logger.warning("%s was not written to its end: resuming from an earlier checkpoint. You may delete it.", path)
    return None
