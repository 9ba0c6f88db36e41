"""An evaluation of the training loop that fails: whether its step can be saved, and the error that says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from ..resources import FullDiskError, is_out_of_memory, message_of, same_kind
from .checks.metric_function import MetricsError
from .signals import EvaluationStopped

__all__ = ["is_saved_after", "raise_after_saving"]


def is_saved_after(error: Exception, trainer: Any, *, in_evaluation: bool, in_loop: bool) -> bool:
    """Return whether the current step of a training that ends with an error is to be saved.

    On several processes, only errors that all of them raise together allow that: one alone that has no memory, no disk
    or no network left cannot save a step together with others.

    Args:
        error: what ended the training.
        trainer: the trainer.
        in_evaluation: whether the training loop was evaluating, with the callbacks of that evaluation.
        in_loop: whether the batches of an evaluation were read, also of one that a callback began.
    """
    if not trainer.state.global_step:
        return False
    if isinstance(error, (MetricsError, EvaluationStopped)):
        return True
    if trainer.args.world_size > 1 or trainer.state.is_hyper_param_search:  # a trial may be pruned by an error
        return False
    short_of = is_out_of_memory(error) or isinstance(error, FullDiskError)
    return in_evaluation or (in_loop and short_of)


def raise_after_saving(error: Exception, save: Callable[[], None], folder: Path, step: int) -> NoReturn:
    """Save the current step after an evaluation has failed, and raise its error with a sentence about that.

    Args:
        error: the error of the evaluation. If it cannot be made anew, or the step cannot be saved, it gets a note.
        save: saves the step.
        folder: the checkpoint that `save` writes.
        step: the step.
    """
    try:
        save()
    except Exception as failure:
        error.add_note(f"Step {step} could not be saved ({type(failure).__name__}: {failure})")
        raise error from None
    if isinstance(error, EvaluationStopped):
        raise error
    said = f"Step {step} is saved in {folder}: correct it, and go on with resume_from_checkpoint=True"
    made = same_kind(error, f"{message_of(error)}. {said}")
    if type(made) is not type(error) and not isinstance(error, MemoryError):
        error.add_note(said)
        raise error
    raise made from error
