"""The command line of a script, or a YAML file of the same names, as dataclasses; no error quotes a token."""

from __future__ import annotations

import json
from argparse import ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from transformers import HfArgumentParser

from ..hub.public import known_tokens, redact
from ..training.arguments import ChartQATrainingArguments

Script = TypeVar("Script")


class HelpFormatter(ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter):
    """Keeps the lines of a script's docstring, and shows the default of every argument."""


class ScriptParser(HfArgumentParser):
    """Arguments of dataclasses; what is wrong ends the script in one line in which no token stands."""

    def error(self, message: str) -> NoReturn:
        super().error(redact(message, known_tokens()))

    def parse(self, arguments: Sequence[str] | None) -> tuple[Any, ...]:
        """One instance of each dataclass.

        Args:
            arguments: without the name of the script; `None`: those of this process.

        Raises:
            SystemExit: with what is wrong, and after `--help`.
        """
        try:
            *parsed, unknown = self.parse_args_into_dataclasses(
                arguments, look_for_args_file=False, return_remaining_strings=True
            )
        except ValueError as error:
            self.error(str(error))
        if unknown:
            # Names without values: what stands behind a misspelt --hub_token is a token.
            names = [part.partition("=")[0] for part in unknown if part.startswith("-")]
            self.error(f"unknown arguments: {', '.join(names)}" if names else f"no argument's value: {unknown[0]}")
        return tuple(parsed)


def parse(
    arguments: Sequence[str],
    script_class: type[Script],
    *,
    description: str,
    usage: str | None = None,
    defaults: Mapping[str, Any] | None = None,
    defaults_with: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[Script, ChartQATrainingArguments]:
    """The command line of a script. It may begin with a YAML file of the same names; what follows the file wins.

    Args:
        arguments: without the name of the script.
        script_class: the dataclass of the script's own arguments.
        description: shown by `--help`, in these lines.
        usage: the line above it.
        defaults: in place of those of both dataclasses.
        defaults_with: `{switch: defaults}`: further ones where the script's argument `switch` is on.

    Raises:
        SystemExit: with the line that is wrong, and after `--help`.
    """
    arguments = list(arguments)
    parser = ScriptParser(
        (script_class, ChartQATrainingArguments),
        description=description,
        usage=usage,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    if arguments and arguments[0].endswith((".yaml", ".yml")):
        try:
            values = yaml.safe_load(Path(arguments[0]).read_text(encoding="utf-8")) or {}
        except yaml.YAMLError as error:
            parser.error(f"{arguments[0]} cannot be read: it is no YAML{_place(error)}")
        except (OSError, UnicodeDecodeError) as error:
            parser.error(f"{arguments[0]} cannot be read: {one_line(error)}")
        if not isinstance(values, dict):
            parser.error(f"{arguments[0]} must hold lines like 'learning_rate: 1e-4', not a {type(values).__name__}")
        arguments = [part for key, value in values.items() for part in _as_arguments(key, value)] + arguments[1:]
    parser.set_defaults(**(defaults or {}))
    for switch, changed in (defaults_with or {}).items():
        if getattr(parser.parse_known_args(arguments)[0], switch):
            parser.set_defaults(**changed)
    return parser.parse(arguments)


def _place(error: yaml.YAMLError) -> str:
    """Where a file is no YAML. Not its words: the message of the parser quotes the file, where a token may stand."""
    marks = [getattr(error, name, None) for name in ("context_mark", "problem_mark")]
    places = dict.fromkeys(f"line {mark.line + 1}, column {mark.column + 1}" for mark in marks if mark is not None)
    return f": see {' to '.join(places)}" if places else ""


def _as_arguments(name: str, value: Any) -> list[str]:
    """One entry of a YAML file as the command line has it, so that both mean the same (YAML takes 5e-5 for text)."""
    if isinstance(value, list):
        return [f"--{name}", *map(str, value)]
    return [] if value is None else [f"--{name}={json.dumps(value) if isinstance(value, dict) else value}"]


def parse_mapping(parts: Sequence[str] | None) -> dict[str, str] | None:
    """`["image=file", "question=q"]`, or one JSON object in text (what a mapping in a YAML file becomes), as a dict.

    Raises:
        ValueError: a part without `=`.
    """
    if not parts:
        return None
    if parts[0].lstrip().startswith("{"):
        return json.loads(" ".join(parts))
    wrong = [part for part in parts if "=" not in part]
    if wrong:
        raise ValueError(f"column_map: {wrong[0]!r} is no pair like image=file (our name, then the data's)")
    return dict(part.split("=", 1) for part in parts)


def one_line(error: Exception) -> str:
    """What an error says, in one line; its type where it says nothing."""
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip()) or type(error).__name__
