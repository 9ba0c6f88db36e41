"""Records in JSON and JSON lines. What is wrong with one record does not affect the others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..files import parse_json, read_regular, repeated
from .cells import shorten
from .columns import LayoutError, listed
from .open_cqa import is_open_cqa, open_cqa_records
from .record_lines import NOT_UTF8, RecordLines, is_utf8

LARGEST_JSON = 2**31
"""Bytes. A JSON file is read as a whole; larger data sets are written as JSON lines."""
# A string (to the end of the text if it is not closed), or a mark outside of strings.
_TOKEN = re.compile(r""""[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[\]{},]""", re.DOTALL)


def read_json_records(path: Path) -> Iterator[dict[str, Any] | str]:
    """Yield the records of a JSON file: a list, an object that holds one list, an object of the records of
    OpenCQA, or JSON lines under the wrong name.

    Raises:
        LayoutError: The file as a whole is not JSON.
    """
    text = read_regular(path, LARGEST_JSON).decode("utf-8-sig", "surrogateescape")
    try:
        content = _parse(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and error.lineno > 1:
            yield from read_json_lines(path)
            return
        if not is_utf8(text):
            raise LayoutError(f"{path}: not UTF-8 text; save it as UTF-8") from error
        raise LayoutError(f"{path}: not valid JSON ({error.msg})") from error
    except ValueError:  # a value that cannot be read, perhaps that of one record alone
        content = None
    if content is None or not is_utf8(text):
        yield from _read_one_by_one(path, text)
        return
    if is_open_cqa(content):
        yield from open_cqa_records(content)
        return
    if isinstance(content, dict):
        lists = [value for value in content.values() if isinstance(value, list)]
        if len(lists) != 1:
            raise LayoutError(f"{path}: expected a list of records, found an object with {listed(content)}")
        content = lists[0]
    if not isinstance(content, list):
        raise LayoutError(f"{path}: expected a list of records, found {type(content).__name__}")
    for record in content:
        yield _checked(record, "expected an object, found ")


def read_json_lines(path: Path) -> Iterator[dict[str, Any] | str]:
    """Yield the records of a file of JSON lines.

    Raises:
        LayoutError: A line is too long to be read.
    """
    with RecordLines(path) as lines:
        for line in lines:
            if not line.strip():
                continue
            if lines.is_broken:
                yield f"line {lines.number} is {NOT_UTF8}"
                continue
            try:
                record = _parse(line)
            except ValueError as error:
                yield f"line {lines.number} is not valid JSON ({getattr(error, 'msg', error)})"
            else:
                yield _checked(record, f"line {lines.number} is not an object but ")


class _Repeated(dict[str, Any]):
    """An object that has a key more than once."""

    key: str


def _parse(text: str) -> Any:
    return parse_json(text, decoder=_DECODER)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    marked = _Repeated(found)
    marked.key = repeated(key for key, _ in pairs) or ""
    return marked


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def _checked(record: Any, expected: str) -> dict[str, Any] | str:
    """Return a record, or what is wrong with it."""
    if isinstance(record, _Repeated):
        return f"the key {shorten(record.key)} occurs more than once"
    return record if isinstance(record, dict) else f"{expected}{type(record).__name__}"


# ------------------------------------------------------------------------------------------- a file with a bad value
def _read_one_by_one(path: Path, text: str) -> Iterator[dict[str, Any] | str]:
    """Yield the records of a file that cannot be parsed as a whole, each parsed alone.

    No parser is needed to find them: brackets and commas outside of strings do.
    """
    start = len(text) - len(text.lstrip())
    spans, end = _members(text, start)
    if end is None:
        raise LayoutError(f"{path}: not valid JSON (a bracket is not closed)")
    if text[end:].strip():
        yield from read_json_lines(path)
        return
    if text.startswith("{", start):
        # The text of a value begins after the first colon outside of the key.
        values = [(_value_at(text, begin), stop) for begin, stop in spans]
        lists = [begin for begin, _ in values if text.startswith("[", begin)]
        if len(lists) != 1:
            raise LayoutError(f"{path}: expected a list of records, found an object with {len(lists)} lists")
        spans, _ = _members(text, lists[0])
    for begin, stop in spans:
        part = text[begin:stop]
        if not is_utf8(part):
            yield f"it is {NOT_UTF8}"
            continue
        try:
            record = _parse(part)
        except ValueError as error:
            yield f"it cannot be read: {getattr(error, 'msg', error)}"
        else:
            yield _checked(record, "expected an object, found ")


def _members(text: str, start: int) -> tuple[list[tuple[int, int]], int | None]:
    """Return the spans of the members of the list or object at `start`, and its own end: `None` if it has none."""
    depth, begin, spans = 0, start + 1, []
    for token in _TOKEN.finditer(text, start):
        mark = text[token.start()]
        if mark in "[{":
            depth += 1
        elif mark in "]}":
            depth -= 1
        if (mark == "," and depth == 1) or (mark in "]}" and depth == 0):
            if text[begin : token.start()].strip():
                spans.append((begin, token.start()))
            begin = token.end()
        if depth == 0:
            return spans, token.end()
    return [], None


def _value_at(text: str, begin: int) -> int:
    """Return where the value of the member of an object at `begin` begins."""
    key = _TOKEN.search(text, begin)
    at = text.find(":", key.end() if key else begin) + 1
    while text[at : at + 1].isspace():
        at += 1
    return at
