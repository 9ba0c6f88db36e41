"""`StopOnSignal`: SIGTERM, SIGINT and SIGUSR1 end a training after a step, with a checkpoint of it."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_utils import has_length

from .arguments import ChartQATrainingArguments
from .checkpoints import find_damage
from .saving import checkpoint_folder

logger = logging.getLogger(__name__)

__all__ = ["EvaluationStopped", "StopOnSignal", "outlive_signals"]

_SAME_SECONDS = 5.0
"""A launcher forwards a signal that the terminal has sent to all processes already: the same signal, twice."""
_GRACE_SECONDS = 30.0
"""Launchers kill the processes this long after they have forwarded a signal."""
_WORKER_SECONDS = 60
_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name)]
_DEFAULT = (signal.SIG_DFL, signal.default_int_handler)


class EvaluationStopped(Exception):
    """An evaluation was left because of a signal: its step has yet to be saved."""


class StopOnSignal(TrainerCallback):
    """Ends a training on SIGTERM (preemption), SIGINT (Ctrl-C) or SIGUSR1 (Slurm), once its step is saved.

    The handler only notes the signal. At the end of a step the ranks agree on it, so that one rank that got it alone
    stops all; on GPUs with several ranks this takes effect one step later, because no step waits for the answer. The
    checkpoint is saved, an evaluation that is due at this step is left out, and the process then dies of the signal,
    as it would have without a handler. A second signal within 5 seconds is the same one; a later one ends the process
    at once.

    Ranks also agree after each batch of an evaluation of the training loop, which is then left, and after each save.
    So a signal waits for one step, one batch of an evaluation, or one save, and for the save after it; on several
    ranks, an evaluation of a stream goes on to its end. An evaluation that was left or left out is not made up for on
    resume: its step has no metrics.

    Without a launcher the exit status is that of the signal. torchrun and accelerate exit with 1, and send SIGKILL 30
    seconds after they have forwarded SIGTERM or SIGINT. They forward no SIGUSR1, of which they die and leave the ranks
    behind, unless they are told to: `torchrun --signals-to-handle SIGTERM,SIGINT,SIGUSR1`.

    Signals for which the program has a handler of its own, or which are ignored, are left alone, and so is a training
    outside of the main thread. In a notebook SIGINT (the stop button) ends in `KeyboardInterrupt`, not the kernel.

    Args:
        args: the arguments of the trainer.
        accelerator: its accelerator.
    """

    def __init__(self, args: ChartQATrainingArguments, accelerator: Any) -> None:
        self.args, self.accelerator = args, accelerator
        self._old: dict[int, Any] = {}
        self._reset()

    def _reset(self) -> None:
        self.received = 0
        """The signal that this process got, or 0."""
        self.agreed = 0
        """The signal on which all ranks stop, or 0."""
        self.step: int | None = None
        """The step at which they stopped."""
        self._first_at = 0.0
        self._waiting: tuple[torch.Tensor, Any] | None = None
        self._step_began = self._step_seconds = 0.0
        self._warned = False
        self._evaluating = False

    # ------------------------------------------------------------------ handlers
    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle signals from the first step of the training within this context, and die of one at its end."""
        self._reset()
        try:
            yield
        except EvaluationStopped:
            pass
        finally:
            self._restore()
        if self.received or self.agreed:
            self._die(self.agreed or self.received)

    def _install(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if handler in _DEFAULT:
                self._old[number] = signal.signal(number, self._note)
            elif handler is not signal.SIG_IGN:
                logger.info("%s has a handler of the program, which is kept", signal.Signals(number).name)

    def _restore(self) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        self._old = {}

    def _note(self, number: int, frame: Any) -> None:
        now = time.monotonic()
        if not self.received:
            self.received, self._first_at = number, now
        elif now - self._first_at > _SAME_SECONDS:
            _end_by(number)

    def _die(self, number: int) -> None:
        if self.agreed:
            self.accelerator.wait_for_everyone()  # a launcher kills all others as soon as one has ended
        name = signal.Signals(number).name
        if self.args.process_index == 0:
            print(f"{name}: {self._where()}", file=sys.stderr, flush=True)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        _end_by(number)

    def _where(self) -> str:
        if self.step is None:
            return "training had already ended"
        folder = checkpoint_folder(self.args.output_dir, self.step)
        if find_damage(folder, quick=True) is not None:
            return f"training stopped after step {self.step}"
        go_on = "go on with train(resume_from_checkpoint=True), or --resume_from_checkpoint last"
        if self.args.save_only_model:
            go_on = "with save_only_model=True it holds weights only, and cannot be resumed exactly"
        return f"training stopped after step {self.step}, which is saved in {folder}: {go_on}"

    # ------------------------------------------------------------------ in the loop
    def on_train_begin(self, args, state, control, **kwargs):
        self._install()

    def on_step_begin(self, args, state, control, **kwargs):
        self._step_began = time.monotonic()

    def on_step_end(self, args, state, control, **kwargs):
        self._step_seconds = time.monotonic() - self._step_began
        if self._stops(state):
            if control.should_evaluate:
                logger.warning("the evaluation of step %d is left out, to save in time", state.global_step)
            control.should_save = control.should_training_stop = True
            control.should_evaluate = False

    def on_prediction_step(self, args, state, control, **kwargs):
        if self._evaluating and self._stops(state):
            logger.warning("the evaluation of step %d is left, to save in time", state.global_step)
            raise EvaluationStopped

    def on_save(self, args, state, control, **kwargs):
        if self._stops(state, wait=True):
            control.should_training_stop = True

    def _stops(self, state: Any, *, wait: bool = False) -> bool:
        """Return whether the ranks stop here, at a step that they have not stopped at before."""
        if not self.agreed:
            self.agreed = self._agree(wait=wait)
        if not self.agreed or self.step is not None:
            return False
        self.step = state.global_step
        return True

    @contextmanager
    def evaluating(self, loader: Any, is_in_train: bool) -> Iterator[None]:
        """Let a signal end the evaluation within this context. Every rank must call it.

        On several ranks, an evaluation of a stream, or of unequal numbers of batches, is not left: after some batch,
        one rank would wait for an answer that others do not give.

        Args:
            loader: the batches of this rank.
            is_in_train: whether the training loop evaluates, which saves its step afterwards.

        Raises:
            EvaluationStopped: a rank got a signal.
        """
        before, self._evaluating = self._evaluating, is_in_train and self._same_length(loader)
        try:
            yield
        finally:
            self._evaluating = before

    def _same_length(self, loader: Any) -> bool:
        if self.args.world_size == 1:
            return True
        batches = len(loader) if has_length(loader) else -1
        most = torch.tensor([batches, -batches], device=self.accelerator.device)
        torch.distributed.all_reduce(most, op=torch.distributed.ReduceOp.MAX)
        return most.tolist() == [batches, -batches] and batches >= 0

    def on_epoch_end(self, args, state, control, **kwargs):
        if self.step is not None:  # upstream would evaluate and save as at the end of a whole epoch
            control.should_save = control.should_evaluate = False

    def _agree(self, *, wait: bool = False) -> int:
        """Return the largest signal that a rank has got, or 0. Every rank must call it.

        Args:
            wait: whether a GPU waits for the answer. Otherwise it is that of the call before.
        """
        if self.args.world_size == 1:
            return self.received
        flag = torch.full((1,), float(self.received), device=self.accelerator.device)
        torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
        if wait or flag.device.type != "cuda":
            return int(flag.item())
        before, event = self._waiting, torch.cuda.Event()
        host = torch.empty((1,), pin_memory=True).copy_(flag, non_blocking=True)
        event.record()
        self._waiting = host, event
        if before is None:
            return 0
        before[1].synchronize()
        return int(before[0].item())

    @contextmanager
    def timed_save(self) -> Iterator[None]:
        """Warn once if a step and a save, which happen in this context, take longer than a launcher waits."""
        began = time.monotonic()
        yield
        seconds = self._step_seconds + time.monotonic() - began
        if seconds > _GRACE_SECONDS and not self._warned and self.args.process_index == 0:
            self._warned = True
            logger.warning(
                "a step and its checkpoint take %.0f seconds; torchrun and accelerate kill a run %.0f seconds after "
                "they have forwarded a signal, and then the last checkpoint is the one before",
                seconds,
                _GRACE_SECONDS,
            )


def _end_by(number: int) -> None:
    """End this process by a signal, under its default handler."""
    if number == signal.SIGINT and hasattr(sys, "ps1"):
        raise KeyboardInterrupt  # in a notebook, do not end the kernel
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def outlive_signals(worker: int) -> None:
    """Let a worker of a data loader live on when a signal is sent to all processes: the step needs its batches.

    After SIGTERM it lives for a minute, so that a worker which does not end by itself can still be terminated.

    Args:
        worker: the number of the worker, unused.
    """
    for number in _SIGNALS:
        late = number == signal.SIGTERM and hasattr(signal, "alarm")
        signal.signal(number, _end_later if late else signal.SIG_IGN)


def _end_later(number: int, frame: Any) -> None:
    signal.alarm(_WORKER_SECONDS)
