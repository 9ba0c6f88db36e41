"""`CheckpointChooser`: the checkpoint that a training goes on from, or a clear refusal."""

from __future__ import annotations

import logging
import pickle
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list, gather_object
from torch import nn

from ..adapters import Adapter, base_model
from ..adapters.registry import SETTINGS_KEY
from ..models.chartqa_config import read_settings
from ..resources import is_out_of_memory
from .arguments import ChartQATrainingArguments
from .checkpoints import (
    STATE_NAME,
    checkpoints_in,
    find_damage,
    is_marked,
    last_checkpoint,
    missing_states,
    run_of,
    step_of,
)
from .lineage import RUN_NAME, Lineage

logger = logging.getLogger(__name__)


class CheckpointChooser:
    """Decides from which checkpoint a training goes on, and whether it can do so exactly.

    Args:
        args: the arguments of the trainer.
        accelerator: its accelerator.
    """

    def __init__(self, args: ChartQATrainingArguments, accelerator: Any) -> None:
        self.args, self.accelerator = args, accelerator

    def choose(self, resume: str | Path | bool | None) -> str | None:
        """Return the checkpoint for an argument `resume_from_checkpoint`, or `None` to start at step 0.

        Every rank must call it: the first one chooses, and all go on or stop together.

        Raises:
            ValueError: there is no complete checkpoint, or the one that was asked for is damaged, or it lacks a state
                without which the resumed run would differ from an unbroken one.
        """
        if resume == "":
            raise ValueError(
                "resume_from_checkpoint is an empty text: pass a folder, or True for the newest checkpoint"
            )
        if not resume:
            return None
        found, error = None if resume is True else str(resume), None
        try:
            if resume is True and self.args.process_index == 0:
                found = last_checkpoint(self.args.output_dir)
        except (ValueError, OSError) as caught:
            error = caught
        if resume is True and self.args.world_size > 1:
            found = broadcast_object_list([found])[0]
        if error is None and found is None:
            error = ValueError(f"no complete checkpoint in {self.args.output_dir}: start without resuming")
        if error is None and found is not None:
            try:
                # All bytes of a checkpoint are read once: by the first process, and by it not a second time.
                self._check(found, quick=resume is True or self.args.process_index > 0)
            except (ValueError, OSError) as caught:
                error = caught
        errors = [error] if self.args.world_size == 1 else gather_object([error])
        for error in errors:
            if error is not None:
                raise error
        return found

    def _check(self, folder: str, *, quick: bool) -> None:
        marked = is_marked(folder)
        inexact = self.args.allow_inexact_resume
        damage = find_damage(folder, needs_mark=not marked and not inexact, quick=quick)
        if damage is not None:
            raise ValueError(f"{folder} {damage}: resume from another checkpoint")
        args = self.args
        missing = [] if marked else [f"its mark {STATE_NAME} is missing"]
        missing += missing_states(
            folder,
            ranks=range(args.process_index, args.process_index + 1)
            if args.save_on_each_node
            else range(args.world_size),
            world_size=args.world_size,
            scaler=getattr(self.accelerator, "scaler", None) is not None,
            sharded=args.uses_deepspeed or args.uses_fsdp,
        )
        if not missing:
            return
        message = f"{folder} cannot be resumed exactly: {'; '.join(missing)}"
        if not inexact:
            raise ValueError(
                f"{message}. Resume from another checkpoint, start a new training from its weights, or accept another "
                "result than that of an unbroken run with allow_inexact_resume=True"
            )
        logger.warning("%s. The result will differ from that of an unbroken run (allow_inexact_resume=True)", message)

    def begin_run(self, checkpoint: str | None) -> str | None:
        """Return the identity of the run that begins or goes on, which is stored in its checkpoints.

        If other checkpoints are in its folder, the run is noted there, so that it is never resumed from those: they
        are of an earlier run, or of later steps than the checkpoint that it goes on from, which may have been chosen
        because training went wrong after it.

        Args:
            checkpoint: the checkpoint that the run goes on from, if any.
        """
        run = secrets.token_hex(8) if checkpoint is None else run_of(Path(checkpoint))
        if not self.args.should_save:
            return run
        output_dir = Path(self.args.output_dir)
        found = checkpoints_in(output_dir)
        if checkpoint is None:
            lineage = Lineage(run)
            others = found
        else:
            step = step_of(Path(checkpoint).absolute())
            lineage = _noted(output_dir).until(run, step)
            marked = [path for path in found if (path / STATE_NAME).is_file()]
            others = [path for path in marked if not lineage.has(run_of(path), step_of(path))]
            later = [path for path in marked if path not in others and step_of(path) > step >= 0]
            later = [path for path in later if find_damage(path, quick=True) is None]
            if later:
                run = secrets.token_hex(8)
                lineage, others = lineage.branched(run, step), [*later, *others]
        if others:
            lineage.write(output_dir)
        else:
            (output_dir / RUN_NAME).unlink(missing_ok=True)
        if others and checkpoint is None:
            logger.warning(
                "%s holds checkpoints of an earlier run (%s): this run starts at step 0 and is never resumed from "
                "them. To go on with the earlier run, stop this one and pass resume_from_checkpoint=%r",
                output_dir,
                ", ".join(path.name for path in others[::-1]),
                str(others[0]),
            )
        elif checkpoint is not None and later:
            logger.warning(
                "this run goes on from %s, and is never resumed from later checkpoints that are there already (%s)",
                checkpoint,
                ", ".join(path.name for path in later[::-1]),
            )
        return run


def _noted(output_dir: Path) -> Lineage:
    """Return the lineage that an output folder has noted; a note that is damaged is replaced."""
    try:
        return Lineage.read(output_dir)
    except ValueError as error:
        logger.warning("%s", error)
        return Lineage()


def resume_prompt(adapter: Adapter, model: nn.Module, checkpoint: str | Path | None) -> None:
    """Let a resumed training write into its prompts the date that it began with.

    Some chat templates write today's date into every prompt. The adapter of a training that is resumed on another day
    would use another prompt than before.

    Args:
        adapter: the adapter of the trainer; changed in place.
        model: its model, whose config holds the settings of the adapter.
        checkpoint: the checkpoint that the training goes on from, if any.
    """
    saved = None if checkpoint is None else read_settings(checkpoint).get("prompt_date")
    if saved is not None and getattr(adapter, "prompt_date", None) is not None:
        adapter.set_date(saved)  # type: ignore[attr-defined]
        setattr(base_model(model).config, SETTINGS_KEY, adapter.settings())


@contextmanager
def naming_checkpoint(folder: str | Path | None) -> Iterator[None]:
    """Name the checkpoint in errors about its states within this context, which name no folder by themselves.

    Raises:
        ValueError: in place of an error inside.
    """
    try:
        yield
    except (RuntimeError, ValueError, KeyError, TypeError, EOFError, OSError, pickle.UnpicklingError) as error:
        if is_out_of_memory(error):  # that says nothing about the file
            raise
        raise ValueError(
            f"the states of the optimizer in {folder} cannot be loaded: they are damaged, or of another model, "
            f"optimizer, freeze or learning_rates ({type(error).__name__}: {error}). Resume from another checkpoint"
        ) from error


@contextmanager
def naming_weights(folder: str | Path) -> Iterator[None]:
    """Name the checkpoint in torch's errors about weights that do not fit, within this context.

    Raises:
        ValueError: in place of an error inside.
    """
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise ValueError(
            f"the weights in {folder} cannot be loaded into this model: it must have the sizes, and with LoRA the "
            f"same r and target_modules, as when they were saved ({error})"
        ) from error


def as_choice(resume: str | bool | None) -> str | bool | None:
    """Return the argument `resume_from_checkpoint` as `train` takes it: from a command line, "True" is a str.

    Example:
        >>> as_choice("last"), as_choice("false"), as_choice("out/checkpoint-8")
        (True, None, 'out/checkpoint-8')
    """
    words = dict.fromkeys(("true", "yes", "on", "last"), True) | dict.fromkeys(("false", "no", "off", "none", ""))
    return words.get(resume.lower(), resume) if isinstance(resume, str) else resume
