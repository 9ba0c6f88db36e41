"""Parse the command line of a script, or a YAML file with the same names, into dataclasses. No error shows a token."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from argparse import (
    SUPPRESS,
    ArgumentDefaultsHelpFormatter,
    ArgumentParser,
    ArgumentTypeError,
    RawDescriptionHelpFormatter,
)
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from transformers import HfArgumentParser
from transformers.hf_argparser import string_to_bool

from ..files import parse_json
from ..hub.public import known_tokens, redact
from ..hub.yaml_text import read_yaml
from ..printable import printable

if TYPE_CHECKING:
    from ..training.arguments import ChartQATrainingArguments

logger = logging.getLogger(__name__)

Script = TypeVar("Script")


class HelpFormatter(ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter):
    """Help formatter that keeps the line breaks of the description and shows the default of every argument."""


class ScriptParser(HfArgumentParser):
    """Parser for the dataclasses of a script. Invalid input ends the script with one line that shows no token.

    Args:
        dataclass_types: One dataclass, or several.
        aliases: `{old name: current name}`: names that are still accepted, with a warning, but not listed by `--help`.
            `"no_x"` as the current name means that the old argument is the opposite of the boolean argument `x`.
        **settings: For `argparse.ArgumentParser`.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Arguments:
        ...     metric_variant: str = "pix2struct"
        >>> parser = ScriptParser(Arguments, aliases={"variant": "metric_variant"})
        >>> parser.parse(["--variant", "lenient"])
        (Arguments(metric_variant='lenient'),)
        >>> "--variant" in parser.format_help()
        False
    """

    def __init__(
        self, dataclass_types: Any = None, *, aliases: Mapping[str, str] | None = None, **settings: Any
    ) -> None:
        self.aliases = dict(aliases or {})
        super().__init__(dataclass_types, **{"formatter_class": HelpFormatter, "allow_abbrev": False, **settings})

    def add_argument(self, *names: Any, **settings: Any) -> Any:
        """Add an argument, as `argparse` does; the help of `--no_x` refers to `--x`."""
        if settings.get("action") == "store_false":
            settings |= {"help": f"Same as --{settings['dest']} False.", "default": SUPPRESS}
        return super().add_argument(*names, **settings)

    def error(self, message: str) -> NoReturn:
        ArgumentParser.error(self, printable(redact(message, known_tokens()), lines=True))

    def parse(self, arguments: Sequence[str] | None = None) -> tuple[Any, ...]:
        """Return one instance of each dataclass.

        Args:
            arguments: The command line without the name of the script. It may start with a YAML file; arguments after
                the file take precedence. `None`: the command line of this process.

        Raises:
            SystemExit: The input is invalid (the message says why), or `--help` was given.
        """
        return self.instances(self.read(arguments))

    def read(self, arguments: Sequence[str] | None = None) -> list[str]:
        """Return the command line with a leading YAML file expanded and old names replaced, with one warning.

        Args:
            arguments: As for `parse`.

        Raises:
            SystemExit: The file cannot be read, or the old and the current name of an argument have different values.
        """
        line = list(sys.argv[1:] if arguments is None else arguments)
        from_file = self._read_yaml(line.pop(0)) if line and line[0].endswith((".yaml", ".yml")) else []
        replaced: dict[str, str] = {}
        try:
            # Separately, so that the command line overrides the file under either name.
            line = replace_aliases(from_file, self.aliases, replaced) + replace_aliases(line, self.aliases, replaced)
        except ValueError as error:
            self.error(str(error))
        if replaced and int(os.environ.get("RANK") or 0) == 0:
            advice = ", ".join(f"{new} instead of {old}" for old, new in replaced.items())
            logger.warning("Some arguments have new names: use %s", advice)
        return line

    def instances(self, line: Sequence[str]) -> tuple[Any, ...]:
        """Return one instance of each dataclass for a command line that `read` returned."""
        try:
            *parsed, unknown = self.parse_args_into_dataclasses(
                list(line), look_for_args_file=False, return_remaining_strings=True
            )
        except ValueError as error:
            self.error(str(error))
        if unknown:
            # Without values: the value of a misspelled --hub_token is a token.
            names = [part.partition("=")[0] for part in unknown if part.startswith("-")]
            self.error(
                f"unknown arguments: {', '.join(names)}" if names else f"{unknown[0]} is not the value of any argument"
            )
        return tuple(parsed)

    def _read_yaml(self, file: str) -> list[str]:
        """Return the entries of a YAML file as a command line."""
        try:
            values = read_yaml(file) or {}
            if not isinstance(values, dict):
                raise ValueError(
                    f"{file} must contain lines like 'learning_rate: 1e-4', not a {type(values).__name__}"
                )
            return [part for name, value in values.items() for part in _as_arguments(file, name, value)]
        except OSError as error:
            self.error(f"{file} cannot be read: {one_line(error)}")
        except ValueError as error:
            self.error(one_line(error))


def parse(
    arguments: Sequence[str] | None,
    script_class: type[Script],
    *,
    description: str | None,
    usage: str | None = None,
    defaults: Mapping[str, Any] | None = None,
    defaults_with: Mapping[str, Mapping[Any, Mapping[str, Any]]] | None = None,
    aliases: Mapping[str, str] | None = None,
) -> tuple[Script, ChartQATrainingArguments]:
    """Parse the command line of a training script into its own arguments and `ChartQATrainingArguments`.

    Args:
        arguments: The command line without the name of the script. It may start with a YAML file with the same names;
            arguments after the file take precedence. `None`: the command line of this process.
        script_class: The dataclass of the script's own arguments.
        description: Text that `--help` shows, with its line breaks.
        usage: Usage line that `--help` shows above it.
        defaults: Defaults that replace those of both dataclasses.
        defaults_with: `{argument: {value: defaults}}`: further defaults where a script's argument has this value.
        aliases: `{old name: current name}`; see `ScriptParser`.

    Raises:
        SystemExit: The input is invalid (the message says why), or `--help` was given.

    Example:
        >>> from chartqa_ft.scripts import DataArguments
        >>> line = ["--max_train_samples", "100", "--output_dir", "out", "--use_cpu"]
        >>> script, args = parse(line, DataArguments, description=None, defaults={"learning_rate": 1e-4})
        >>> script.max_train_samples, args.learning_rate
        (100, 0.0001)
    """
    from ..training.arguments import ChartQATrainingArguments

    parser = ScriptParser(
        (script_class, ChartQATrainingArguments), aliases=aliases, description=description, usage=usage
    )
    line = parser.read(arguments)
    parser.set_defaults(**(defaults or {}))
    for argument, by_value in (defaults_with or {}).items():
        value = getattr(parser.parse_known_args(line)[0], argument)
        parser.set_defaults(**by_value.get(value, {}))
    script, args = parser.instances(line)
    return script, args


# ------------------------------------------------------------------ old names
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


# ------------------------------------------------------------------ YAML
_NAME = re.compile(r"[A-Za-z_][\w-]*", re.ASCII)
_PLAIN = (str, int, float, bool, date)  # YAML reads 2024-01-01, perhaps the name of a revision, as a date


def _as_arguments(file: str, name: Any, value: Any) -> list[str]:
    """Return an entry of a YAML file as on the command line, so that both mean the same (YAML reads 5e-5 as text).

    Raises:
        ValueError: The name cannot be that of an argument, or a value would be taken for an option or has no text.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"{file}: {name!r:.60} is not the name of an argument (without the dashes)")
    if value is None:
        return []
    if isinstance(value, dict):
        _check_values(value, f"{file}: {name}")
        return [f"--{name}={json.dumps(value, default=str)}"]
    if not isinstance(value, list):
        _check_plain(value, f"{file}: {name}")
        if value == "--":  # argparse drops it
            raise ValueError(f"{file}: {name} is '--', which is not a value")
        return [f"--{name}={value}"]
    if not value:
        raise ValueError(f"{file}: {name} is an empty list: give it an item, or leave the line out")
    for item in value:
        _check_plain(item, f"{file}: an item of {name}")
        # argparse takes every word that begins so for an option, except a negative number.
        if str(item).startswith("-") and not isinstance(item, (int, float)):
            raise ValueError(f"{file}: an item of {name} begins with a dash, so that it would be taken for an option")
    return [f"--{name}", *map(str, value)]


def _check_plain(value: Any, where: str) -> None:
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


# ------------------------------------------------------------------ values
def parse_mapping(parts: Sequence[str] | None) -> dict[str, str] | None:
    """Return the mapping that an argument such as `--column_map` holds.

    Args:
        parts: `key=value` pairs, or one JSON object as text (which a mapping in a YAML file becomes).

    Raises:
        ValueError: A part has no `=`, or the JSON object is damaged.

    Example:
        >>> parse_mapping(["image=file", "question=q"])
        {'image': 'file', 'question': 'q'}
        >>> parse_mapping(['{"image": "file"}'])
        {'image': 'file'}
    """
    if not parts:
        return None
    if parts[0].lstrip().startswith("{"):
        return parse_json(" ".join(parts))
    wrong = [part for part in parts if "=" not in part]
    if wrong:
        raise ValueError(f"column_map: {wrong[0]!r} is not a pair like image=file (our column, then the data's)")
    return dict(part.split("=", 1) for part in parts)


def one_line(error: Exception) -> str:
    r"""Return the message of an error in one line, or the name of its type where it has no message.

    Example:
        >>> one_line(ConnectionError("no network\n\n  try later"))
        'no network try later'
        >>> one_line(FileNotFoundError())
        'FileNotFoundError'
    """
    text = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
    return printable(text) or type(error).__name__
