"""Save a model's folder whole or not at all: after a full disk or a killed process, the old files are still there."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import nn

from ..resources import explaining_memory, naming_a_full_disk

PARTIAL = ".saving"
"""The subfolder that a model is written to before its files replace the old ones."""
_WEIGHTS = {
    "model": re.compile(r"model(-\d+-of-\d+)?\.safetensors(\.index\.json)?"),
    "adapter_model": re.compile(r"adapter_model\.safetensors"),
}
"""Files of weights of full models and of PEFT checkpoints."""
_FILES_BY_CONFIG = {
    "config.json": re.compile(
        r"(generation_)?config\.json|(model|pytorch_model)(-\d+-of-\d+)?\.(safetensors|bin)(\.index\.json)?"
    ),
    "adapter_config.json": re.compile(r"adapter_config\.json|adapter_model\.(safetensors|bin)"),
}
"""The config that identifies a full model or a PEFT checkpoint, and the files that belong to it."""


def check_saveable(model: nn.Module) -> None:
    """Check that transformers can save the configs of a model: before training, not at the first checkpoint.

    Raises:
        OSError: The folder of temporary files is full.
        ValueError: A config is invalid, for example since it holds generation settings.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> check_saveable(tiny_unichart("test", image_size=64, window_size=4)[0])
    """
    full = f"{tempfile.gettempdir()} has no room for temporary files: free some space, or set TMPDIR to another folder"
    with naming_a_full_disk(full), tempfile.TemporaryDirectory() as folder:
        try:
            model.config.save_pretrained(folder)
            model.generation_config.save_pretrained(folder)
        except ValueError as error:
            raise ValueError(f"this model could not be saved after training: {error}") from error


@contextmanager
def replaced_whole(
    folder: str | Path,
    *,
    main: bool = True,
    barrier: Callable[[], None] | None = None,
    again: str = "trainer.save_model(), or resume from the last checkpoint",
) -> Iterator[Path]:
    """Yield a new folder to save into; its files replace those in `folder` when the block ends without an error.

    Other files in `folder` stay, except those that loading would mistake for the new model: weights with another
    number of shards, and the other kind of model (a PEFT checkpoint when a full model is saved, and vice versa).

    Args:
        folder: The folder of the model; created if it does not exist.
        main: Whether this process moves the files; other processes only write and wait.
        barrier: A function that waits for all processes.
        again: How to save again, for the message of a full disk.

    Raises:
        OSError: The disk is full. The message says what is still intact and what to do; new files are removed.

    Example:
        >>> folder = Path(tempfile.mkdtemp())
        >>> with replaced_whole(folder) as new:
        ...     _ = (new / "config.json").write_text("{}")
        >>> [path.name for path in folder.iterdir()]
        ['config.json']
    """
    folder = Path(folder)
    partial = folder / PARTIAL
    wait = barrier or (lambda: None)
    if main:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    wait()
    message = (
        f"the model could not be saved in {folder}. What was there is unchanged; free some space (older checkpoints), "
        f"then save again: {again}"
    )
    advice = f"What was there is unchanged. Free memory (end other programs), then save again: {again}"
    with naming_a_full_disk(message), explaining_memory(f"saving the model in {folder}", lambda: advice):
        try:
            yield partial
            wait()
            if main:
                _replace(partial, folder)
        except Exception:
            if main:
                shutil.rmtree(partial, ignore_errors=True)
            raise
    wait()


def _replace(partial: Path, folder: Path) -> None:
    """Move the new files into `folder` and delete those that do not belong to the new model."""
    written = [path for path in partial.rglob("*") if path.is_file()]
    names = {str(path.relative_to(partial)) for path in written}
    for pattern in _WEIGHTS.values():
        if any(pattern.fullmatch(name) for name in names):
            _delete(folder, pattern, names)
    # Weights come last: whoever finds them also finds the files that belong to them.
    for path in sorted(written, key=lambda path: path.suffix == ".safetensors"):
        target = folder / path.relative_to(partial)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)
    for config, pattern in _FILES_BY_CONFIG.items():
        if config not in names and any(other in names for other in _FILES_BY_CONFIG):
            _delete(folder, pattern, names)
    shutil.rmtree(partial)


def _delete(folder: Path, pattern: re.Pattern[str], written: set[str]) -> None:
    for old in sorted(folder.iterdir()):
        if pattern.fullmatch(old.name) and old.name not in written:
            old.unlink()
