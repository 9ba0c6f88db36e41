"""Old checkpoints are deleted when a new one is complete (`save_total_limit`)."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .checkpoints import STATE_NAME, checkpoints_in, run_of, step_of
from .lineage import Lineage

__all__ = ["delete_old_checkpoints", "keeping_all"]


def delete_old_checkpoints(newest: str | Path, limit: int | None, best: str | Path | None = None) -> list[Path]:
    """Delete checkpoints beside a new one until `limit` are left, and return what was deleted.

    The new one and the best one stay. The others go in this order: incomplete ones and those of other runs, then the
    oldest. A mark is removed before the files that it lists, so that what a kill leaves is no checkpoint.

    Upstream deletes by the time of the folders, and before the new checkpoint is complete: with `save_total_limit=2`,
    a process that is killed in between would have the best one alone.

    Args:
        newest: the new checkpoint, which is complete.
        limit: the number of checkpoints to keep; `None` or 0 keeps all.
        best: the checkpoint of the best evaluation.

    Example:
        >>> import tempfile
        >>> out = Path(tempfile.mkdtemp())
        >>> for step, mark in ((2, "{}"), (4, "{}"), (6, None), (8, "{}")):
        ...     (out / f"checkpoint-{step}").mkdir()
        ...     _ = mark and (out / f"checkpoint-{step}" / "chartqa_state.json").write_text(mark)
        >>> [path.name for path in delete_old_checkpoints(out / "checkpoint-8", 2)]
        ['checkpoint-6', 'checkpoint-2']
    """
    if not limit or limit < 0:
        return []
    newest = Path(newest)
    try:
        lineage = Lineage.read(newest.parent)
    except ValueError:
        lineage = Lineage(run_of(newest))
    kept = [newest, *([] if best is None else [Path(best)])]
    others = [
        path
        for path in checkpoints_in(newest.parent)
        if not path.is_symlink() and not any(path.samefile(other) for other in kept if other.exists())
    ]
    others.sort(
        key=lambda path: (path / STATE_NAME).is_file() and lineage.has(run_of(path), step_of(path)), reverse=True
    )
    total = len(others) + len({path.absolute() for path in kept if path.exists()})
    excess = others[::-1][: max(0, total - limit)]
    for path in excess:
        (path / STATE_NAME).unlink(missing_ok=True)
        shutil.rmtree(path, ignore_errors=True)
    return excess


@contextmanager
def keeping_all(trainer: Any) -> Iterator[None]:
    """Let a trainer delete no checkpoint within this context, in which its arguments are a copy without the limit.

    Example:
        >>> from types import SimpleNamespace
        >>> trainer = SimpleNamespace(args=SimpleNamespace(save_total_limit=2))
        >>> with keeping_all(trainer):
        ...     print(trainer.args.save_total_limit)
        None
        >>> trainer.args.save_total_limit
        2
    """
    args = trainer.args
    trainer.args = copy.copy(args)
    trainer.args.save_total_limit = None
    try:
        yield
    finally:
        trainer.args = args
