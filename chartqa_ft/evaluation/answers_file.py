"""`AnswersFile`: the answers of an evaluation that may be interrupted, one a line, so that it goes on where it was."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from ..files import as_json, open_regular, parse_json
from ..metrics.predictions import LONGEST_LINE
from ..resources import naming_a_full_disk

try:
    import fcntl
except ImportError:  # Windows has other locks
    fcntl = None  # type: ignore[assignment]

_FORMAT = "chartqa_ft answers"
_START = json.dumps({"format": _FORMAT})[:-1].encode("ascii")
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_ADVICE = "delete the file to ask all questions again, or choose another --output_dir"


class AnswersFile:
    """Answers by row number, written to disk one by one and read back by the next run of the same settings.

    The first line holds the settings. A last line that was cut off, as by a kill, is dropped.

    Args:
        path: the file. Its folder is created if it is missing.
        settings: what the answers depend on, as JSON holds it.
        n: the number of questions.

    Raises:
        ValueError: the file is of other settings (the message names the first that differs) or damaged.
        OSError: it cannot be read or written, or another process is writing to it.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "answers.jsonl"
        >>> with AnswersFile(path, {"model": "a"}, 2) as file:
        ...     file.add(1, text="Peru", cut=False)
        >>> with AnswersFile(path, {"model": "a"}, 2) as file:
        ...     file.answers
        {1: {'text': 'Peru', 'cut': False}}
        >>> AnswersFile(path, {"model": "b"}, 2)
        Traceback (most recent call last):
        ...
        ValueError: ...answers.jsonl holds answers of other settings: model was 'a' and is now 'b'. Run the earlier ...
    """

    def __init__(self, path: str | Path, settings: Mapping[str, Any], n: int) -> None:
        self.path, self.n = Path(path), n
        self.answers: dict[int, dict[str, Any]] = {}
        """Row number -> `text` and `cut` of the answer."""
        self._file = self._opened()
        try:
            self._read(as_json(settings))
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> AnswersFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, row: int, *, text: str, cut: bool) -> None:
        """Write the answer of a row, so that it survives a kill of this process.

        Raises:
            OSError: it cannot be written.
        """
        self._write({"row": row, "text": text, "cut": cut})
        self.answers[row] = {"text": text, "cut": cut}

    def remove(self) -> None:
        """Delete the file, once its answers are stored elsewhere."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _opened(self) -> IO[bytes]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            open_regular(self.path).close()  # no pipe and no device
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | _NO_LINK, 0o666)
        file = open(descriptor, "r+b", buffering=0)  # noqa: SIM115  (it is closed with this object)
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            raise OSError(
                f"{self.path} is in use by another run: wait for its end, or choose another --output_dir"
            ) from error
        return file

    def _read(self, settings: dict[str, Any]) -> None:
        size, rest = 0, b""
        lines: list[bytes] = []
        with io.BufferedReader(open_regular(self.path)) as file:
            for line in iter(lambda: file.readline(LONGEST_LINE), b""):
                if len(line) >= LONGEST_LINE:
                    raise self._damaged(len(lines) + 1, "it is too long")
                if not line.endswith(b"\n"):
                    rest = line
                    break
                size += len(line)
                lines.append(line)
        if not lines:
            if not (rest.startswith(_START) or _START.startswith(rest)):
                raise self._foreign()
            os.ftruncate(self._file.fileno(), 0)
            self._write({"format": _FORMAT, "settings": settings})
            return
        for number, line in enumerate(lines, start=1):
            try:
                entry = parse_json(line.decode("utf-8"))
            except ValueError as error:
                raise self._damaged(number, str(error)) from error
            if number == 1:
                self._check(entry, settings)
            else:
                row = self._checked_row(entry, number)
                self.answers[row] = {"text": entry["text"], "cut": entry["cut"]}
        os.ftruncate(self._file.fileno(), size)

    def _check(self, header: Any, settings: Mapping[str, Any]) -> None:
        if not isinstance(header, dict) or header.get("format") != _FORMAT:
            raise self._foreign()
        stored = header.get("settings")
        earlier = stored if isinstance(stored, dict) else {}
        for name in sorted({*settings, *earlier}):
            was, now = earlier.get(name), settings.get(name)
            if was != now:
                raise ValueError(
                    f"{self.path} holds answers of other settings: {name} was {was!r:.100} and is now {now!r:.100}. "
                    f"Run the earlier command again to finish it, {_ADVICE}"
                )

    def _checked_row(self, entry: Any, number: int) -> int:
        values = [entry.get(key) for key in ("row", "text", "cut")] if isinstance(entry, dict) else [None] * 3
        row, text, cut = values
        good = type(row) is int and 0 <= row < self.n and isinstance(text, str) and isinstance(cut, bool)
        if not good or row in self.answers:
            raise self._damaged(number, "it is no answer to one of the questions" if not good else "its row repeats")
        return int(row)  # type: ignore[arg-type]

    def _foreign(self) -> ValueError:
        return ValueError(f"{self.path} does not hold the answers of an interrupted run: {_ADVICE}")

    def _damaged(self, number: int, reason: str) -> ValueError:
        return ValueError(f"{self.path}, line {number} is damaged ({reason}): {_ADVICE}")

    def _write(self, entry: Mapping[str, Any]) -> None:
        message = (
            f"an answer could not be written to {self.path}, which keeps the earlier ones: free some space, then "
        )
        with naming_a_full_disk(message + "run the same command again"):
            line = json.dumps(entry).encode("ascii") + b"\n"
            while line:
                line = line[self._file.write(line) :]
