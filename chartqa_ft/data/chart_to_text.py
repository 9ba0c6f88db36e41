"""Chart-to-Text (vis-nlp/Chart-to-text): charts of Statista and Pew with summaries.

The folder of a part, such as `statista_dataset/dataset`, has `imgs/<n>.png` and `captions/<n>.txt`, the same once more
in `multiColumn/`, and the lists of the splits: `dataset_split/{train,val,test}_index_mapping.csv` with the column
`File_No`. Its entries are `two_col-<n>.txt`, and `multi_col-<n>.txt` for files in `multiColumn/`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..files import read_regular
from .cells import shorten
from .columns import LayoutError
from .real_paths import check_inside

TASK = "summary"
LONGEST_CAPTION = 1 << 20
"""Bytes."""
_LISTS = "dataset_split"
_LIST = re.compile(r"(train|val|test)_index_mapping\.csv")
_ENTRY = re.compile(r"(two|multi)_col-([0-9]+)\.txt")


def part_folder(path: Path) -> Path | None:
    """Return the folder of a part of Chart-to-Text that a path names, None for any other folder.

    Raises:
        LayoutError: The folder has both parts.
    """
    if (path / "captions").is_dir() and (path / _LISTS).is_dir():
        return path
    inside = [path / "dataset", *(path / f"{name}_dataset" / "dataset" for name in ("pew", "statista"))]
    parts = [folder for folder in inside if (folder / "captions").is_dir() and (folder / _LISTS).is_dir()]
    if len(parts) > 1:
        raise LayoutError(f"{path}: has two data sets of summaries; pass one of {' and '.join(map(str, parts))}")
    return parts[0] if parts else None


def split_lists(folder: Path) -> list[Path]:
    """Return the files that list the charts of the splits of a part; that of all charts is left out."""
    return sorted(path for path in (folder / _LISTS).iterdir() if _LIST.fullmatch(path.name) and path.is_file())


def is_split_list(path: Path) -> bool:
    """Return whether a file lists the charts of a split.

    Example:
        >>> is_split_list(Path("charts.csv"))
        False
    """
    in_place = path.parent.name == _LISTS and _LIST.fullmatch(path.name) is not None
    return in_place and (path.parent.parent / "captions").is_dir()


def chart_to_text_records(path: Path, entries: Iterator[Mapping[str, Any] | str]) -> Iterator[dict[str, Any] | str]:
    """Yield the records of a split; a str in place of a record says what is wrong with it.

    Args:
        path: The file that lists its charts.
        entries: The rows of this file.
    """
    folder = path.parent.parent
    for entry in entries:
        if isinstance(entry, str):
            yield entry
            continue
        name = entry.get("File_No")
        found = _ENTRY.fullmatch(name.strip()) if isinstance(name, str) else None
        if found is None:
            yield f"File_No is {shorten(name)}, and must be such as two_col-7.txt or multi_col-7.txt"
            continue
        kind, number = found.groups()
        inside = "multiColumn/" if kind == "multi" else ""
        try:
            caption = _caption(folder, f"{inside}captions/{number}.txt")
        except (OSError, UnicodeDecodeError, LayoutError) as error:
            yield f"its caption cannot be read ({error})"
            continue
        yield {"image_file": f"{inside}imgs/{number}.png", "question": "", "answer": caption, "task": TASK}


def _caption(folder: Path, name: str) -> str:
    check_inside([folder / name], folder)
    return " ".join(read_regular(folder / name, LONGEST_CAPTION).decode("utf-8-sig").split())
