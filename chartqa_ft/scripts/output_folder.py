"""The folder that a script writes to, checked before the work whose results it gets."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["output_folder"]


def output_folder(path: str) -> str:
    """Return the path of a folder to write to, with `~` expanded as a shell does it only at the start of a word.

    Raises:
        ValueError: It is a file, or inside of one.

    Example:
        >>> output_folder("~/scores") == str(Path.home() / "scores")
        True
        >>> output_folder(__file__ + "/scores")
        Traceback (most recent call last):
        ...
        ValueError: output_dir must be a folder, and .../output_folder.py is a file
    """
    path = os.path.expanduser(path)
    there = next((folder for folder in (Path(path), *Path(path).parents) if folder.exists()), None)
    if there is not None and not there.is_dir():
        raise ValueError(f"output_dir must be a folder, and {there} is a file")
    return path
