"""Read the metadata at the top of a card that a stranger wrote: bounded in size, depth and time."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

__all__ = ["front_matter"]

_LARGEST = 1 << 18
"""Bytes of a card that are read for its metadata."""
_DEEPEST = 50
_DEEP = re.compile(rf"(?:[\[{{]\s*){{{_DEEPEST + 1}}}")
_BLOCK = re.compile(r"\A(?:\ufeff)?\s*---[ \t]*\r?\n(.*?)^---[ \t\r]*$", re.DOTALL | re.MULTILINE)


def front_matter(path: str | Path) -> dict[str, Any]:
    """Return the metadata of a card as a dict; it is empty if the card has none.

    Args:
        path: the card's file.

    Raises:
        OSError: the file cannot be read.
        ValueError: the metadata is not valid YAML, not a mapping, too long, nested too deeply, or uses aliases, with
            which a few lines can stand for gigabytes. The message ends a sentence about the file.

    Example:
        >>> import tempfile
        >>> card = Path(tempfile.mkdtemp()) / "README.md"
        >>> _ = card.write_text("---\\nlicense: mit\\n---\\n# A model\\n")
        >>> front_matter(card)
        {'license': 'mit'}
    """
    import yaml

    from ..yaml_text import parse_yaml

    with Path(path).open("rb") as file:
        start = file.read(_LARGEST)
    # The end may be in the middle of a character.
    found = _BLOCK.match(start.decode("utf-8", "strict" if len(start) < _LARGEST else "replace"))
    if found is None:
        if len(start) == _LARGEST and start.lstrip().startswith(b"---"):
            raise ValueError(f"is longer than {_LARGEST:,} bytes")
        return {}
    try:
        if _DEEP.search(found[1]):  # the scanner's time grows with the square of the depth
            raise ValueError(f"is nested more than {_DEEPEST} levels deep")
        depth = 0
        for event in yaml.parse(found[1], Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("uses YAML aliases")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise ValueError(f"is nested more than {_DEEPEST} levels deep")
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)  # counts from 0 and without the line of dashes
        place = "" if mark is None else f" (line {mark.line + 2})"
        raise ValueError(f"is not valid YAML{place}") from error
    except RecursionError as error:
        raise ValueError(f"cannot be read ({type(error).__name__})") from error
    try:
        metadata = parse_yaml(found[1])
    except ValueError as error:
        raise ValueError(f"cannot be read ({error})") from error
    if metadata is not None and not isinstance(metadata, dict):
        raise ValueError("is not a mapping")
    return metadata or {}
