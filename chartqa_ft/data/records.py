"""One raw record of any ChartQA layout becomes one canonical record, or an error that says why it cannot."""

from __future__ import annotations

import io
import logging
import os
import re
import struct
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path, PureWindowsPath
from typing import Any

from ..files import read_regular
from ..images.bombs import MAX_FILE_BYTES
from ..images.check import ImageShapeError, ImageTooLargeError, TruncatedImageError, check_image, check_pixels
from ..images.opening import check_format, decoded
from .cells import as_list, as_name, from_base64, plain_text, shorten, unquote
from .chart_ids import ChartIds, digest
from .columns import ASKING, QA, Columns
from .hub_files import HubFiles
from .real_paths import RealPaths
from .record_errors import RecordProblem
from .record_lines import is_utf8
from .tables import TABLE_TASK, table_answer

logger = logging.getLogger(__name__)

# Scorers read these as numbers that equal no number. pandas writes "nan" for a missing value.
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)%?", re.IGNORECASE)

# What Pillow raises for damaged pixels, or for a damaged EXIF block.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, KeyError, TypeError, OverflowError, struct.error)

_LONGEST_LABEL = 2
"""Words of a label of the source, such as human_test."""

# How many images a reader remembers. The questions on a chart are usually close together, and remembering every chart
# of a long stream would fill the memory. A chart that comes back later is checked again.
_REMEMBERED = 8192


class RecordReader:
    """Turn raw records into canonical ones, without decoding an image.

    A chart is checked once for all records near each other.

    Args:
        folders: Where image files may be, by preference. None allows any path: for the user's own loaded dataset.
        max_pixels: The largest width x height; None for no limit.
        require_answers: Whether a record without an answer is an error; otherwise its answer is "".
        source_names: What the values 0, 1, ... of the source column mean (the names of a `ClassLabel`). None: human
            and machine, as in HuggingFaceM4/ChartQA, but for a column `type`, whose numbers may be those of anything.
        ids: Assigns the ids of charts; shared by the readers of all splits. None: the reader has its own.
        hub: The files on the Hub that the records may name: those of a stream that comes from there. None for none.
    """

    def __init__(
        self,
        *,
        folders: Sequence[Path] | None,
        max_pixels: int | None = None,
        require_answers: bool = True,
        source_names: Sequence[str] | None = None,
        ids: ChartIds | None = None,
        hub: HubFiles | None = None,
    ) -> None:
        self.folders = folders
        self.max_pixels = max_pixels
        self.require_answers = require_answers
        self.source_names = source_names
        self.ids = ids if ids is not None else ChartIds(folders or ())
        self.hub = hub
        self._verdicts: dict[str, tuple[str, str] | None] = {}  # for each distinct image: reason and cause
        self._files: dict[str, tuple[str, str]] = {}  # name -> path, chart id
        self._real_paths = RealPaths()
        self._last = b"", digest(b"")  # the last image that was stored as bytes, and its digest
        self._warned = False

    def __call__(self, raw: Mapping[str, Any] | str, columns: Columns, source: str = "unknown") -> dict[str, Any]:
        """Return the canonical record, its `image` as `{"bytes", "path"}`.

        Args:
            raw: The record as it is stored, or the text of what is wrong with it.
            columns: The columns of the record.
            source: The source of records without such a column.

        Raises:
            RecordProblem: The record cannot be used.
        """
        if isinstance(raw, str):
            raise RecordProblem("malformed record", raw)
        name = as_name(raw.get(columns.file)) if columns.file and columns.image else None
        try:
            task = (plain_text(raw.get(columns.task)) or "").strip() if columns.task else ""
            task = task or columns.given_task or QA
            question, answer = self._texts(raw, columns, task)
            image, identity, default_id = self._image(raw.get(columns.image or columns.file or ""))
        except RecordProblem as problem:
            if columns.file and not problem.file:
                name = as_name(raw.get(columns.file))
            raise RecordProblem(problem.reason, problem.cause, problem.file or name) from None
        # If the name led to a file, the id comes from the file: "a.png" and "./a.png" are one chart.
        given = name if columns.image else None
        if columns.chart_id:
            given = as_name(raw.get(columns.chart_id)) or given
        record = {
            "image": image,
            "question": question,
            "answer": answer,
            "source": self._source(raw.get(columns.source), columns.source) if columns.source else source,
            "chart_id": self.ids.of_name(given, identity) if given else self.ids.unique(default_id, identity),
        }
        if columns.is_pro:
            record["question_type"] = plain_text(raw.get(columns.question_type or "")) or ""
            flags = [plain_text(flag) or "" for flag in as_list(raw.get(columns.year or ""))]
            # A dialogue has one flag per turn, and its last turn is asked; others have one per item of a list.
            record["year_flags"] = flags[-1:] if record["question_type"] == "Conversational" else flags
        if columns.task or columns.given_task:
            record["task"] = task
        if columns.rationale:
            record["rationale"] = (plain_text(raw.get(columns.rationale)) or "").strip()
        path, chart_id = image["path"], record["chart_id"]
        if not (
            len(record) == 5  # no column that only some layouts have
            and question.isascii()
            and answer.isascii()
            and chart_id.isascii()
            and record["source"].isascii()
            and (path is None or (isinstance(path, str) and path.isascii()))
        ):
            _check_unicode(record)
        return record

    def _texts(self, raw: Mapping[str, Any], columns: Columns, task: str) -> tuple[str, str]:
        question, answer = raw.get(columns.question or ""), raw.get(columns.answer or "")
        # Nearly every record: two texts that stay as they are.
        if (
            task == QA
            and not columns.is_pro
            and isinstance(question, str)
            and isinstance(answer, str)
            and question.isascii()
            and answer.isascii()
            and not question.isspace()
            and question
            and (stripped := answer.strip())
            and stripped[0] != "["
        ):
            return question, self._answer(answer, columns.answer)
        column = columns.answer_of(task)
        for name in (columns.question, column):
            value = raw.get(name) if name is not None else None
            if isinstance(value, str) and not value.isascii() and not is_utf8(value):
                raise RecordProblem(
                    "malformed record", f"column {name!r} holds half a surrogate pair: not Unicode text"
                )
        turns = [plain_text(turn) or "" for turn in as_list(raw.get(columns.question or ""))]
        if task not in ASKING and not any(turn.strip() for turn in turns):
            turns = [""]
        elif not turns or not turns[-1].strip():
            value = raw.get(columns.question or "")
            raise RecordProblem("empty question", f"column {columns.question!r} holds {shorten(value)}")
        value = raw.get(column) if column else None
        if task == TABLE_TASK and value is not None and value != "":
            return turns[-1], table_answer(value, self._named_file)
        answers = [plain_text(unquote(answer)) or "" for answer in as_list(value)]
        if not answers or not answers[-1].strip():
            if self.require_answers:
                cause = f"column {column!r} holds {shorten(value)}"
                raise RecordProblem("no answer", cause if column else f"no column for the task {shorten(task)}")
            answers = [*answers[:-1], ""]
        if not columns.is_pro:
            if len(turns) > 1 or len(answers) > 1:
                cause = f"{len(turns)} question(s) and {len(answers)} answer(s) in one record"
                raise RecordProblem("ambiguous record", cause)
            return turns[0], self._answer(answers[0], column)
        # The last question of a dialogue is the one that is scored, and it depends on the earlier turns.
        lines = []
        for turn, answer in zip(turns[:-1], [*answers[:-1], *[""] * len(turns)], strict=False):
            lines += [f"Question: {turn}", f"Answer: {answer}"] if answer else [f"Question: {turn}"]
        question = "\n".join([*lines, f"Question: {turns[-1]}"]) if lines else turns[-1]
        paragraph = plain_text(raw.get(columns.paragraph)) if columns.paragraph else None
        if paragraph and paragraph.strip() not in ("", "nan"):
            question = f"{paragraph.strip()}\n{question}"
        return question, self._answer(answers[-1], column)

    def _named_file(self, name: str) -> str:
        """Return the path of another file than an image that a record names."""
        if self.folders is not None:
            return find_image(name, self.folders, self._real_paths)
        return name

    def _answer(self, text: str, column: str | None) -> str:
        """Return an answer as a model can give it: predictions have no outer white space."""
        text = text.strip()
        if _NOT_FINITE.fullmatch(text) and not self._warned:
            self._warned = True
            logger.warning(
                "column %r holds the answer %r, which scorers read as a number unequal to any other: no prediction "
                "can be right. Correct or drop such records",
                column,
                text,
            )
        return text

    def _source(self, value: Any, column: str) -> str:
        names = self.source_names
        if names is None:
            names = () if column.strip().lower() == "type" else ("human", "machine")
        text = (plain_text(value) if isinstance(value, str | int | float) else None) or ""
        number = text.strip().lstrip("0") or "0"
        # In a CSV file the number is text, of any length.
        if text.strip().isdecimal() and len(number) < 10 and int(number) < len(names):
            text = names[int(number)]
        words = re.findall(r"[a-z]+", text.lower())
        if len(words) > _LONGEST_LABEL:  # of the publisher of a chart: "UN Human Development Report"
            return "unknown"
        if "human" in words:
            return "human"
        return "augmented" if {"augmented", "machine"} & set(words) else "unknown"

    def _image(self, value: Any) -> tuple[Any, str, str]:
        """Return the image as it is stored, what identifies it, and a chart id for a record without one."""
        if isinstance(value, list | tuple):
            if len(value) > 1:
                raise RecordProblem("ambiguous record", f"{len(value)} images")
            value = value[0] if value else None
        path = None
        if isinstance(value, Mapping):
            path, value = value.get("path"), value.get("bytes")
            if value is None and self.hub is not None and self.hub.names(path):
                data = self.hub.read(path)
                identity = digest(data)
                self._check(identity, data, path)
                return {"bytes": data, "path": path}, identity, path
            value = path if value is None else value
        if isinstance(value, bytes | bytearray | memoryview):
            data = bytes(value)
            if data != self._last[0]:  # the questions on a chart usually follow one another
                self._last = data, digest(data)
            identity = self._last[1]
            self._check(identity, data, path)
            return {"bytes": data, "path": path}, identity, identity
        if isinstance(value, str | os.PathLike):
            content = from_base64(os.fspath(value))
            if content is None:
                return self._file(os.fspath(value))
            identity = digest(content)
            try:
                self._check(identity, content, None)
            except RecordProblem as problem:
                raise RecordProblem(problem.reason, f"the image is text in base64; {problem.cause}") from None
            return {"bytes": content, "path": None}, identity, identity
        if hasattr(value, "tobytes") and hasattr(value, "size") and hasattr(value, "mode"):  # an image of Pillow
            buffer = io.BytesIO()
            try:
                check_format(value)
                check_pixels(value, self.max_pixels)
                value = decoded(value)  # upright, as `datasets` shows a stored image: the orientation is not saved
                identity = digest(f"{value.mode}{value.size}".encode() + value.tobytes())
                value.save(buffer, "TIFF" if value.mode not in ("1", "L", "LA", "P", "RGB", "RGBA") else "PNG")
            except _DAMAGED as error:
                raise RecordProblem(*_image_problem(error)) from None
            return {"bytes": buffer.getvalue(), "path": None}, identity, identity
        if value is None:
            raise RecordProblem("no image file", "the record names no image")
        raise RecordProblem("unreadable image", f"the image is a {type(value).__name__}")

    def _file(self, name: str) -> tuple[dict[str, Any], str, str]:
        found = self._files.get(name)
        if found is None:
            if self.folders is not None:
                path = find_image(name, self.folders, self._real_paths)
                found = path, self.ids.of_file(path)
            elif os.path.isfile(name):
                # The id is a digest: a path describes the user's disk rather than the chart, and base names repeat.
                found = os.path.abspath(name), digest(read_regular(name, MAX_FILE_BYTES))
            else:
                raise RecordProblem("no image file", f"there is no file {shorten(name)}", name)
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


def _check_unicode(record: Mapping[str, Any]) -> None:
    """Check that UTF-8 can hold all texts of a canonical record."""
    for key, value in record.items():
        for text in value if isinstance(value, list) else (value.get("path") if key == "image" else value,):
            if isinstance(text, str) and not is_utf8(text):
                raise RecordProblem("malformed record", f"its {key} holds half a surrogate pair: not Unicode text")


def _remember(known: dict[str, Any], key: str, value: Any) -> None:
    """Store a value, and forget all others when there are too many."""
    if len(known) >= _REMEMBERED:
        known.clear()
    known[key] = value


def find_image(name: str, folders: Sequence[Path], real_paths: RealPaths) -> str:
    """Return the path of the file `name` in the first of `folders` (resolved paths) that has it.

    Raises:
        RecordProblem: There is no such file, or the path or a link in it leads out of the folders.
    """
    is_outside, spellings = False, {name: None}
    if os.name != "posix" or ":" in name or "\\" in name or name.startswith("//") or name != name.strip():
        written = PureWindowsPath(name)
        # "a:b.png" is a name like any other, but not on Windows.
        is_outside = bool(written.drive and (written.root or os.name == "nt"))
        spellings = dict.fromkeys((*([name] if os.name == "posix" else []), name.replace("\\", "/"), name.strip()))
    for spelling, folder in () if is_outside else product(spellings, folders):
        try:
            home = os.fspath(folder)
            path, is_file = real_paths.find(home, spelling)
            if not path.startswith(os.path.join(home, "")):
                is_outside = is_outside or path != home
            elif is_file:
                return path
        except (OSError, ValueError):  # a null byte, a name too long
            continue
    shown = shorten(name)
    if is_outside:
        raise RecordProblem("path leaves image_dir", f"{shown} leads out of {folders[-1] if folders else None}", name)
    if re.match(r"\w+://", name):
        raise RecordProblem("no image file", f"{shown} is a URL; images in records are not fetched", name)
    raise RecordProblem("no image file", f"{shown} is not in {' or '.join(map(str, folders)) or 'any folder'}", name)


def _image_problem(error: Exception) -> tuple[str, str]:
    """Return the reason and the cause for an error of an image check."""
    reason = "unreadable image"
    if isinstance(error, ImageTooLargeError):
        reason = "image above the pixel limit"
    elif isinstance(error, ImageShapeError):
        reason = "unusable image shape"
    elif isinstance(error, TruncatedImageError):
        reason = "truncated image"
    return reason, str(error) if isinstance(error, ValueError) else f"the file cannot be read ({error})"
