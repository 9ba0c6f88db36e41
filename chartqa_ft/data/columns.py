"""The canonical columns, and which columns of a dataset correspond to them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any

from .cells import shorten
from .column_words import guess_columns

_COMPARED = 1000  # how many names are searched for one that may be meant
FIRST_RECORDS = 1000
"""How many records of a file decide what its columns are."""
CANONICAL = ("image", "question", "answer", "source", "chart_id")
MAPPED = (*CANONICAL, "task", "rationale")
"""The keys of `column_map`."""
# Names that published copies of ChartQA and the tools around it use, by preference.
_ALIASES = {
    "image": ("image", "images", "img"),
    "file": ("imgname", "file_name", "filename", "image_path", "image_file", "image_name", "img_path"),
    "question": ("question", "query", "problem"),
    "answer": ("answer", "label", "answers", "response"),
    "source": ("source", "human_or_machine", "type"),
    "chart_id": ("chart_id",),
    "question_type": ("question_type",),
    "year": ("year", "year_flags"),  # the second is the name in the records of `load_chartqa`
    "paragraph": ("paragraph",),
    "task": ("task",),
    "rationale": ("rationale",),
}


_ANSWERS_OF_TASKS = {"table": ("table", "data_table", "csv"), "summary": ("summary", "caption")}
"""Names of the column of answers that some tasks have, by preference."""
_NAMES = frozenset(name for names in (*_ALIASES.values(), *_ANSWERS_OF_TASKS.values()) for name in names)

QA = "qa"
"""The task of records that name none."""
ASKING = (QA, "open_qa")
"""Tasks whose records need a question. Whether an own task needs one is known to its prompt."""


class LayoutError(ValueError):
    """A source whose files or columns are not recognized; the message lists what was found and how to fix it."""


@dataclass(frozen=True)
class Columns:
    """The source's name for each canonical column, or None where it has no such column."""

    question: str | None  # None only if records name their tasks, some of which need no question
    answer: str | None
    image: str | None  # the images themselves, or the paths of their files
    file: str | None  # the names of the image files
    source: str | None
    chart_id: str | None
    question_type: str | None = None  # this and the next two: ChartQAPro only
    year: str | None = None
    paragraph: str | None = None
    task: str | None = None
    rationale: str | None = None
    task_answer: str | None = None  # the answers of records of `given_task`, if those have a column of their own
    given_task: str | None = None  # no column, but the task of records that name none
    seen: tuple[str, ...] = ()  # no column, but the names of all columns, read or not

    @property
    def used(self) -> list[str]:
        """The source's columns that are read, each once."""
        names = (getattr(self, field.name) for field in fields(self) if field.name not in ("given_task", "seen"))
        return list(dict.fromkeys(name for name in names if name is not None))

    def answer_of(self, task: str) -> str | None:
        """Return the source's column for the answers of the records of a task."""
        return self.task_answer if self.task_answer is not None and task == self.given_task else self.answer

    @property
    def is_pro(self) -> bool:
        """Whether the records have the layout of ChartQAPro."""
        return self.question_type is not None

    @property
    def extras(self) -> tuple[str, ...]:
        """The columns of the result beside the canonical ones."""
        pro = ("question_type", "year_flags") if self.is_pro else ()
        has_task = self.task is not None or self.given_task is not None
        return (*pro, *["task"] * has_task, *["rationale"] * (self.rationale is not None))


def find_columns(
    seen: Sequence[str],
    column_map: Mapping[str, str] | None,
    *,
    where: str,
    require_answers: bool = True,
    task: str | None = None,
) -> Columns:
    """Match the columns of a source with the canonical ones.

    Entries of `column_map` come first; the other columns are found by the names that copies of ChartQA use.

    Args:
        seen: The columns of the source.
        column_map: `{canonical column: the source's column}`, or None.
        where: What error messages call the source.
        require_answers: Whether a column of answers must exist.
        task: The task of records that name none; `None`: a short answer to a question.

    Raises:
        LayoutError: A column is missing or misspelled.

    Example:
        >>> find_columns(["imgname", "query", "label"], None, where="charts.csv").used
        ['query', 'label', 'imgname']
    """
    if column_map is not None and not isinstance(column_map, Mapping):
        raise TypeError(f"column_map must be a dict {{canonical column: your column}}, not {column_map!r}")
    column_map = dict(column_map or {})
    _check_column_map(column_map, seen, where)
    by_key = {_key(name): name for name in reversed(seen)}
    own = () if "answer" in column_map else _ANSWERS_OF_TASKS.get(task or "", ())
    names = {**_ALIASES, "task_answer": own}
    found = {role: next((by_key[a] for a in aliases if a in by_key), None) for role, aliases in names.items()}
    for role, name in found.items():
        twins = [other for other in seen if name is not None and _key(other) == _key(name)]
        mapped = "answer" if role == "task_answer" else role
        if len(twins) > 1 and mapped not in column_map:
            raise LayoutError(
                f"{where}: the columns {listed(twins)} differ only in case or white space; rename "
                f"one, or pass column_map={{{mapped!r}: ...}}"
            )
    found.update(column_map)
    if found["question_type"] is None or found["year"] is None:  # only ChartQAPro has both
        found["question_type"] = found["year"] = found["paragraph"] = None
    question = found.pop("question")
    missing = ["question"] if question is None and found["task"] is None and task in (None, *ASKING) else []
    if require_answers and found["answer"] is None and found["task_answer"] is None:
        missing.append("answer")
    if found["image"] is None and found["file"] is None:
        missing.append("image")
    if missing:
        free = [name for name in seen if name not in (question, *found.values())]
        raise LayoutError(_missing_columns(missing, seen, free, where, column_map))
    return Columns(question=question, **found, given_task=task, seen=tuple(seen))


def columns_of(records: Iterable[dict[str, Any] | str], limit: int | None = FIRST_RECORDS) -> list[str]:
    """Return all keys of the first `limit` records in order of appearance; a JSON record may omit empty fields.

    With `limit=None`, all records are looked at.
    """
    found: dict[str, None] = {}
    for record in islice(records, limit):
        if isinstance(record, dict) and not record.keys() <= found.keys():
            found.update(dict.fromkeys(record))
    return list(found)


def may_be_read(name: str) -> bool:
    """Return whether a column is, by its name, one of those that are read from some sources.

    Example:
        >>> [may_be_read(name) for name in ("Human-or-machine", "year_flags", "color")]
        [True, True, False]
    """
    return _key(name) in _NAMES


def _key(name: str) -> str:
    return re.sub(r"[\s-]+", "_", str(name).strip().lower())


def _check_column_map(column_map: Mapping[str, str], seen: Sequence[str], where: str) -> None:
    for canonical, theirs in column_map.items():
        if canonical not in MAPPED:
            swapped = {name: other for other, name in column_map.items()}
            is_swapped = set(swapped) <= set(MAPPED) and set(column_map) <= set(seen)
            raise LayoutError(
                f"column_map has the key {canonical!r}, which is not a canonical column"
                f"{_did_you_mean(canonical, MAPPED)}. Its keys are from {', '.join(MAPPED)}; its values are "
                f"columns of your data.{f' Keys and values are swapped: pass column_map={swapped}.' * is_swapped}"
            )
        if not isinstance(theirs, str):
            raise TypeError(f"column_map[{canonical!r}] must be the name of a column, not {theirs!r}")
        if theirs not in seen:
            raise LayoutError(
                f"{where}: column_map[{canonical!r}] is {theirs!r}, but there is no such column"
                f"{_did_you_mean(theirs, seen)}. Columns found: {listed(seen)}.{_one_pair_each(theirs)}"
            )
    for canonical in ("question", "answer"):
        mapped = column_map.get(canonical)
        others = [name for name, other in column_map.items() if other == mapped and name != canonical]
        if mapped is not None and others:
            raise LayoutError(
                f"column_map has {mapped!r} as {canonical} and as {others[0]}; each needs its own column"
            )


def listed(names: Iterable[object], most: int = 30) -> str:
    """Return names for an error message, cut to a length that fits there.

    Example:
        >>> listed(["a", "b", "c"], most=2)
        "'a', 'b' and 1 more"
    """
    shown = [shorten(name) for name in names]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most:,} more" if len(shown) > most else "")


def _did_you_mean(name: str, candidates: Sequence[str]) -> str:
    guess = difflib.get_close_matches(name, candidates[:_COMPARED], n=1)
    return f" (did you mean {guess[0]!r}?)" if guess else ""


def _one_pair_each(name: str) -> str:
    """Return advice if the name of a column holds the pairs after it, as in `image=a,question=b`."""
    return " Separate the pairs by spaces, and quote each for itself." if re.search(r"[,;]\s*\w+=", name) else ""


def _missing_columns(
    missing: Sequence[str], seen: Sequence[str], free: Sequence[str], where: str, given: Mapping[str, str]
) -> str:
    """Return the message for missing columns.

    `free` are the columns of the source that are not used yet, `given` is the column map that was passed.
    """
    found = f"{where}: no column for {' and '.join(missing)}. Columns found: {listed(seen) or 'none'}. "
    delimiter = next((mark for mark in ";\t|" if any(mark in str(name) for name in seen)), None)
    if delimiter is not None:
        return found + (
            f"A column name contains {delimiter!r}, which looks like an unsupported delimiter: save the table with "
            "commas between its columns (';' and tabs also work if the header uses nothing else)."
        )
    guesses = guess_columns(missing, free[:_COMPARED])
    whole = {**given, **{name: guesses.get(name, "<your column>") for name in missing}}
    example = ", ".join(f"{name!r}: {column!r}" for name, column in whole.items())
    if "answer" in missing:
        found += "If the split has no answers (a hidden test set), pass require_answers=False. "
    return f"{found}Pass a column_map, for example column_map={{{example}}}."
