"""`CheckpointChooser`: the checkpoint that a training goes on from, or a clear refusal."""

from __future__ import annotations

import logging
import pickle
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..files import read_json, write_json
from ..resources import is_out_of_memory
from .arguments import ChartQATrainingArguments
from .checkpoints import (
    RUN_NAME,
    STATE_NAME,
    checkpoints_in,
    find_damage,
    is_marked,
    last_checkpoint,
    missing_states,
)

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
        if resume is True:
            found = last_checkpoint(self.args.output_dir)
            if found is None:
                raise ValueError(f"no complete checkpoint in {self.args.output_dir}: start without resuming")
        else:
            found = str(resume)
        self._check(found)
        return found

    def _check(self, folder: str) -> None:
        marked = is_marked(folder)
        inexact = self.args.allow_inexact_resume
        damage = find_damage(folder, needs_mark=not marked and not inexact)
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
            sharded=bool(args.deepspeed or args.fsdp),
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

        A run that starts at step 0 in a folder with checkpoints of an earlier one is noted there, so that it is never
        resumed from those.

        Args:
            checkpoint: the checkpoint that the run goes on from, if any.
        """
        mark = Path(checkpoint or "") / STATE_NAME
        run = secrets.token_hex(8) if checkpoint is None else None
        if checkpoint is not None and mark.is_file():
            run = read_json(mark).get("run")
        if self.args.should_save:
            noted = Path(self.args.output_dir) / RUN_NAME
            earlier = checkpoints_in(self.args.output_dir)
            if checkpoint is None and earlier:
                logger.warning(
                    "%s holds checkpoints of an earlier run (%s): this run starts at step 0 and is never resumed from "
                    "them",
                    self.args.output_dir,
                    ", ".join(path.name for path in earlier[::-1]),
                )
            if run is not None and earlier and (checkpoint is None or noted.is_file()):
                write_json(noted, {"run": run})
            else:
                noted.unlink(missing_ok=True)
        return run


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
            f"the states of the optimizer in {folder} cannot be loaded: they are damaged, or of another model or "
            f"optimizer ({type(error).__name__}: {error}). Resume from another checkpoint"
        ) from error


def as_choice(resume: str | bool | None) -> str | bool | None:
    """Return the argument `resume_from_checkpoint` as `train` takes it: from a command line, "True" is a str.

    Example:
        >>> as_choice("last"), as_choice("false"), as_choice("out/checkpoint-8")
        (True, None, 'out/checkpoint-8')
    """
    words = {"true": True, "last": True, "false": None, "none": None, "": None}
    return words.get(resume.lower(), resume) if isinstance(resume, str) else resume
