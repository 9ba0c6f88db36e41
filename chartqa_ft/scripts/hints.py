"""Errors in the words of the command line: `--on_error skip` where Python code would pass `on_error='skip'`."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Collection, Mapping
from typing import Any

__all__ = ["for_command_line", "named_as_on_hub"]

# Advice for which scripts have no argument, or one of another meaning: load_chartqa's max_pixels bounds files, that of
# the scripts resizes charts.
_REPLACED = (
    (re.compile(r", or raise max_pixels if you trust it"), ""),
    (re.compile(r"image_dir=<[^>]*>"), "--image_dir FOLDER"),
    (re.compile(r"[Pp]ass a column_map, for example (?=column_map=)"), "Pass "),
    (re.compile(r"resume_from_checkpoint=True"), "--resume_from_checkpoint last"),
    (re.compile(r"use the variant '(\w+)' or '(\w+)'"), r"use --metric_variant \1 or \2"),
    (re.compile(r"load_checkpoint\(\.\.\., compat=False\)"), "--compat False"),
    (re.compile(r"pass extract=, "), "pass --metric_extract, "),
    (re.compile(r" \(set_image_cost\)"), ""),
    (re.compile(r"\(set_image_cost; "), "("),
)
_MAPPED = re.compile(r"(?<![\w.-])column_map=(\{[^{}]*\})(?:\.$)?")
_MAPPED_KEY = re.compile(r"(?<![\w.-])column_map\[(['\"])(\w+)\1\] is (['\"])(.*?)\3")
_QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
_ASSIGNED = re.compile(rf"(?<![\w.'\"`/(-])(\w+)=({_QUOTED}|-?[\w.+-]*\w)")
_NAMED = re.compile(r"(?<![\w.'\"`/\\=(-])([a-z]+(?:_[a-z0-9]+)+)(?![\w('\"`/\\=-]|\.\w)")
_SNAPSHOT = re.compile(r"[^\s'\"]*[/\\](?:model|dataset)s--([^\s/\\]+?)--([^\s/\\]+)[/\\]snapshots[/\\][0-9a-f]{40}")
"""A folder in the cache of downloads from the Hub."""
_CALL = re.compile(r"[\w.]+\([^()]*\)")
"""A call in Python's notation, which stays as it is: push_to_hub(merge=True)."""


def named_as_on_hub(text: str) -> str:
    """Return a text in which a repository of the Hub has its name, in place of its folder in the cache.

    Example:
        >>> named_as_on_hub(f"/home/me/hub/models--me--charts/snapshots/{'0' * 40}/config.json is damaged")
        'me/charts/config.json is damaged'
    """
    return _SNAPSHOT.sub(r"\1/\2", text)


def for_command_line(text: str, names: Collection[str], renamed: Mapping[str, str] | None = None) -> str:
    r"""Return a message in which arguments are written as on the command line.

    Names of other things, and what is inside a call such as `load_checkpoint(folder, merge=True)`, stay as they are.

    Args:
        text: The message of an error.
        names: The arguments of the script.
        renamed: `{name in Python: the script's name for it}`, where they differ.

    Example:
        >>> for_command_line("To leave such records out, pass on_error='skip'.", {"on_error"})
        'To leave such records out, pass --on_error skip.'
        >>> message = "Pass a column_map, for example column_map={'question': 'Frage', 'answer': 'Ihre Antwort'}."
        >>> for_command_line(message, {"column_map"})
        "Pass --column_map question=Frage 'answer=Ihre Antwort'"
    """
    known, renamed = set(names) | set(renamed or {}), dict(renamed or {})
    for pattern, replacement in _REPLACED:
        text = pattern.sub(replacement, text)
    text = _MAPPED.sub(_pairs, text)
    text = _MAPPED_KEY.sub(
        lambda found: f"--column_map {_quoted(f'{found[2]}={found[4]}')} names the column {found[4]!r}", text
    )

    def option(name: str) -> str:
        return f"--{renamed.get(name, name)}"

    def assigned(found: re.Match[str]) -> str:
        name, value = found[1], _plain(found[2])
        return f"{option(name)} {value}" if name in known else found[0]

    def named(found: re.Match[str]) -> str:
        return option(found[1]) if found[1] in known else found[0]

    parts, start = [], 0
    for call in _CALL.finditer(text):
        parts += [_NAMED.sub(named, _ASSIGNED.sub(assigned, text[start : call.start()])), call[0]]
        start = call.end()
    return "".join([*parts, _NAMED.sub(named, _ASSIGNED.sub(assigned, text[start:]))])


def _pairs(found: re.Match[str]) -> str:
    """Return a mapping in Python's notation as the values of --column_map."""
    mapping = _literal(found[1])
    if not isinstance(mapping, dict):
        return found[0]
    return " ".join(["--column_map", *(_quoted(f"{key}={value}") for key, value in mapping.items())])


def _plain(value: str) -> str:
    """Return a value in Python's notation as a shell takes it."""
    literal = _literal(value)
    return _quoted(str(literal)) if isinstance(literal, str) else value


def _quoted(value: str) -> str:
    # shlex quotes letters of other scripts too, which no shell needs.
    return value if re.fullmatch(r"[\w@%+=:,./-]+", value) else shlex.quote(value)


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None
