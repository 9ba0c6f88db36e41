"""`FailedEvaluations`: an evaluation that fails during training costs no step, and its error says where that is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from ..resources import FullDiskError, is_out_of_memory, message_of, same_kind
from .checks.metric_function import MetricsError
from .saving import checkpoint_folder
from .signals import EvaluationStopped

__all__ = ["FailedEvaluations"]


class FailedEvaluations:
    """Saves the current step of a training when one of its evaluations raises an error.

    On several processes, only errors that all of them raise together allow that: one alone that has no memory, no disk
    or no network left cannot save a step together with others.

    Args:
        trainer: the trainer.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self.looping = False
        """Whether the training loop evaluates, with the callbacks of that evaluation; still so after an error."""
        self.reading = False
        """Whether batches of an evaluation are read, also of one that a callback began; still so after an error."""

    @contextmanager
    def in_loop(self) -> Iterator[None]:
        """Note that the training loop evaluates within this context."""
        self.looping = True
        yield
        self.looping = False

    @contextmanager
    def in_batches(self) -> Iterator[None]:
        """Note that batches are read within this context."""
        self.reading = True
        yield
        self.reading = False

    @contextmanager
    def saving_step(self, save: Callable[[], None]) -> Iterator[None]:
        """Save the step of the training within this context if an evaluation of it fails, and say so in its error.

        Args:
            save: saves the step.
        """
        self.looping = self.reading = False
        try:
            yield
        except Exception as error:
            saved = self._saves(error)
            self.looping = self.reading = False
            if not saved:
                raise
            step = self.trainer.state.global_step
            _raise_after_saving(error, save, checkpoint_folder(self.trainer.args.output_dir, step), step)

    def _saves(self, error: Exception) -> bool:
        state, args = self.trainer.state, self.trainer.args
        if not state.global_step:
            return False
        if isinstance(error, (MetricsError, EvaluationStopped)):
            return True
        if args.world_size > 1 or state.is_hyper_param_search:  # a trial may be pruned by an error
            return False
        short_of = is_out_of_memory(error) or isinstance(error, FullDiskError)
        return self.looping or (self.reading and short_of)


def _raise_after_saving(error: Exception, save: Callable[[], None], folder: Path, step: int) -> NoReturn:
    """Save a step after an evaluation has failed, and raise its error with a sentence about that.

    An error that cannot be made anew gets a note, and so does one whose step cannot be saved.
    """
    try:
        save()
    except Exception as failure:
        error.add_note(f"Step {step} could not be saved ({type(failure).__name__}: {failure})")
        raise error from None
    if isinstance(error, EvaluationStopped):
        raise error
    said = f"Step {step} is saved in {folder}: correct it, and go on with resume_from_checkpoint=True"
    made = same_kind(error, f"{_text(error)}. {said}")
    if type(made) is not type(error) and not isinstance(error, MemoryError):
        error.add_note(said)
        raise error
    raise made from error


def _text(error: Exception) -> str:
    """Return the text of an error, with its file if it names one."""
    file = getattr(error, "filename", None)
    return f"{message_of(error)}: {file}" if file is not None else message_of(error)
