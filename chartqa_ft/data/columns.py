"""The canonical columns, and which columns of a data set they are."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any

CANONICAL = ("image", "question", "answer", "source", "chart_id")
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


def columns_of(records: Iterable[dict[str, Any] | str], limit: int = 1000) -> list[str]:
    """All keys of the first `limit` records, in the order met: a JSON record may leave out what it does not have."""
    return list(dict.fromkeys(key for record in islice(records, limit) if isinstance(record, dict) for key in record))
