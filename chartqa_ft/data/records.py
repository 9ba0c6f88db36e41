"""One raw record of any ChartQA layout -> one canonical record, or a precise reason why not."""

from __future__ import annotations

import ast
import io
import logging
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path, PureWindowsPath
from typing import Any

from ..images.check import ImageShapeError, ImageTooLargeError, TruncatedImageError, check_image, check_pixels
from .chart_ids import ChartIds, digest
from .columns import Columns
from .real_paths import RealPaths

logger = logging.getLogger(__name__)

# What is wrong, in the words that the warning counts by; each with what to do about it.
ADVICE = {
    "malformed record": "Mend the file.",
    "empty question": "Fill in the question.",
    "no answer": "Fill in the answer, or pass require_answers=False for a split without answers.",
    "ambiguous record": "Write one question and one answer a record; a list is one text: '[2017, 2023]'.",
    "no image file": "Restore the file, or pass image_dir=<the folder with the images>.",
    "path leaves image_dir": "Write the path relative to image_dir, without links that lead out of it.",
    "unreadable image": "Replace the file.",
    "truncated image": "Copy or download the file again.",
    "unusable image shape": "Crop the image to the chart, or replace it.",
    "image above the pixel limit": "Shrink the image, or raise max_pixels if you trust it.",
}


# A file on the Hub, or one in an archive there, as `datasets` writes it while streaming. Nothing else: in a chain of
# addresses ("file:///home/x.png::hf://y") the first one decides what is opened.
_HUB_FILE = re.compile(r"(?:(?:zip|tar|gzip|bz2|xz|lz4|zstd)://(?:(?!::).)*::){0,2}hf://(?:(?!::).)+")


# How many images a reader remembers: the questions on a chart mostly stand near each other, and what is remembered of
# every chart of a long stream would fill the memory. One that comes back later is checked again.
_REMEMBERED = 8192


class RecordProblem(Exception):
    """Why a record cannot be used, before it is known where the record is. `reason` is a key of `ADVICE`."""

    def __init__(self, reason: str, cause: str, file: str | None = None) -> None:
        super().__init__(reason, cause, file)
        self.reason, self.cause, self.file = reason, cause, file


class RecordError(ValueError):
    """A record that cannot be used.

    Attributes:
        split (str): The split of the record.
        index (int): Its position in the split, from 0, before anything is dropped. In a stream that has several
            shards: its position in the shard.
        file (str): The image file if there is one, else the file or the data set that holds the record.
        reason (str): The kind of problem, a key of `chartqa_ft.records.ADVICE`.
        cause (str): What exactly is wrong.
    """

    def __init__(self, split: str, index: int, file: str, reason: str, cause: str) -> None:
        super().__init__(split, index, file, reason, cause)
        self.split, self.index, self.file, self.reason, self.cause = split, index, file, reason, cause

    def __str__(self) -> str:
        return (
            f"record {self.index} of split {self.split!r} ({self.file}): {self.reason}: {self.cause}. "
            f"{ADVICE[self.reason]} To leave such records out, pass on_error='skip'."
        )


OnError = str | Callable[[RecordError], None]


class ErrorPolicy:
    """What happens to records that cannot be used, and how many there were."""

    def __init__(self, on_error: OnError) -> None:
        if on_error not in ("raise", "skip") and not callable(on_error):
            raise ValueError(f"on_error must be 'raise', 'skip' or a function of a RecordError, not {on_error!r}")
        self.on_error = on_error
        self.seen: Counter[str] = Counter()
        self.dropped: dict[str, Counter[str]] = {}
        self.first: dict[str, RecordError] = {}

    def handle(self, error: RecordError) -> None:
        """Raise `error`, or count it (and hand it to the user's function)."""
        if self.on_error == "raise":
            raise error
        self.first.setdefault(error.split, error)
        self.dropped.setdefault(error.split, Counter())[error.reason] += 1
        if callable(self.on_error):
            self.on_error(error)

    def report(self) -> None:
        """Say in one warning how many records were dropped and why; nothing when there were none."""
        if not self.dropped:
            return
        parts = []
        for split, reasons in self.dropped.items():
            why = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
            parts.append(f"{sum(reasons.values()):,} of {self.seen[split]:,} records of split {split!r} ({why})")
        logger.warning("Dropped %s. The first: %s", "; ".join(parts), next(iter(self.first.values())))

    def check_something_left(self, split: str) -> None:
        """Raise the first error of a split whose records were all dropped: a wrong folder rather than bad records."""
        if split in self.dropped and sum(self.dropped[split].values()) == self.seen[split]:
            self.report()
            raise self.first[split]


class RecordReader:
    """Callable: a raw record -> a canonical record. Nothing is decoded; a chart is checked once for records near by.

    Args:
        folders: Where image files may be, the best first. None trusts any path: the user's own loaded data set.
        max_pixels: The limit of width x height; None for none.
        require_answers: Whether a record without an answer is an error; otherwise its answer is "".
        source_names: What the values 0, 1, ... of the source column mean (the names of a `ClassLabel`).
        ids: Names the charts; shared by the readers of all splits. None: of its own.
        from_hub: Whether the records are a stream that may come from the Hub: no others may name a file there.
    """

    def __init__(
        self,
        *,
        folders: Sequence[Path] | None,
        max_pixels: int | None = None,
        require_answers: bool = True,
        source_names: Sequence[str] = ("human", "machine"),
        ids: ChartIds | None = None,
        from_hub: bool = False,
    ) -> None:
        self.folders = folders
        self.max_pixels = max_pixels
        self.require_answers = require_answers
        self.source_names = source_names
        self.ids = ids if ids is not None else ChartIds(folders or ())
        self.from_hub = from_hub
        self._verdicts: dict[str, tuple[str, str] | None] = {}  # for each distinct image: reason and cause
        self._files: dict[str, tuple[str, str]] = {}  # name -> path, chart id
        self._places = RealPaths()

    def __call__(self, raw: Mapping[str, Any] | str, columns: Columns, source: str = "unknown") -> dict[str, Any]:
        """The canonical record, its `image` as `{"bytes", "path"}`; `source` is for records that do not tell theirs.

        Raises:
            RecordProblem: The record cannot be used.
        """
        if isinstance(raw, str):
            raise RecordProblem("malformed record", raw)
        name = _name(raw.get(columns.file)) if columns.file else None
        try:
            question, answer = self._texts(raw, columns)
            image, identity, default_id = self._image(raw.get(columns.image or columns.file))
        except RecordProblem as problem:
            raise RecordProblem(problem.reason, problem.cause, problem.file or name) from None
        # Where the name led to the file, the file tells better: "a.png" and "./a.png" are one chart.
        given = name if columns.image else None
        if columns.chart_id:
            given = _name(raw.get(columns.chart_id)) or given
        record = {
            "image": image,
            "question": question,
            "answer": answer,
            "source": self._source(raw.get(columns.source)) if columns.source else source,
            "chart_id": self.ids.of_name(given, identity) if given else self.ids.unique(default_id, identity),
        }
        if columns.is_pro:
            record["question_type"] = plain_text(raw.get(columns.question_type)) or ""
            flags = [plain_text(flag) or "" for flag in _as_list(raw.get(columns.year))]
            # A dialogue has a flag for each turn, and its last turn is asked; others have one for each part of a list.
            record["year_flags"] = flags[-1:] if record["question_type"] == "Conversational" else flags
        return record

    def _texts(self, raw: Mapping[str, Any], columns: Columns) -> tuple[str, str]:
        turns = [plain_text(turn) or "" for turn in _as_list(raw.get(columns.question))]
        if not turns or not turns[-1].strip():
            value = raw.get(columns.question)
            raise RecordProblem("empty question", f"column {columns.question!r} holds {_short(value)}")
        value = raw.get(columns.answer) if columns.answer else None
        answers = [plain_text(_unquoted(answer)) or "" for answer in _as_list(value)]
        if not answers or not answers[-1].strip():
            if self.require_answers:
                raise RecordProblem("no answer", f"column {columns.answer!r} holds {_short(value)}")
            answers = [*answers[:-1], ""]
        if not columns.is_pro:
            if len(turns) > 1 or len(answers) > 1:
                cause = f"{len(turns)} question(s) and {len(answers)} answer(s) in one record"
                raise RecordProblem("ambiguous record", cause)
            return turns[0], answers[0]
        # A dialogue: its last question is the one that is scored, and needs the turns before it.
        lines = []
        for turn, answer in zip(turns[:-1], [*answers[:-1], *[""] * len(turns)], strict=False):
            lines += [f"Question: {turn}", f"Answer: {answer}"] if answer else [f"Question: {turn}"]
        question = "\n".join([*lines, f"Question: {turns[-1]}"]) if lines else turns[-1]
        paragraph = plain_text(raw.get(columns.paragraph)) if columns.paragraph else None
        if paragraph and paragraph.strip() not in ("", "nan"):
            question = f"{paragraph.strip()}\n{question}"
        return question, answers[-1]

    def _source(self, value: Any) -> str:
        text = plain_text(value) if isinstance(value, str | int | float) else ""
        if (text or "").strip().isdecimal() and int(text) < len(self.source_names):  # text in a CSV file
            text = self.source_names[int(text)]
        words = re.split(r"[^a-z]+", (text or "").lower())
        if "human" in words:
            return "human"
        return "augmented" if {"augmented", "machine"} & set(words) else "unknown"

    def _image(self, value: Any) -> tuple[Any, str, str]:
        """The image as it is stored, what identifies it, and a chart id for a record that names none."""
        if isinstance(value, list | tuple):
            if len(value) > 1:
                raise RecordProblem("ambiguous record", f"{len(value)} images")
            value = value[0] if value else None
        path = None
        if isinstance(value, Mapping):
            path, value = value.get("path"), value.get("bytes")
            if value is None and self.from_hub and isinstance(path, str) and _HUB_FILE.fullmatch(path):
                return {"bytes": None, "path": path}, digest(path.encode()), path  # fetched only when it is decoded
            value = path if value is None else value
        if isinstance(value, bytes | bytearray | memoryview):
            data = bytes(value)
            identity = digest(data)
            self._check(identity, data, path)
            return {"bytes": data, "path": path}, identity, identity
        if isinstance(value, str | os.PathLike):
            return self._file(os.fspath(value))
        if hasattr(value, "tobytes") and hasattr(value, "size") and hasattr(value, "mode"):  # an image decoded already
            try:
                check_pixels(value, self.max_pixels)
            except (ImageShapeError, ImageTooLargeError) as error:
                raise RecordProblem(*_image_problem(error)) from None
            identity = digest(f"{value.mode}{value.size}".encode() + value.tobytes())
            buffer = io.BytesIO()
            value.save(buffer, "TIFF" if value.mode not in ("1", "L", "LA", "P", "RGB", "RGBA") else "PNG")
            return {"bytes": buffer.getvalue(), "path": None}, identity, identity
        if value is None:
            raise RecordProblem("no image file", "the record names no image")
        raise RecordProblem("unreadable image", f"the image is a {type(value).__name__}")

    def _file(self, name: str) -> tuple[dict[str, Any], str, str]:
        found = self._files.get(name)
        if found is None:
            if self.folders is not None:
                path = find_image(name, self.folders, self._places)
                found = path, self.ids.of_file(path)
            elif os.path.isfile(name):
                # A path says more about the user's disk than about the chart, and base names repeat.
                found = os.path.abspath(name), digest(Path(name).read_bytes())
            else:
                raise RecordProblem("no image file", f"there is no file {_short(name)}", name)
            _remember(self._files, name, found)
        path, chart_id = found
        self._check(path, path, name)
        return {"bytes": None, "path": path}, path, chart_id

    def _check(self, key: str, image: bytes | str, name: str | None) -> None:
        if key in self._verdicts:
            verdict = self._verdicts[key]
        else:
            try:
                check_image(image, self.max_pixels)
                verdict = None
            except (ValueError, OSError) as error:
                verdict = _image_problem(error)
            _remember(self._verdicts, key, verdict)
        if verdict is not None:
            raise RecordProblem(*verdict, name)


def _remember(known: dict[str, Any], key: str, value: Any) -> None:
    if len(known) >= _REMEMBERED:
        known.clear()
    known[key] = value


def find_image(name: str, folders: Sequence[Path], places: RealPaths) -> str:
    """The path of the file `name` in the first of `folders` (resolved paths) that has it.

    Raises:
        RecordProblem: There is none, or the path or a link in it leads out of the folders.
    """
    relative = name.replace("\\", "/")
    left = bool(PureWindowsPath(name).drive)
    for folder in () if left else folders:
        try:
            home = os.fspath(folder)
            path, is_file = places.find(home, relative)
            if not path.startswith(os.path.join(home, "")):
                left = left or path != home
            elif is_file:
                return path
        except (OSError, ValueError):  # a null byte, a name too long
            continue
    shown = _short(name)
    if left:
        raise RecordProblem("path leaves image_dir", f"{shown} leads out of {folders[-1] if folders else None}", name)
    if re.match(r"\w+://", name):
        raise RecordProblem("no image file", f"{shown} is an address; images are not fetched from records", name)
    raise RecordProblem("no image file", f"{shown} is not in {' or '.join(map(str, folders)) or 'any folder'}", name)


def plain_text(value: Any) -> str | None:
    """A cell as a person would write it, None for a gap: 14.0 -> "14", 1e-05 -> "0.00001", True -> "Yes"."""
    if value is None or isinstance(value, str):
        return value
    if hasattr(value, "item") and not isinstance(value, bytes):  # a numpy scalar
        value = value.item()
    if isinstance(value, bool):
        return "Yes" if value else "No"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        value = Decimal(repr(value)) + 0  # no "-0"
    if isinstance(value, Decimal):
        text = format(value, "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise RecordProblem("ambiguous record", f"wanted text or a number, found {_short(value)}")


def _unquoted(value: Any) -> Any:
    """ "['14']", a list of one that went through CSV -> "14". A list in ChartQA's own text, [14] or [a, b], stays."""
    if isinstance(value, str) and re.fullmatch(r"""\[\s*(['"]).*\1\s*\]""", value.strip(), re.DOTALL):
        try:
            parsed = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return value
        if isinstance(parsed, list) and len(parsed) == 1 and isinstance(parsed[0], str):
            return parsed[0]
    return value


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    if hasattr(value, "tolist") and getattr(value, "ndim", 0):
        value = value.tolist()
    return list(value) if isinstance(value, list | tuple) else [value]


def _name(value: Any) -> str | None:
    text = None if isinstance(value, Mapping | bytes | list) else plain_text(value)
    return text if text and text.strip() else None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:100]}... ({len(text):,} characters)"


def _image_problem(error: Exception) -> tuple[str, str]:
    reason = "unreadable image"
    if isinstance(error, ImageTooLargeError):
        reason = "image above the pixel limit"
    elif isinstance(error, ImageShapeError):
        reason = "unusable image shape"
    elif isinstance(error, TruncatedImageError):
        reason = "truncated image"
    return reason, str(error) if isinstance(error, ValueError) else f"the file cannot be read ({error})"
