"""What may leave this machine in a message, a card or a pushed file: no token, and no folder of this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import as_json
from .credentials import (
    TOKEN_REMOVED,
    find_token,
    is_secret,
    is_secret_name,
    known_tokens,
    redact,
    without_secrets,
)

__all__ = [
    "TOKEN_REMOVED",
    "as_json",
    "find_token",
    "hub_name",
    "is_hub_name",
    "known_tokens",
    "public_arguments",
    "public_path",
    "public_values",
    "redact",
    "short_name",
    "without_folders",
]

# Endings that are not allowed in names on the Hub, and those of data files.
_NOT_HUB_NAMES = (".git", ".ipynb", ".csv", ".tsv", ".json", ".jsonl", ".parquet", ".zip")
_HUB_NAME = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(?<![.-])", re.ASCII)


# ------------------------------------------------------------------ names and folders
def is_hub_name(name: str) -> bool:
    """Return whether `name` has the form of a name on the Hub, `name` or `owner/name`, and not that of a path.

    Example:
        >>> is_hub_name("ahmed-masry/unichart-base-960"), is_hub_name("../models/base")
        (True, False)
    """
    return len(name) <= 96 and _HUB_NAME.fullmatch(name) is not None and not name.endswith(_NOT_HUB_NAMES)


def hub_name(name: str | None) -> str | None:
    """Return `name` if a model or data set on the Hub can have it, else `None`.

    Names of existing local files and folders, and URLs, are not Hub names.

    Example:
        >>> hub_name("ahmed-masry/unichart-base-960"), hub_name("/data/charts"), hub_name("charts.csv")
        ('ahmed-masry/unichart-base-960', None, None)
    """
    if name is None or not is_hub_name(name):
        return None
    return None if Path(name).exists() else name


_IS_PATH = re.compile(r"/|~|\.\.?/|\.\.?\\|[A-Za-z]:[\\/]|\\\\|(?i:file:)")
# A path within a longer text: absolute with two parts or more, of a file: URL, or out of the working folder.
_PATH_INSIDE = re.compile(
    r"(?<![\w.~/\\-])"
    r"(?:(?i:file:)/*(?=[^\s\"',;])|~[\w.-]*/|(?:\.\./)+|[A-Za-z]:[\\/]+|\\\\+(?=\w)|/(?=[\w.][^\s\"',;:(){}\[\]<>|=&]*/\w))"
    r"[^\s\"',;:(){}\[\]<>|=&]+"
)


def without_folders(name: str) -> str:
    """Return the last part of a path that begins with a folder; other names, such as those on the Hub, unchanged.

    Example:
        >>> [without_folders(name) for name in ("/home/alice/run-3/", "file:///home/alice/run-3", "alice/run-3")]
        ['run-3', 'run-3', 'alice/run-3']
    """
    return _last_part(name) if _IS_PATH.match(name) else name


def short_name(name: str) -> str:
    """Return the last part of a path, or of a name on the Hub.

    Example:
        >>> short_name("/home/alice/run-3"), short_name("HuggingFaceM4/ChartQA")
        ('run-3', 'ChartQA')
    """
    return _last_part(name) if _HUB_NAME.fullmatch(name) else without_folders(name)


def _last_part(name: str) -> str:
    return re.split(r"[/\\]", name.rstrip("/\\"))[-1] or "model"


# ------------------------------------------------------------------ command lines and arguments
def public_arguments(arguments: Sequence[str]) -> list[str]:
    """Return a command line without secrets and without the folders of this machine.

    Example:
        >>> public_arguments(["/home/alice/train.py", "--hub_token", "abc", "--seed", "1"])
        ['train.py', '--seed', '1']
    """
    kept = []
    left = list(arguments)
    while left:
        part = left.pop(0)
        name, equals, value = part.partition("=") if part.startswith("--") else ("", "", part)
        if name and not equals:  # the value, if there is one, is the next argument
            following = left[0] if left else ""
            if is_secret_name(name) or (is_secret(name, following) and not following.startswith("--")):
                left = left[1:]
            else:
                kept.append(part)
        elif not (is_secret_name(name) or is_secret(name, value)):
            kept.append(f"{name}{equals}{redact(public_path(value))}")
    return kept


def public_values(values: Any) -> Any:
    """Return arguments without secrets and without the folders of this machine; see `public_path`.

    Args:
        values: a value as JSON holds it. Dicts and lists are copied. Values with a secret name are left out.

    Example:
        >>> public_values({"model_name_or_path": "/home/alice/base", "seed": 1, "kwargs": {"api_key": "abc"}})
        {'model_name_or_path': 'base', 'seed': 1, 'kwargs': {}}
    """
    return _public(without_secrets(values))


def _public(values: Any) -> Any:
    if isinstance(values, Mapping):
        return {_public(key): _public(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_public(value) for value in values]
    return redact(public_path(values)) if isinstance(values, str) else values


def public_path(value: str) -> str:
    """Return a text without the folders of this machine.

    A path becomes relative to the working folder, or else its last part, also within a longer text such as JSON.
    Names on the Hub, URLs and relative paths within the working folder are left as they are, and so are prompts.

    Example:
        >>> public_path("/home/alice/charts.csv"), public_path(str(Path.cwd() / "out" / "run")), public_path("a/b")
        ('charts.csv', 'out/run', 'a/b')
        >>> public_path('{"train": "../../home/alice/a.csv", "val": "file:///home/alice/b.csv"}')
        '{"train": "a.csv", "val": "b.csv"}'
    """
    if "{question}" in value:  # a prompt may begin with a slash
        return value
    path = Path(value)
    if path.is_absolute() and "\n" not in value:
        return str(path.relative_to(Path.cwd()) if _is_below(path, Path.cwd()) else Path(path.name))
    if re.match(r"(?i)file:|~[\w.-]*[\\/]|\.\.[\\/]|[a-z]:[\\/]|\\\\", value) and "\n" not in value:
        return _last_part(value)
    return _PATH_INSIDE.sub(lambda found: _inside(found[0]), value)


def _inside(path: str) -> str:
    return public_path(path) if path.startswith("/") else _last_part(path)


def _is_below(path: Path, folder: Path) -> bool:
    return path.is_relative_to(folder) and ".." not in path.parts
