"""`Lineage`: the runs whose checkpoints in an output folder count, where there are also others."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..files import read_json, write_json

logger = logging.getLogger(__name__)

__all__ = ["RUN_NAME", "Lineage"]

RUN_NAME = "chartqa_run.json"
"""The file in an output folder that names the run whose checkpoints count, if there are also others."""
_ADVICE = "delete it, and resume from a checkpoint that you name"


@dataclass(frozen=True)
class Lineage:
    """A run, and the earlier ones that it goes on from.

    Args:
        run: the identity of the run; that of runs of earlier releases is `None`.
        origins: runs that it goes on from, each with the step at which it was left.
        noted: whether the folder has a note. Without one, all its checkpoints are of one run.

    Example:
        >>> lineage = Lineage("b", (("a", 4),))
        >>> lineage.has("b", 6), lineage.has("a", 4), lineage.has("a", 6)
        (True, True, False)
    """

    run: str | None = None
    origins: tuple[tuple[str | None, int], ...] = ()
    noted: bool = True

    @classmethod
    def read(cls, output_dir: str | Path) -> Lineage:
        """Read the note of an output folder.

        Raises:
            ValueError: the note is damaged; the message names it.
        """
        path = Path(output_dir) / RUN_NAME
        try:
            note = read_json(path, advice=_ADVICE)
        except FileNotFoundError:
            return cls(noted=False)
        try:
            origins = tuple((run, int(step)) for run, step in note.get("from", ()))
            return cls(note["run"], origins)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged ({error or type(error).__name__}): {_ADVICE}") from error

    def has(self, run: str | None, step: int) -> bool:
        """Return whether the checkpoint that `run` saved at `step` counts."""
        return not self.noted or run == self.run or any(run == other and step <= last for other, last in self.origins)

    def until(self, run: str | None, step: int) -> Lineage:
        """Return the lineage of a checkpoint: of this run, or of one of its origins, or of another run."""
        if run == self.run:
            return Lineage(run, self.origins)
        names = [other for other, _ in self.origins]
        return Lineage(run, self.origins[: names.index(run)] if run in names else ())

    def branched(self, run: str, step: int) -> Lineage:
        """Return the lineage of a new run that goes on from a step of this one."""
        return Lineage(run, (*self.origins, (self.run, step)))

    def write(self, output_dir: str | Path) -> None:
        """Write the note."""
        origins: Sequence[tuple[str | None, int]] = self.origins
        write_json(Path(output_dir) / RUN_NAME, {"run": self.run, **({"from": origins} if origins else {})})
