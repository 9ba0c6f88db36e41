"""Where the records of a ChartQA-like source are, and which of its columns is which.

Nothing here looks at the name of a repository: a layout is recognised by its files and its columns.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .columns import LayoutError

SPLIT_ALIASES = ("val", "validation", "valid", "dev")
_SPLIT_NAMES = ("train", "test", *SPLIT_ALIASES)
_RECORD_SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv")
_NOT_RECORDS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")


@dataclass(frozen=True)
class RecordFile:
    """One file of records; `source` is what its name says about them: "human", "augmented" or "unknown"."""

    path: Path
    source: str


@dataclass(frozen=True)
class FileSplit:
    """The record files of one split (JSON, JSON lines, CSV, TSV), or its Parquet files; records `start` to `stop`."""

    files: tuple[RecordFile, ...]
    start: int = 0
    stop: int | None = None

    @property
    def is_parquet(self) -> bool:
        return self.files[0].path.suffix.lower() == ".parquet"


def is_saved_dataset(folder: Path) -> bool:
    """Whether `folder` was written by `save_to_disk`."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def top_folder(path: Path) -> Path:
    """The folder that a source's image names are relative to."""
    if path.is_file():
        return path.parent
    official = path / "ChartQA Dataset"  # in a clone of the official repository, and in its unpacked archive
    return official if official.is_dir() else path


def find_splits(path: Path) -> dict[str, FileSplit]:
    """The splits in a file or a folder: the original ChartQA folder (or one split of it), an image folder with its
    metadata file, a folder of record files or of Parquet files.

    A split is named after its folder (`train/`), else after a word in the file's name (`test_human.json`,
    `val-00000-of-00001.parquet`), else it is "train".

    Raises:
        LayoutError: No records, records of a kind that is not read, or the same split in files of several kinds.
    """
    if path.is_file():
        if path.suffix.lower() not in (*_RECORD_SUFFIXES, ".parquet"):
            raise LayoutError(f"{path}: no kind of file that is read ({', '.join(_RECORD_SUFFIXES)}, .parquet)")
        return {_split_of(path, path.parent): FileSplit((_record_file(path),))}
    files = _record_files(path, _RECORD_SUFFIXES)
    if not files:
        folders = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
        files = [file for folder in folders for file in _record_files(folder, _RECORD_SUFFIXES)]
    if not files:
        files = sorted(p for p in path.rglob("*.parquet") if p.is_file() and not p.name.startswith("."))
    if not files:
        raise LayoutError(
            f"{path}: no records found. Wanted: the original ChartQA folder (train/, val/, test/ with png/ and "
            "*_human.json, *_augmented.json), an image folder with metadata.csv or metadata.jsonl, or files that end "
            f"in {', '.join(_RECORD_SUFFIXES)} or .parquet. "
            f"Seen: {', '.join(sorted(p.name for p in path.iterdir())[:20]) or 'nothing'}"
        )
    groups: dict[str, list[Path]] = {}
    for file in files:
        groups.setdefault(_split_of(file, path), []).append(file)
    for split, members in groups.items():
        if len({file.suffix.lower() for file in members}) > 1:
            raise LayoutError(
                f"{path}: split {split!r} is in files of several kinds ({', '.join(f.name for f in members)}), maybe "
                "the same records twice; give the path of the file that you mean"
            )
    # Human questions come first, as in the copies on the Hub.
    return {
        split: FileSplit(tuple(sorted(map(_record_file, members), key=lambda file: file.source != "human")))
        for split, members in groups.items()
    }


def _record_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return sorted(
        p
        for p in folder.iterdir()
        if p.suffix.lower() in suffixes and p.name not in _NOT_RECORDS and not p.name.startswith(".") and p.is_file()
    )


def _split_of(file: Path, top: Path) -> str:
    folders = [file.parent, *file.parent.parents]
    for folder in folders[: folders.index(top) + 1]:
        if folder.name.lower() in _SPLIT_NAMES:
            return folder.name.lower()
    return next((word for word in _words(file) if word in _SPLIT_NAMES), "train")


def _words(file: Path) -> list[str]:
    return re.split(r"[^a-z0-9]+", file.stem.lower())


def _record_file(path: Path) -> RecordFile:
    words = _words(path)
    return RecordFile(path, "human" if "human" in words else "augmented" if "augmented" in words else "unknown")


def image_folders(top: Path, split: str) -> tuple[Path, ...]:
    """The folders under `top` that hold the images of a split, the most specific first; `top` itself is the last."""
    names = SPLIT_ALIASES if split in SPLIT_ALIASES else (split,)
    names = tuple(dict.fromkeys((split, *names)))
    parents = [top / name for name in names] + [top]
    folders = [folder for parent in parents for folder in (parent / "png", parent / "images", parent)]
    return tuple(folder.resolve() for folder in folders if folder.is_dir())


def read_records(path: Path) -> Iterator[dict[str, Any] | str]:
    """The records of a file one by one; a str in place of a record says what is wrong with it.

    CSV and TSV values stay text: "0012", "NA" and "12.50" are answers, not numbers or gaps.

    Raises:
        LayoutError: The file as a whole cannot be read.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".json":
            yield from _read_json(path)
        elif suffix in (".csv", ".tsv"):
            yield from _read_table(path, _delimiter(path, "\t,;" if suffix == ".tsv" else ",;\t"))
        else:
            yield from _read_lines(path)
    except UnicodeDecodeError as error:
        raise LayoutError(f"{path}: not UTF-8 text ({error}); save it as UTF-8") from error


def _read_json(path: Path) -> Iterator[dict[str, Any] | str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and error.lineno > 1:  # JSON lines under the wrong name
            yield from _read_lines(path)
            return
        raise LayoutError(f"{path}: not valid JSON ({error})") from error
    if isinstance(content, dict):
        lists = [value for value in content.values() if isinstance(value, list)]
        if len(lists) != 1:
            raise LayoutError(
                f"{path}: wanted a list of records, found an object with {', '.join(map(repr, content))}"
            )
        content = lists[0]
    if not isinstance(content, list):
        raise LayoutError(f"{path}: wanted a list of records, found {type(content).__name__}")
    for record in content:
        yield record if isinstance(record, dict) else f"wanted an object, found {type(record).__name__}"


def _read_lines(path: Path) -> Iterator[dict[str, Any] | str]:
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                yield f"line {number} is not valid JSON ({error.msg})"
            else:
                yield record if isinstance(record, dict) else f"line {number} is no object"


def _delimiter(path: Path, candidates: str) -> str:
    """The first of `candidates` that divides the header, else the first: spreadsheets of some countries write ';'.

    `csv.Sniffer` would look into the records, where a question may hold more commas than the table has columns.
    """
    for delimiter in candidates:
        with open(path, encoding="utf-8-sig", newline="") as file:
            try:
                header = next(csv.reader(file, delimiter=delimiter), [])
            except csv.Error:  # a field too long, as in a file that is no table
                continue
        if len(header) > 1:
            return delimiter
    return candidates[0]


def _read_table(path: Path, delimiter: str) -> Iterator[dict[str, Any] | str]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter=delimiter, restkey="", strict=True)
        try:
            for record in reader:
                if isinstance(record.get(""), list):
                    yield f"line {reader.line_num} has more fields than the header (a {delimiter!r} without quotes?)"
                else:
                    yield record
        except csv.Error as error:
            raise LayoutError(f"{path}, line {reader.line_num}: {error}") from error
