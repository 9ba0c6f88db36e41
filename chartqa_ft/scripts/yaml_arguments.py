"""A YAML file as a command line, so that both mean the same."""

from __future__ import annotations

import json
import re
from datetime import date
from typing import Any

from ..hub.yaml_text import Written, read_yaml

__all__ = ["read_arguments"]

_NAME = re.compile(r"[A-Za-z_][\w-]*", re.ASCII)
_PLAIN = (str, int, float, bool, date)  # YAML reads 2024-01-01, perhaps the name of a revision, as a date
# Words and numbers that only YAML has: as they are written, an argument could not have them.
_OF_YAML = re.compile(r"(?i)true|false|[-+]?(0[xb][0-9a-f_]+|\.(inf|nan))")


def _as_arguments(file: str, name: Any, value: Any) -> list[str]:
    """Return an entry of a YAML file as on the command line, so that both mean the same (YAML reads 5e-5 as text).

    Raises:
        ValueError: The name cannot be that of an argument, or a value would be taken for an option or has no text.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"{file}: {_values(name)!r:.60} is not the name of an argument (without the dashes)")
    if value is None:
        return []
    if isinstance(value, dict):
        value = _values(value)
        _check_values(value, f"{file}: {name}")
        return [f"--{name}={json.dumps(value, default=str)}"]
    if not isinstance(value, list):
        _check_plain(value, f"{file}: {name}")
        if value == "--":  # argparse drops it
            raise ValueError(f"{file}: {name} is '--', which is not a value")
        return [f"--{name}={_text(value)}"]
    if not value:
        raise ValueError(f"{file}: {name} is an empty list: give it an item, or leave the line out")
    for item in value:
        _check_plain(item, f"{file}: an item of {name}")
        # argparse takes every word that begins so for an option, except a negative number.
        if isinstance(item, str) and item.startswith("-"):
            raise ValueError(f"{file}: an item of {name} begins with a dash, so that it would be taken for an option")
    return [f"--{name}", *map(_text, value)]


def _text(value: Any) -> str:
    """Return a value as it is written, so that the parser reads a text such as 1.10 or 007 as it stands there."""
    if not isinstance(value, Written):
        return str(value)
    return str(value.value) if _OF_YAML.fullmatch(value.text) or value.text.startswith("-") else value.text


def _values(value: Any) -> Any:
    """Return the values inside of a mapping, which JSON writes."""
    if isinstance(value, dict):
        return {_values(key): _values(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_values(item) for item in value]
    return value.value if isinstance(value, Written) else value


def _check_plain(value: Any, where: str) -> None:
    value = _values(value)
    if not isinstance(value, _PLAIN):
        raise ValueError(f"{where} must be a text, a number, a date or true or false, not a {type(value).__name__}")


def _check_values(value: Any, where: str) -> None:
    """Check that JSON has a form for a mapping and all that it holds."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, (str, int, float)):
                raise ValueError(f"{where}: a key must be a text or a number, not a {type(key).__name__}")
            _check_values(item, f"{where}.{key}")
    elif isinstance(value, list):
        for item in value:
            _check_values(item, where)
    elif value is not None:
        _check_plain(value, where)


def read_arguments(file: str) -> list[str]:
    """Return the entries of a YAML file as a command line.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is damaged, or an entry cannot be an argument.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "run.yaml"
        >>> _ = path.write_text("learning_rate: 1e-4\\nuse_cpu: true\\n")
        >>> read_arguments(str(path))
        ['--learning_rate=1e-4', '--use_cpu=True']
    """
    values = read_yaml(file, written=True) or {}
    if not isinstance(values, dict):
        raise ValueError(f"{file} must contain lines like 'learning_rate: 1e-4', not a {type(values).__name__}")
    return [part for name, value in values.items() for part in _as_arguments(file, name, value)]
