"""Names that arguments had in earlier releases, replaced by their current names."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Iterable, Mapping, Sequence

from .upstream_parser import string_to_bool

__all__ = ["replace_aliases"]


def replace_aliases(
    arguments: Sequence[str], aliases: Mapping[str, str], replaced: dict[str, str] | None = None
) -> list[str]:
    """Return a command line in which the current names of arguments replace the old ones.

    Args:
        arguments: The command line.
        aliases: `{old name: current name}`; see `ScriptParser`.
        replaced: Receives what was replaced, as `{"--old": "--new"}`.

    Raises:
        ValueError: The old and the current name are both given, with different values.

    Example:
        >>> aliases = {"variant": "metric_variant", "full": "no_lora"}
        >>> replace_aliases(["--variant", "lenient", "--seed=1", "--full"], aliases)
        ['--metric_variant', 'lenient', '--seed=1', '--lora=False']
    """
    options = _options(arguments)
    given = {name: values for name, values, _ in options}
    line: list[str] = []
    for name, values, parts in options:
        if name not in aliases:
            line += parts
            continue
        current, is_opposite = aliases[name].removeprefix("no_"), aliases[name].startswith("no_")
        shown = f"--{current}"
        meant = [_opposite(*values[:1])] if is_opposite else values
        if is_opposite:
            shown += f" {meant[0]}"
            line += [f"--{current}={meant[0]}", *(parts[1:] if "=" in parts[0] else parts[2:])]
        else:
            _, equals, value = parts[0].partition("=")
            line += [f"--{current}{equals}{value}", *parts[1:]]
        others = given.get(current, ["False"] if f"no_{current}" in given else None)
        if others is not None and _plain(others, is_opposite) != _plain(meant, is_opposite):
            raise ValueError(
                f"--{name} and --{current} mean the same argument and have different values: leave out --{name}"
            )
        if replaced is not None:
            replaced[f"--{name}"] = shown
    return line


def _options(arguments: Iterable[str]) -> list[tuple[str, list[str], list[str]]]:
    """Split a command line into options: the name (with underscores; "" if there is none), the values, the parts."""
    grouped: list[list[str]] = []
    for part in arguments:
        if part.startswith("--") or not grouped:
            grouped.append([part])
        else:
            grouped[-1].append(part)
    options = []
    for parts in grouped:
        option, equals, value = parts[0].partition("=")
        name = option.removeprefix("--").replace("-", "_") if option.startswith("--") else ""
        options.append((name, [value] * bool(equals) + parts[1:], parts))
    return options


def _opposite(value: str = "True") -> str:
    """Return the opposite of a boolean in text. Other text is returned as it is, for the parser to reject."""
    try:
        return str(not string_to_bool(value))
    except ArgumentTypeError:
        return value


def _plain(values: list[str], is_flag: bool) -> list[str]:
    """Return values in one spelling, so that they can be compared."""
    return [_opposite(_opposite(*values[:1]))] if is_flag else values
