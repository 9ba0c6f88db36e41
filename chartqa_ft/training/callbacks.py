"""Callbacks of `ChartQATrainer`, in addition to its running loss."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from transformers import TrainerCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import ExportableState

from ..batching.streams import StreamSampler
from ..models.lora import check_gradients
from .best_metric import check_compared_metric, forget_best
from .checkpoints import run_of, step_of
from .checks.streams import check_same_stream
from .lineage import Lineage
from .saving import checkpoint_folder

logger = logging.getLogger(__name__)


class SetEpoch(TrainerCallback):
    """Sets the epoch on the sampler. accelerate does not reach samplers behind a resumed, sharded batch sampler.

    Args:
        ended: returns how often a stream was read to its end. Its epochs have no length, so that `state.epoch` counts
            shares of `max_steps`. `None` where there are no streams.
    """

    def __init__(self, ended: Callable[[], int] | None = None) -> None:
        self.ended = ended
        self.source: Any = None
        """The sampler; `None` until there is a training loader."""

    def on_epoch_begin(self, args, state, control, **kwargs):
        if self.source is not None:
            passes = self.ended if isinstance(self.source, StreamSampler) else None
            self.source.set_epoch(int(state.epoch or 0) if passes is None else passes())


class CompareStreams(TrainerCallback):
    """Checks before the first update of every epoch that all ranks read the same records from a stream.

    Each trains on its own share of them: ranks that read in different orders would leave records out.
    """

    def __init__(self) -> None:
        self.sampler: Any = None
        """The sampler of a stream; `None` for other data."""
        self._compared = False

    def on_epoch_begin(self, args, state, control, **kwargs):
        self._compared = False

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        if self.sampler is not None and args.world_size > 1 and not self._compared:
            check_same_stream(self.sampler)
        self._compared = True


class CountBatches(TrainerCallback):
    """Calls a function after every batch of training, also those that complete no step."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call

    def on_substep_end(self, args, state, control, **kwargs):
        self.call()

    def on_step_end(self, args, state, control, **kwargs):
        self.call()


class AfterSave(TrainerCallback):
    """Calls a function when a checkpoint is complete."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call

    def on_save(self, args, state, control, **kwargs):
        self.call()


class CheckUnusedLora(TrainerCallback):
    """Names, after the first step, the LoRA layers that take no part in the loss.

    They use memory for nothing. With DistributedDataParallel and without `ddp_find_unused_parameters` they would stop
    the second step with an error about reduction that names none of them.
    """

    def __init__(self) -> None:
        self.checked = False

    def on_train_begin(self, args, state, control, **kwargs):
        self.checked = False

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        # DeepSpeed and FSDP do not show gradients.
        if not self.checked and not args.uses_deepspeed and not args.uses_fsdp:
            if all(weight.grad is None for weight in model.parameters()):
                return  # max_bad_steps skips this step, whose gradients are gone already
            check_gradients(model, strict=args.world_size > 1 and args.ddp_find_unused_parameters is False)
        self.checked = True


class EndOfEpoch(TrainerCallback):
    """Calls a function at the end of every epoch, and tells it whether the training ends there too."""

    def __init__(self, call: Callable[..., None]) -> None:
        self.call = call

    def on_epoch_end(self, args, state, control, **kwargs):
        self.call(stops=control.should_training_stop)


class FindBestCheckpoint(TrainerCallback):
    """Finds the best checkpoint of a resumed run whose `output_dir` was moved; upstream looks at the old place.

    `trainer_state.json` of a downloaded checkpoint may name any folder of this machine as the best checkpoint. At the
    end of training its weights would be loaded and pushed, so that only `checkpoint-<step>` in the output folder, or
    beside the checkpoint that is resumed, counts; and of those, only checkpoints of this run and not of an earlier one
    in the same folder.
    """

    def __init__(self) -> None:
        self.resumed: str | None = None
        """The checkpoint that the run goes on from."""

    def on_train_begin(self, args, state, control, **kwargs):
        if self.resumed is not None:
            check_compared_metric(args, state, self.resumed)
        best = state.best_model_checkpoint
        if best is not None and Path(best).is_dir() and not self._is_of_run(state, args):
            logger.warning(
                "%s names %r as the best checkpoint, which is none of this run: it is not used",
                self.resumed or "trainer_state.json",
                best,
            )
            state.best_model_checkpoint = None
        if state.best_model_checkpoint is None and state.best_global_step:
            folder = checkpoint_folder(args.output_dir, state.best_global_step)
            if folder.is_dir() and self._is_of_lineage(folder):
                state.best_model_checkpoint = str(folder)
                logger.info("the best checkpoint is %s", folder)
        lost = state.best_model_checkpoint is None and bool(state.best_global_step)
        if args.load_best_model_at_end and args.world_size > 1:
            (lost,) = broadcast_object_list([lost])  # all processes must stop and save at the same evaluations
        if args.load_best_model_at_end and lost:
            logger.warning(
                "the weights of the best evaluation so far (step %d) are gone: at the end of training, those of the "
                "best evaluation from here on are loaded",
                state.best_global_step,
            )
            forget_best(state)

    def _is_of_run(self, state: Any, args: Any) -> bool:
        best = Path(state.best_model_checkpoint)
        if best.is_symlink() or best.name != checkpoint_folder("", state.best_global_step or 0).name:
            return False
        tops = [Path(args.output_dir), *([Path(self.resumed).absolute().parent] if self.resumed else [])]
        beside = any(top.is_dir() and best.parent.is_dir() and top.samefile(best.parent) for top in tops)
        return beside and self._is_of_lineage(best)

    def _is_of_lineage(self, folder: Path) -> bool:
        """Return whether a checkpoint was saved by the run that goes on, or by one that this run went on from."""
        if self.resumed is None:
            return True
        resumed = Path(self.resumed).absolute()
        try:
            lineage = Lineage.read(folder.parent).until(run_of(resumed), step_of(resumed))
        except ValueError:  # a damaged note says nothing about other runs
            lineage = Lineage(run_of(resumed))
        return lineage.has(run_of(folder), step_of(folder))


def keep_own_best(state: TrainerState, folder: Path, before: str | None, run: str | None, *, write: bool) -> None:
    """Keep the best checkpoint that a state had if upstream took one of an earlier run for it.

    An earlier run in the same output folder may have left a checkpoint of the same step.

    Args:
        state: the state of a trainer which has just saved `folder`; changed in place.
        folder: the new checkpoint.
        before: the best checkpoint before it was saved.
        run: the identity of the run.
        write: whether this process writes the state into `folder` again.
    """
    best = None if state.best_model_checkpoint is None else Path(state.best_model_checkpoint)
    if best is None or str(best) == before or best.name == folder.name or run_of(best) == run:
        return
    with suppress(ValueError):  # of a damaged note
        if Lineage.read(folder.parent).has(run_of(best), step_of(best)):
            return
    state.best_model_checkpoint = before
    if write:
        state.save_to_json(str(folder / TRAINER_STATE_NAME))


def resume_states(callbacks: Sequence[TrainerCallback], control: Any, state: TrainerState, *, restore: bool) -> None:
    """Let callbacks with a state of their own (`ExportableState`) go on from that of a checkpoint.

    Those that the resumed run did not have get an entry in `state`, without which upstream cannot save. Of the others
    the attributes are restored, such as the counter of `EarlyStoppingCallback`, and not the arguments: a patience that
    was changed for the resumed run counts.

    Args:
        callbacks: the callbacks of the trainer.
        control: its control.
        state: its state, new or as the checkpoint has it.
        restore: whether to restore attributes; `False` if upstream has done so.
    """
    own = [callback for callback in callbacks if isinstance(callback, ExportableState)]
    if restore:
        for name in dict.fromkeys(type(callback).__name__ for callback in own):
            same = [callback for callback in own if type(callback).__name__ == name]
            stored = state.stateful_callbacks.get(name, [])
            # Where there are several of a class, upstream adds their states to a list with every save.
            latest = stored[-len(same) :] if isinstance(stored, list) else [stored]
            for callback, saved in zip(same, latest, strict=False):
                found = saved.get("attributes", {})
                for attribute in callback.state().get("attributes", {}):  # and nothing else that the file may name
                    if attribute in found:
                        setattr(callback, attribute, found[attribute])
    for name, new in TrainerState(stateful_callbacks=[*own, control]).stateful_callbacks.items():
        state.stateful_callbacks.setdefault(name, new)
