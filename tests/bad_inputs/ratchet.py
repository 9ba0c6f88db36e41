"""The cases that are known to be wrong: a list that may only become shorter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from .case import SILENT, UNCLEAR

KNOWN_WRONG = Path(__file__).with_name("known_wrong.txt")
Key = tuple[str, str]


def known_wrong() -> set[Key]:
    """Return group and name of the cases in `known_wrong.txt`."""
    lines = KNOWN_WRONG.read_text(encoding="utf-8").splitlines() if KNOWN_WRONG.exists() else []
    return {_key(line) for line in lines if line and not line.startswith("#")}


def write_known_wrong(keys: Iterable[Key]) -> None:
    """Write the cases that are wrong, sorted."""
    lines = sorted(_line(key) for key in keys)
    head = "# Written by `python -m tests.bad_inputs --write-known-wrong`. Fixed cases have to leave this list.\n"
    KNOWN_WRONG.write_text(head + "".join(f"{line}\n" for line in lines), encoding="utf-8")


def summary(counts: Mapping[str, int]) -> str:
    """Return how many cases came out how, in one line."""
    total = sum(counts.values())
    silent, unclear = counts.get(SILENT, 0), counts.get(UNCLEAR, 0)
    return f"{total - silent - unclear} of {total} handled or clear, {silent} silently wrong, {unclear} unclear"


def _line(key: Key) -> str:
    return "\t".join(part.encode("unicode_escape").decode("ascii") for part in key)


def _key(line: str) -> Key:
    group, name = (part.encode("ascii").decode("unicode_escape") for part in line.split("\t"))
    return group, name
