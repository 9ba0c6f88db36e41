"""Read YAML within bounds: no text takes long, fills the memory or raises anything but `ValueError`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from ..files import DEEPEST, read_text

LARGEST_YAML = 2**18
"""Bytes of a text, and characters of its values after every alias is replaced by what it stands for."""
# As the Hub finds them; see REGEX_YAML_BLOCK of huggingface_hub.repocard.
_METADATA = re.compile(r"\s*---(?:\r\n|\r|\n)(.*?)(?:\r\n|\r|\n)---[ \t]*(?:\r\n|\n|\Z)", re.DOTALL)
_LONGEST_NUMBER = 1000
"""Characters. Numbers in base 60, `1:30:00`, take time that grows with the square of their length."""


@dataclass(frozen=True)
class Written:
    """A number, a truth value or a date of a YAML document, and how it is written there: 1.10, 007, on.

    Example:
        >>> parse_yaml("revision: 1.10", written=True)
        {'revision': Written(value=1.1, text='1.10')}
    """

    value: Any
    text: str


def read_yaml(path: str | Path, *, written: bool = False) -> Any:
    """Return the content of a YAML file. Tags of Python objects are errors, as for `yaml.safe_load`.

    Args:
        path: the file.
        written: see `parse_yaml`.

    Raises:
        OSError: the file cannot be opened.
        ValueError: see `parse_yaml`; or the file is larger than `LARGEST_YAML` bytes, not in UTF-8 or not a regular
            file. The message names it.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "run.yaml"
        >>> _ = path.write_text("learning_rate: 5.0e-5")
        >>> read_yaml(path)
        {'learning_rate': 5e-05}
    """
    try:
        return parse_yaml(read_text(path, limit=LARGEST_YAML), written=written)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def parse_yaml(text: str, *, written: bool = False) -> Any:
    """Return the value of a YAML document as dicts, lists, texts, numbers, truth values, dates, sets and bytes.

    Args:
        text: the document.
        written: whether numbers, truth values and dates are `Written`, with their own text.

    Raises:
        ValueError: the text is not valid YAML, has a key twice, is longer than `LARGEST_YAML`, is nested more than
            `DEEPEST` deep, holds an alias of itself, or is longer than `LARGEST_YAML` once its aliases are replaced.
            The message says where, and quotes nothing, since the text may hold a token.

    Example:
        >>> parse_yaml("{a: 1, a: 2}")
        Traceback (most recent call last):
        ...
        ValueError: it is not valid YAML: see line 1, column 8 (a key occurs more than once)
    """
    if len(text) > LARGEST_YAML:
        raise ValueError(f"it has more than {LARGEST_YAML:,} characters")
    try:
        loader = (_WritingLoader if written else _Loader)(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_size(node, {})
        return loader.construct_document(node)
    except _BoundError as error:
        raise ValueError(f"{error.problem}: see {_place(error.problem_mark)}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"it is not valid YAML{_position(error)}") from None


def card_metadata(text: str) -> dict[str, Any]:
    """Return the metadata of a card: the YAML between two lines of dashes at its start, `{}` if there is none.

    Raises:
        ValueError: see `parse_yaml`; or the metadata are no mapping, or do not end, as in a card that was cut.

    Example:
        >>> card_metadata("---\\nlicense: mit\\n---\\n# A model\\n")
        {'license': 'mit'}
    """
    found = _METADATA.match(text)
    if found is None:
        first, *others = text.lstrip().splitlines() or [""]
        if first == "---" and "---" not in (line.rstrip() for line in others):
            raise ValueError("its metadata do not end with a line of three dashes")
        return {}
    lines = len(text[: found.start(1)].splitlines())
    metadata = parse_yaml("\n" * lines + found[1])  # so that errors give the line of the card
    if metadata is not None and not isinstance(metadata, dict):
        raise ValueError("its metadata are no mapping")
    return metadata or {}


class _BoundError(yaml.MarkedYAMLError):
    """YAML that is valid and exceeds a bound."""


class _WrongValueError(yaml.MarkedYAMLError):
    """A problem whose text quotes nothing."""


class _Loader(yaml.SafeLoader):
    """Upstream's loader, with a bound on the depth and errors of one type."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._depth += 1
        if self._depth > DEEPEST:
            mark = self.peek_event().start_mark
            raise _BoundError(problem=f"it is nested more than {DEEPEST} deep", problem_mark=mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise _WrongValueError(problem="a key occurs more than once", problem_mark=key.start_mark)
                seen.add((key.tag, key.value))
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        kind = node.tag.rpartition(":")[2]
        if kind in ("int", "float") and len(node.value) > _LONGEST_NUMBER:
            raise _BoundError(problem="a number has too many digits", problem_mark=node.start_mark)
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError):
            # Upstream's constructors raise these for `2001-99-99`, `!!bool x`, `!!int ""` and others.
            raise _WrongValueError(problem="a value that its type cannot have", problem_mark=node.start_mark) from None


class _WritingLoader(_Loader):
    """A loader that keeps how numbers, truth values and dates are written."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        value = super().construct_object(node, deep)
        is_plain = isinstance(node, yaml.ScalarNode) and isinstance(value, (int, float, date))
        return Written(value, node.value) if is_plain else value


def _check_size(node: Any, sizes: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """Return the characters and the depth of a node after its aliases are replaced; they count as often as they occur.

    An alias stands for a node that is complete, and so known already, or for one that contains the alias.
    """
    known = sizes.get(id(node), ())
    if known:
        return known
    if known is None:
        raise _BoundError(problem="an alias stands for what contains it", problem_mark=node.start_mark)
    if isinstance(node, yaml.ScalarNode):
        size, depth = len(node.value) + 1, 1
    else:
        sizes[id(node)] = None
        parts = node.value if isinstance(node, yaml.SequenceNode) else [part for pair in node.value for part in pair]
        measured = [_check_size(part, sizes) for part in parts]
        size, depth = 1 + sum(size for size, _ in measured), 1 + max((depth for _, depth in measured), default=0)
    if size > LARGEST_YAML or depth > DEEPEST:
        raise _BoundError(problem="its aliases stand for too much", problem_mark=node.start_mark)
    sizes[id(node)] = size, depth
    return size, depth


def _position(error: yaml.YAMLError) -> str:
    marks = [getattr(error, name, None) for name in ("context_mark", "problem_mark")]
    places = dict.fromkeys(_place(mark) for mark in marks if mark is not None)
    if not places:
        return ""
    return f": see {' to '.join(places)}" + (f" ({error.problem})" if isinstance(error, _WrongValueError) else "")


def _place(mark: Any) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}"
