"""Files of records: find them in a source and assign them to splits.

Layouts are recognized by their files, never by the name of a repository.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

from .chart_to_text import part_folder, split_lists
from .columns import LayoutError
from .open_cqa import record_folder
from .real_paths import check_inside

logger = logging.getLogger(__name__)

SPLIT_ALIASES = ("val", "validation", "valid", "dev")
"""Names of the validation split, which all mean the same."""
_SPLIT_NAMES = ("train", "test", *SPLIT_ALIASES)
_RECORD_SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv")
_NOT_RECORDS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")


@dataclass(frozen=True)
class RecordFile:
    """One file of records; `source` is what its name says about them, "human", "augmented" or "unknown"."""

    path: Path
    source: str


@dataclass(frozen=True)
class FileSplit:
    """Records `start` to `stop` of the files of one split: JSON, JSON lines, CSV and TSV, or Parquet."""

    files: tuple[RecordFile, ...]
    start: int = 0
    stop: int | None = None

    @property
    def is_parquet(self) -> bool:
        """Whether the files are Parquet files."""
        return self.files[0].path.suffix.lower() == ".parquet"


def is_saved_dataset(folder: Path) -> bool:
    """Return whether `folder` was written by `save_to_disk`."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def top_folder(path: Path) -> Path:
    """Return the folder that the image names of a source are relative to."""
    if path.is_file():
        return path.parent
    part = part_folder(path)
    if part is not None:
        check_inside([part], path)
        return part
    official = path / "ChartQA Dataset"  # in a clone of the official repository, and in its unpacked archive
    if not official.is_dir():
        return path
    check_inside([official], path)
    return official


def image_folders(top: Path, split: str, *, within: Path | None = None) -> tuple[Path, ...]:
    """Return the folders under `top` that may hold the images of a split, the most specific first, `top` last.

    Raises:
        LayoutError: One of them is a link that leads out of `within`, the folder of the whole data set.
    """
    names = SPLIT_ALIASES if split in SPLIT_ALIASES else (split,)
    names = tuple(dict.fromkeys((split, *names)))
    parents = [top / name for name in names] + [top]
    inside = ("png", "images", "chart_images")
    folders = [folder for parent in parents for folder in (*(parent / name for name in inside), parent)]
    found = [folder for folder in folders if folder.is_dir()]
    check_inside(found, within or top)
    return tuple(folder.resolve() for folder in found)


def find_splits(path: Path) -> dict[str, FileSplit]:
    """Find the splits in a file or a folder.

    A folder may be the original ChartQA folder (or one split of it), a clone of OpenCQA or a part of Chart-to-Text, an
    image folder with its metadata file, a folder of record files or of Parquet files. A split is named after a
    folder inside (`train/`), else after a word in the file's name (`test_human.json`, `val-00000-of-00001.parquet`),
    else after the folder itself, else it is "train".

    Raises:
        LayoutError: There are no records, a file type is not supported, a split has files of several types, a Parquet
            file would be left out, or a file is a link that leads out of the folder.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("val_human.json", "val_augmented.json"):
        ...     _ = (folder / name).write_text("[]")
        >>> {split: [file.source for file in found.files] for split, found in find_splits(folder).items()}
        {'val': ['human', 'augmented']}
    """
    if path.is_file():
        if path.suffix.lower() not in (*_RECORD_SUFFIXES, ".parquet"):
            raise LayoutError(f"{path}: unsupported file type (supported: {', '.join(_RECORD_SUFFIXES)}, .parquet)")
        return {_split_of(path, path.parent): FileSplit((_record_file(path),))}
    if not path.is_dir():
        raise LayoutError(f"{path}: neither a regular file nor a folder, but a device, a pipe or a socket")
    answers = record_folder(path)
    if part_folder(path) == path:
        files = split_lists(path)
    else:
        files = _record_files(path if answers is None else answers, _RECORD_SUFFIXES)
    if not files:
        folders = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
        files = [file for folder in folders for file in _record_files(folder, _RECORD_SUFFIXES)]
    elif answers is None and part_folder(path) is None:
        files += _files_of_other_splits(path, files)
    if files:
        _refuse_left_out_parquet(path, files)
    else:
        files = sorted(p for p in path.rglob("*.parquet") if p.is_file() and not p.name.startswith("."))
    if not files:
        raise LayoutError(
            f"{path}: no records found. Expected: the original ChartQA folder (train/, val/, test/ with png/ and "
            "*_human.json, *_augmented.json), an image folder with metadata.csv or metadata.jsonl, or files that end "
            f"in {', '.join(_RECORD_SUFFIXES)} or .parquet. "
            f"Found: {', '.join(sorted(p.name for p in path.iterdir())[:20]) or 'nothing'}"
        )
    check_inside(files, path)
    groups: dict[str, list[Path]] = {}
    for file in files:
        groups.setdefault(_split_of(file, path), []).append(file)
    for split, members in groups.items():
        if len({file.suffix.lower() for file in members}) > 1:
            raise LayoutError(
                f"{path}: split {split!r} has files of several types ({', '.join(f.name for f in members)}), "
                "perhaps the same records twice; pass the path of one file"
            )
    # Human questions come first, as in the copies on the Hub.
    return {
        split: FileSplit(tuple(sorted(map(_record_file, members), key=lambda file: file.source != "human")))
        for split, members in groups.items()
    }


def _files_of_other_splits(folder: Path, files: list[Path]) -> list[Path]:
    """Return the files of records in folders named after splits, beside files that name other splits.

    Those of the same splits are left out with a warning, and all of them beside a file that names no split.
    """
    names = {_one_name(named_split(file, folder)) for file in files}
    inside = [file for place in _split_folders(folder) for file in _record_files(place, _RECORD_SUFFIXES)]
    others = [file for file in inside if None not in names and _one_name(named_split(file, folder)) not in names]
    left_out = [str(file.relative_to(folder)) for file in inside if file not in others]
    if left_out:
        logger.warning(
            "%s: only %s is read, and %s is left out: pass the path of what you want, or move the others",
            folder,
            " and ".join(file.name for file in files),
            " and ".join(left_out),
        )
    return others


def _refuse_left_out_parquet(folder: Path, files: list[Path]) -> None:
    """Refuse Parquet files of splits that the files of records do not have, since both cannot be read together."""
    names = {_one_name(_split_of(file, folder)) for file in files}
    for place in (folder, *_split_folders(folder)):
        for file in _record_files(place, (".parquet",)):
            split = named_split(file, folder)
            if split is not None and _one_name(split) not in names:
                raise LayoutError(
                    f"{folder}: {file.relative_to(folder)} would be left out, since it is of another type than "
                    f"{files[0].relative_to(folder)}: pass the path of one file, or write both as the same type"
                )


def _split_folders(folder: Path) -> list[Path]:
    return sorted(place for place in folder.iterdir() if place.is_dir() and place.name.lower() in _SPLIT_NAMES)


def _one_name(split: str | None) -> str | None:
    return "val" if split in SPLIT_ALIASES else split


def _record_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return sorted(
        p
        for p in folder.iterdir()
        if p.suffix.lower() in suffixes and p.name not in _NOT_RECORDS and not p.name.startswith(".") and p.is_file()
    )


def _split_of(file: Path, top: Path) -> str:
    return named_split(file, top) or "train"


def named_split(file: Path, top: Path) -> str | None:
    """Return the split of a file by the names of the folders below `top`, its own name or that of `top`, else `None`.

    Example:
        >>> named_split(Path("own/test/questions.csv"), Path("own"))
        'test'
    """
    folders = [file.parent, *file.parent.parents]
    inside = [folder.name.lower() for folder in folders[: folders.index(top)]]
    # The folder as a whole comes last: all splits may lie in one that is itself called "dev" or "test".
    names = (*inside, *_words(file), top.name.lower())
    return next((name for name in names if name in _SPLIT_NAMES), None)


def _words(file: Path) -> list[str]:
    return re.split(r"[^a-z0-9]+", file.stem.lower())


def _record_file(path: Path) -> RecordFile:
    words = _words(path)
    return RecordFile(path, "human" if "human" in words else "augmented" if "augmented" in words else "unknown")
