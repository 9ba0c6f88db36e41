"""Check the names in a folder that `save_to_disk` has written, before `datasets` opens what they name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..files import check_name_inside, file_inside, read_json
from .columns import LayoutError


def check_saved_dataset(folder: Path) -> None:
    """Check that a folder written by `save_to_disk` names no file outside of it, which `datasets` would read.

    `dataset_dict.json` names the folders of splits, and the `state.json` of each names its Arrow files. Links below
    the folder are not followed. Missing and damaged files are left to `datasets`.

    Raises:
        LayoutError: a name leads out of the folder, or what it names is a link.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "state.json").write_text('{"_data_files": [{"filename": "../private.arrow"}]}')
        >>> check_saved_dataset(folder)
        Traceback (most recent call last):
        ...
        chartqa_ft.data.columns.LayoutError: ... state.json names the file '../private.arrow', which leads out of ...
    """
    try:
        for split in _list(folder, "dataset_dict.json", "splits"):
            _check_state(folder, f"{check_name_inside(split, where='dataset_dict.json')}/")
        _check_state(folder, "")
    except ValueError as error:
        raise LayoutError(f"{folder} cannot be read as a saved dataset: {error}. Save it again") from error


def _check_state(top: Path, split: str) -> None:
    state = f"{split}state.json"
    for entry in _list(top, state, "_data_files"):
        if isinstance(entry, dict) and "filename" in entry:
            name = check_name_inside(entry["filename"], where=state)
            _check_file(top, f"{split}{name}", state)
    _check_file(top, f"{split}dataset_info.json", str(top))


def _check_file(top: Path, name: str, where: str) -> None:
    try:
        file_inside(top, name, where=where)
    except OSError:
        return


def _list(top: Path, name: str, key: str) -> list[Any]:
    """Return a list in a JSON file of the dataset, empty if there is none."""
    _check_file(top, name, str(top))
    try:
        value = read_json(top / name, kind=object)
    except OSError:
        return []
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, list) else []
