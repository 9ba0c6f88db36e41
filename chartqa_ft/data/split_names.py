"""The splits of a file or folder, as `load_chartqa` reads it, without reading its records."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ..files import read_json
from .record_files import find_splits, is_saved_dataset, named_split, top_folder
from .tables import TABLE_TASK, named_parent, table_folders

__all__ = ["LocalSplits", "local_splits"]


class LocalSplits(NamedTuple):
    """The splits of a file or folder."""

    names: list[str]
    """What `load_chartqa` calls them."""
    are_named: bool
    """Whether the names of files or folders say so; else the only one is the whole source."""


def local_splits(path: Path, task: str | None = None) -> LocalSplits:
    """Return the splits of a file or folder.

    Args:
        path: The file or folder.
        task: As in `load_chartqa`, which reads tables from other files.

    Raises:
        LayoutError: See `load_chartqa`.
        ValueError: It is a damaged folder of `save_to_disk`.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> files = [folder / "questions.csv", folder / "test_human.json"]
        >>> for file in files:
        ...     file.touch()
        >>> [tuple(local_splits(file)) for file in files]
        [(['train'], False), (['test'], True)]
    """
    if is_saved_dataset(path):
        if (path / "dataset_dict.json").is_file():
            return LocalSplits(list(read_json(path / "dataset_dict.json").get("splits", [])), are_named=True)
        split = read_json(path / "state.json").get("_split")
        return LocalSplits([str(split or "train").partition("+")[0].partition("[")[0]], are_named=False)
    top = top_folder(path)
    tables = table_folders(top) if task == TABLE_TASK and path.is_dir() else []
    if tables:
        found = [named_parent(parent, top) for parent in tables]
    else:
        splits = find_splits(path if path.is_file() else top)
        found = [named_split(file.path, top) for split in splits.values() for file in split.files]
    return LocalSplits(list(dict.fromkeys(name or "train" for name in found)), are_named=any(found))
