"""A folder of a model is replaced whole or not at all: a full disk or a killed process leaves what was there."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from torch import nn

PARTIAL = ".saving"
_WEIGHTS = {
    "model": re.compile(r"model(-\d+-of-\d+)?\.safetensors(\.index\.json)?"),
    "adapter_model": re.compile(r"adapter_model\.safetensors"),
}
_KINDS = {
    "config.json": re.compile(
        r"(generation_)?config\.json|(model|pytorch_model)(-\d+-of-\d+)?\.(safetensors|bin)(\.index\.json)?"
    ),
    "adapter_config.json": re.compile(r"adapter_config\.json|adapter_model\.(safetensors|bin)"),
}
"""Of a full model and of an adapter: the file that makes a folder one, and all that go with it."""
_FULL = "the disk is full"
_TORCH_WRITER = ("inline_container", "PytorchStreamWriter")
"""What torch's RuntimeErrors name when a file cannot be written on; they do not give the system's reason."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def replaced_whole(
    folder: str | Path,
    *,
    main: bool = True,
    barrier: Callable[[], None] | None = None,
    again: str = "trainer.save_model(), or resume from the last checkpoint",
) -> Iterator[Path]:
    """A fresh folder to save into, whose files take the place of those in `folder` when the block ends well.

    Args:
        folder: it is made where missing; files that the block does not write stay, but for what loading would take
            for the model just saved: weights in another number of shards, and a model of the other kind (an adapter
            where a full model is saved, a full model where an adapter is).
        main: whether this process moves the files; others write beside it and wait.
        barrier: waits for all processes.
        again: how to save again, for the message of a full disk.

    Raises:
        OSError: the disk is full, with what was kept and what to do. What was written is removed.
    """
    folder = Path(folder)
    partial = folder / PARTIAL
    wait = barrier or (lambda: None)
    if main:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    wait()
    told = (
        f"the model could not be saved in {folder}. What was there is untouched; free some space (older checkpoints), "
        f"then save again: {again}"
    )
    with naming_a_full_disk(told):
        try:
            yield partial
            wait()
            if main:
                _move(partial, folder)
        except Exception:
            if main:
                shutil.rmtree(partial, ignore_errors=True)
            raise
    wait()


@contextmanager
def naming_a_full_disk(told: str) -> Iterator[None]:
    """Say that the disk is full where libraries say so by a number, or by an error of their own writers.

    Args:
        told: what could not be saved, what is left, and what to do.

    Raises:
        OSError: of ENOSPC, in place of what was raised inside for want of room.
    """
    try:
        yield
    except Exception as error:
        if not _no_room(error) or str(getattr(error, "strerror", "")).startswith(_FULL):
            raise
        raise OSError(errno.ENOSPC, f"{_FULL}: {told}") from error


def _move(partial: Path, folder: Path) -> None:
    written = [path for path in partial.rglob("*") if path.is_file()]
    names = {str(path.relative_to(partial)) for path in written}
    for pattern in _WEIGHTS.values():
        if any(pattern.fullmatch(name) for name in names):
            _delete(folder, pattern, names)
    # Weights last: who finds them finds what belongs to them.
    for path in sorted(written, key=lambda path: path.suffix == ".safetensors"):
        target = folder / path.relative_to(partial)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)
    for config, pattern in _KINDS.items():
        if config not in names and any(other in names for other in _KINDS):
            _delete(folder, pattern, names)
    shutil.rmtree(partial)


def _delete(folder: Path, pattern: re.Pattern[str], written: set[str]) -> None:
    for old in sorted(folder.iterdir()):
        if pattern.fullmatch(old.name) and old.name not in written:
            old.unlink()


def _no_room(error: Exception) -> bool:
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return True
    text = str(error)
    if isinstance(error, RuntimeError) and any(name in text for name in _TORCH_WRITER):
        return True
    return isinstance(error, (SafetensorError, RuntimeError, OSError)) and any(
        f"os error {number}" in text.lower() or os.strerror(number) in text for number in _NO_ROOM
    )


def check_saveable(model: nn.Module) -> None:
    """Fail before training, not at its first checkpoint: transformers refuses to save what is in the wrong config."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            model.config.save_pretrained(folder)
            model.generation_config.save_pretrained(folder)
        except ValueError as error:
            raise ValueError(f"this model could not be saved after training: {error}") from error
