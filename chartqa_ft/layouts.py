"""Where the records of a ChartQA-like source are, and which of its columns is which.

Nothing here looks at the name of a repository: a layout is recognised by its files and its columns.
"""

from __future__ import annotations

import csv
import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

CANONICAL = ("image", "question", "answer", "source", "chart_id")

SPLIT_ALIASES = ("val", "validation", "valid", "dev")
_SPLIT_NAMES = ("train", "test", *SPLIT_ALIASES)

# Names that published copies of ChartQA and the tools around it use, the best first.
_ALIASES = {
    "image": ("image", "images", "img"),
    "file": ("imgname", "file_name", "filename", "image_path", "image_file", "image_name", "img_path"),
    "question": ("question", "query", "problem"),
    "answer": ("answer", "label", "answers", "response"),
    "source": ("source", "human_or_machine", "type"),
    "chart_id": ("chart_id",),
    "question_type": ("question_type",),
    "year": ("year",),
    "paragraph": ("paragraph",),
}
_RECORD_SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv")
_NOT_RECORDS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")


class LayoutError(ValueError):
    """A source whose files or columns are not understood; the message lists what was seen and what to write."""


@dataclass(frozen=True)
class Columns:
    """The source's name for each canonical column, or None where it has no such column."""

    question: str
    answer: str | None
    image: str | None  # the images themselves, or the paths of their files
    file: str | None  # the names of the image files
    source: str | None
    chart_id: str | None
    question_type: str | None = None  # these three mark ChartQAPro
    year: str | None = None
    paragraph: str | None = None

    @property
    def used(self) -> list[str]:
        """The source's columns that are read, each once."""
        names = (getattr(self, field.name) for field in fields(self))
        return list(dict.fromkeys(name for name in names if name is not None))

    @property
    def is_pro(self) -> bool:
        return self.question_type is not None


def find_columns(
    seen: Sequence[str], column_map: Mapping[str, str] | None, *, where: str, require_answers: bool = True
) -> Columns:
    """Tell which column is which: what `column_map` says, and for the rest the names that copies of ChartQA use.

    Raises:
        LayoutError: A column is missing or misspelt.
    """
    column_map = dict(column_map or {})
    for canonical, theirs in column_map.items():
        if canonical not in CANONICAL:
            guess = difflib.get_close_matches(canonical, CANONICAL, n=1)
            raise LayoutError(
                f"column_map has the key {canonical!r}, which is no canonical column"
                + (f" (did you mean {guess[0]!r}?)" if guess else "")
                + f". Its keys are from {', '.join(CANONICAL)}; its values are columns of your data."
            )
        if theirs not in seen:
            guess = difflib.get_close_matches(theirs, seen, n=1)
            raise LayoutError(
                f"{where}: column_map[{canonical!r}] is {theirs!r}, but there is no such column"
                + (f" (did you mean {guess[0]!r}?)" if guess else "")
                + f". Columns seen: {', '.join(map(repr, seen))}."
            )
    by_key = {_key(name): name for name in reversed(seen)}
    found = {role: next((by_key[a] for a in aliases if a in by_key), None) for role, aliases in _ALIASES.items()}
    found.update(column_map)
    if found["question_type"] is None or found["year"] is None:  # only ChartQAPro has both
        found["question_type"] = found["year"] = found["paragraph"] = None
    missing = [name for name in ("question", "answer") if found[name] is None]
    if not require_answers and "answer" in missing:
        missing.remove("answer")
    if found["image"] is None and found["file"] is None:
        missing.append("image")
    if missing:
        free = [name for name in seen if name not in found.values()]
        example = {name: difflib.get_close_matches(name, free, n=1, cutoff=0.5) for name in missing}
        wanted = ", ".join(f"{name!r}: {guess[0] if guess else '<your column>'!r}" for name, guess in example.items())
        message = (
            f"{where}: no column for {' and '.join(missing)}. Columns seen: {', '.join(map(repr, seen)) or 'none'}. "
            f"Say which is which, for example column_map={{{wanted}}}."
        )
        if "answer" in missing:
            message += " If the split has no answers (a hidden test set), pass require_answers=False."
        delimiter = next((mark for mark in ";\t|" if any(mark in str(name) for name in seen)), None)
        if delimiter is not None:
            message = (
                f"{where}: no column for {' and '.join(missing)}. Columns seen: {', '.join(map(repr, seen))}. The "
                f"{delimiter!r} in a column's name looks like a wrong delimiter: save the table with commas between "
                "its columns (read are also ';' and tabs, if nothing else divides the header)."
            )
        raise LayoutError(message)
    return Columns(**found)


def _key(name: str) -> str:
    return re.sub(r"[\s-]+", "_", str(name).strip().lower())


# ------------------------------------------------------------------------------------------------------------ files


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


# ---------------------------------------------------------------------------------------------------------- records


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


def columns_of(records: Iterable[dict[str, Any] | str], limit: int = 1000) -> list[str]:
    """All keys of the first `limit` records, in the order met: a JSON record may leave out what it does not have."""
    return list(dict.fromkeys(key for record in islice(records, limit) if isinstance(record, dict) for key in record))
