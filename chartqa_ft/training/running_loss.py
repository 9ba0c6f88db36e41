"""`RunningLoss`: the reported loss, exact to the token, and the place in a stream, both kept across a resume."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..batching.streams import StreamPlace, StreamSampler
from ..files import read_json
from .best_metric import compared_metric
from .checkpoints import STATE_NAME, last_checkpoint, mark_checkpoint
from .data_order import changed_order
from .saving import checkpoint_folder

logger = logging.getLogger(__name__)

__all__ = ["RunningLoss", "last_checkpoint"]

_ADVICE = "resume from another checkpoint"
_STORED = ("window", "total", "epoch", "batches", "run", "order")


class RunningLoss:
    """Sums the losses and the number of answer tokens since the last log and since the first step.

    Upstream reports the mean of batch means, on several ranks of each rank's own batches, and forgets the sum on
    resume. Here local sums stay on the device, and ranks synchronize only when a number is needed. `epoch` and
    `batches` (of this rank in this epoch) say how far a stream, which has no length, was read at the last save.

    Args:
        accelerator: adds up the sums of all ranks.
        upstream: returns the sum (0-d) that upstream logs of a subclass's loss; `None` if these sums are logged.

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

    def __init__(self, accelerator: Any, upstream: Callable[[], torch.Tensor] | None = None):
        self.accelerator, self.upstream = accelerator, upstream
        self.reset()

    def reset(self) -> None:
        """Start from zero."""
        self.window = [0.0, 0.0]
        self.total = [0.0, 0.0]
        self.local: torch.Tensor | None = None
        self.epoch = self.batches = 0
        self.run: str | None = None
        """The identity of the run, the same after every resume."""
        self.stream: StreamSampler | None = None
        """The reader of a stream of training records."""
        self.stream_place: StreamPlace | None = None
        """What was read of the stream in this epoch before a resume."""
        self.order: dict[str, Any] | None = None
        """What decides about the rows of each step; before `follow`, that of the checkpoint."""
        self.checkpoint: str | Path | None = None
        """The checkpoint that the run goes on from."""
        self._before_step: torch.Tensor | None = None
        self._upstream_before: torch.Tensor | None = None

    def follow(self, sampler: Any, order: dict[str, Any] | None = None, *, strict: bool = True) -> None:
        """Take the place in a stream from its sampler. After a resume, the sampler compares what it reads up to it.

        Args:
            sampler: the sampler of the training loader; others than a `StreamSampler` have no place.
            order: what decides about the rows of each step (see `order_of`).
            strict: whether other records than before the resume are an error; otherwise a warning.

        Raises:
            ValueError: batches had another size before the resume, so that the run would go on at another record, or
                something else gives the steps other rows than before.
        """
        before, self.order = self.order, order
        self.stream = sampler if isinstance(sampler, StreamSampler) else None
        if self.stream is not None and self.stream_place is not None:
            together, rows = self.stream.batch_size * self.stream.num_replicas, self.stream_place.rows
            if -(-rows // together) != self.batches:
                self._differs(
                    f"the checkpoint was saved after {rows} records of epoch {self.epoch}, which are not "
                    f"{self.batches} batches of {together}, over all processes, as this run has them",
                    "keep per_device_train_batch_size and the number of processes",
                    strict=strict,
                )
                return
            self.stream.expect(self.epoch, self.stream_place, strict=strict)
        changed = "; ".join(changed_order(before, order)) if before and order else ""
        if changed:
            self._differs(
                f"{self.checkpoint} cannot be resumed exactly: {changed}",
                "train on the same rows in the same order, start a new training from its weights",
                strict=strict,
            )

    def _differs(self, message: str, advice: str, *, strict: bool) -> None:
        """Raise an error, or warn, because the run goes on with other rows than it would have had."""
        if strict:
            raise ValueError(
                f"{message}: {advice}, or accept that some records are read twice or not at all in this epoch with "
                "allow_inexact_resume=True"
            )
        logger.warning("%s. Some records are read twice or not at all (allow_inexact_resume=True)", message)

    def begin_step(self) -> None:
        """Remember the sums before an optimizer step, for `discard_step`."""
        self._before_step = self.local
        self._upstream_before = None if self.upstream is None else self.upstream().clone()

    def discard_step(self) -> None:
        """Leave out what was added since `begin_step`: the weights were not updated by it."""
        self.local = self._before_step
        if self.upstream is not None and self._upstream_before is not None:
            self.upstream().copy_(self._upstream_before)

    def add(self, loss_sum: torch.Tensor, tokens: torch.Tensor) -> None:
        """Add one batch of this rank: the sum over its answer tokens in nats (0-d), and their number (0-d)."""
        dtype = torch.float32 if loss_sum.device.type == "mps" else torch.float64
        batch = torch.stack([loss_sum.detach().to(dtype), tokens.to(dtype)])
        self.local = batch if self.local is None else self.local + batch

    def count_batch(self) -> None:
        """Count a batch of this epoch, as the place in a stream; its loss may be added never, or several times."""
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

    def restart_epoch(self) -> None:
        """Read a stream from the beginning of the current epoch again."""
        self.batches, self.stream_place, self.order = 0, None, None

    def end_epoch(self, *, stops: bool = False) -> None:
        """Count an epoch that has ended.

        Args:
            stops: whether the training ends too, such as at `max_steps`. It may be within the epoch of a stream, where
                a resumed run then goes on.
        """
        if stops and self.stream is not None and self.stream.batches_in_epoch != self.batches:
            return
        self.epoch, self.batches = self.epoch + 1, 0

    def on_save(self, args: Any, state: Any, control: Any, *, folder: Path | None = None, **kwargs: Any) -> None:
        """Mark a checkpoint as complete, with the sums: after all that writes into it. Every rank must call it.

        Args:
            args: the arguments of the trainer.
            state: its state.
            control: its control, unused.
            folder: the checkpoint; `None` for that of this step in `args.output_dir`.
            kwargs: unused.
        """
        self.synchronize()
        self.accelerator.wait_for_everyone()
        if args.should_save:
            stored = {name: getattr(self, name) for name in _STORED}
            stored.update(step=state.global_step, world_size=args.world_size, best=compared_metric(args))
            if self.stream is not None:
                stored["stream"] = self.stream.place(self.batches)
            mark_checkpoint(folder or checkpoint_folder(args.output_dir, state.global_step), stored)

    def restore(self, checkpoint: str | Path | None) -> None:
        """Continue from the sums of a checkpoint, or from zero if it has none (it was written by another trainer).

        Args:
            checkpoint: the folder; `None` starts from zero.

        Raises:
            ValueError: the file with the sums is damaged; the message names it.
        """
        self.reset()
        self.checkpoint = checkpoint
        file = None if checkpoint is None else Path(checkpoint) / STATE_NAME
        if file is not None and file.is_file():
            sums = read_json(file, advice=_ADVICE)
            try:
                self.window, self.total = sums["window"], sums["total"]
            except KeyError as error:
                raise ValueError(f"{file} is damaged (it lacks {error}): {_ADVICE}") from error
            place = sums.get("stream")
            if place is not None and (not isinstance(place, list) or [type(part) for part in place] != [int, str]):
                raise ValueError(f"{file} is damaged (its place in the stream is {place!r}): {_ADVICE}")
            self.stream_place = None if place is None else StreamPlace(*place)
            self.epoch, self.batches = sums.get("epoch", 0), sums.get("batches", 0)
            order = sums.get("order")  # that checkpoints of earlier releases lack
            self.order = order if isinstance(order, dict) else None


def _mean(sums: list[float]) -> float:
    return sums[0] / max(sums[1], 1.0)
