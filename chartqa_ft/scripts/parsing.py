"""Parse the command line of a script, or a YAML file with the same names, into dataclasses. No error shows a token."""

from __future__ import annotations

import logging
import os
import sys
from argparse import (
    SUPPRESS,
    Action,
    ArgumentDefaultsHelpFormatter,
    ArgumentParser,
    RawDescriptionHelpFormatter,
)
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from itertools import chain
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from ..files import parse_json, repeated
from ..hub.public import known_tokens, redact
from ..printable import printable
from .errors import one_line
from .help_text import Groups, format_arguments, nearest
from .hints import for_command_line
from .old_names import replace_aliases
from .process import tell_launcher
from .static_arguments import training_arguments
from .upstream_parser import HfArgumentParser, string_to_bool, upstream_bool
from .yaml_arguments import read_arguments

if TYPE_CHECKING:
    from ..training.arguments import ChartQATrainingArguments

logger = logging.getLogger(__name__)

Script = TypeVar("Script")


class HelpFormatter(ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter):
    """Help formatter that keeps the line breaks of the description and shows the default of every argument."""


class _HelpAll(Action):
    """Print the help with all arguments."""

    def __init__(self, option_strings: Sequence[str], dest: str, **settings: Any) -> None:
        super().__init__(option_strings, SUPPRESS, nargs=0, default=SUPPRESS, **settings)

    def __call__(self, parser: Any, *parsed: Any) -> NoReturn:
        print(parser.format_help(everything=True))
        raise SystemExit(0)


class ScriptParser(HfArgumentParser):  # type: ignore[valid-type, misc]
    """Parser for the dataclasses of a script. Invalid input ends the script with one line that shows no token.

    Args:
        dataclass_types: One dataclass, or several.
        aliases: `{old name: current name}`: names that are still accepted, with a warning, but not listed by `--help`.
            `"no_x"` as the current name means that the old argument is the opposite of the boolean argument `x`.
        first: The arguments that `--help` shows, in groups; `--help_all` shows the others too. `None`: `--help` shows
            all.
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
        self,
        dataclass_types: Any = None,
        *,
        aliases: Mapping[str, str] | None = None,
        first: Groups | None = None,
        **settings: Any,
    ) -> None:
        self.aliases = dict(aliases or {})
        self.first = first
        super().__init__(dataclass_types, **{"formatter_class": HelpFormatter, "allow_abbrev": False, **settings})
        if first is not None:
            self.add_argument("--help_all", "--help-all", action=_HelpAll, help="List all arguments, and exit.")

    def add_argument(self, *names: Any, **settings: Any) -> Any:
        """Add an argument, as `argparse` does; the help of `--no_x` refers to `--x`."""
        if settings.get("type") is upstream_bool:
            settings["type"] = string_to_bool
        if settings.get("action") == "store_false":
            settings |= {"help": f"Same as --{settings['dest']} False.", "default": SUPPRESS}
        return super().add_argument(*names, **settings)

    def format_help(self, *, everything: bool = False) -> str:
        """Return the help with the arguments that people use first, or with all of them."""
        if self.first is None:
            return super().format_help()
        names = [[field.name for field in fields(one) if field.init] for one in self.dataclass_types]
        own = names[0]
        own = [*own, *(f"no_{name}" for name in own)]
        rest = {"Other arguments of this script": own, "Other arguments of the training": self._names()[1:-1]}
        last = "" if everything else f"\n--help_all lists all {len({*chain(*names)})} arguments.\n"
        arguments = format_arguments(self._actions, self.first, rest if everything else None)
        return f"usage: {self.usage or self.prog}\n\n{(self.description or '').strip()}\n\n{arguments}\n{last}"

    def _names(self) -> list[str]:
        """Return the names of the arguments without their dashes, in the order in which they were added."""
        return [action.option_strings[0].lstrip("-") for action in self._actions if action.option_strings]

    def error(self, message: str) -> NoReturn:
        message = printable(redact(message, known_tokens()), lines=True)
        tell_launcher(f"error: {message}")
        ArgumentParser.error(self, message)

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
        known = {option for action in self._actions for option in action.option_strings}
        # Without values: the value of a misspelled --hub_token is a token. What holds a space is a value to argparse.
        names = [part.partition("=")[0] for part in line if part.startswith("-") and " " not in part.partition("=")[0]]
        unknown = [name for name in names if name.startswith("--") and name not in known and name != "--"]
        if unknown:
            self.error(f"unknown arguments: {', '.join(map(self._with_nearest, dict.fromkeys(unknown)))}")
        try:
            *parsed, rest = self.parse_args_into_dataclasses(
                list(line), look_for_args_file=False, return_remaining_strings=True
            )
        except ValueError as error:
            self.error(for_command_line(str(error), {*self._names()}))
        if rest:
            names = [part.partition("=")[0] for part in rest if part.startswith("-")]
            if not names:
                self.error(f"{rest[0]} is not the value of any argument")
            self.error(f"unknown arguments: {', '.join(map(self._with_nearest, names))}")
        return tuple(parsed)

    def _with_nearest(self, name: str) -> str:
        """Return an unknown argument with the known one that it probably means."""
        near = nearest(name, set(self._names()))
        return f"{name} (did you mean --{near}?)" if near else name

    def _read_yaml(self, file: str) -> list[str]:
        """Return the entries of a YAML file as a command line."""
        try:
            return read_arguments(file)
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
    first: Groups | None = None,
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
        first: The arguments that `--help` shows, in groups; see `ScriptParser`.

    Raises:
        SystemExit: The input is invalid (the message says why), or `--help` was given.

    Example:
        >>> from chartqa_ft.scripts import DataArguments
        >>> line = ["--max_train_samples", "100", "--output_dir", "out", "--use_cpu"]
        >>> script, args = parse(line, DataArguments, description=None, defaults={"learning_rate": 1e-4})
        >>> script.max_train_samples, args.learning_rate
        (100, 0.0001)
    """

    def parser_of(training: type) -> ScriptParser:
        return ScriptParser(
            (script_class, training), aliases=aliases, first=first, description=description, usage=usage
        )

    def instances(parser: ScriptParser, line: Sequence[str]) -> tuple[Any, ...]:
        parser.set_defaults(**(defaults or {}))
        for argument, by_value in (defaults_with or {}).items():
            value = getattr(parser.parse_known_args(line)[0], argument)
            parser.set_defaults(**by_value.get(value, {}))
        return parser.instances(line)

    # Help and mistakes of the command line come first, from the source: importing the training takes seconds.
    quick = _quick_parser(parser_of)
    line = quick.read(arguments) if quick else None
    if quick is not None and line is not None:
        instances(quick, line)

    from ..training.arguments import ChartQATrainingArguments

    parser = parser_of(ChartQATrainingArguments)
    script, args = instances(parser, parser.read(arguments) if line is None else line)
    return script, args


def _quick_parser(parser_of: Callable[[type], ScriptParser]) -> ScriptParser | None:
    """Return a parser with the fields of the training as its source has them; `None` if they cannot be read."""
    try:
        return parser_of(training_arguments())
    except Exception as error:  # a release whose source or types have another form: the real class decides alone
        logger.debug("The arguments of the training are not read from source: %s", error)
        return None


def parse_mapping(parts: Sequence[str] | None, name: str = "column_map") -> dict[str, str] | None:
    """Return the mapping that an argument such as `--column_map` holds.

    Args:
        parts: `key=value` pairs, or one JSON object as text (which a mapping in a YAML file becomes).
        name: The name of the argument.

    Raises:
        ValueError: A part has no `=`, a key occurs twice, the JSON object is damaged, or a value is no text.

    Example:
        >>> parse_mapping(["image=file", "question=q"])
        {'image': 'file', 'question': 'q'}
        >>> parse_mapping(['{"image": "file"}'])
        {'image': 'file'}
    """
    if not parts:
        return None
    if parts[0].lstrip().startswith("{"):
        found = parse_json(" ".join(parts))
        for key, value in found.items():
            if not isinstance(value, str):
                raise ValueError(f"{name}: the value of {key} must be a text, not {value!r:.60} (put it into quotes)")
        return found
    wrong = [part for part in parts if "=" not in part]
    if wrong:
        like = "image=file (our column, then the data's)" if name == "column_map" else "table='Read the chart.'"
        raise ValueError(f"{name}: {wrong[0]!r} is not a pair like {like}")
    pairs = [part.split("=", 1) for part in parts]
    twice = repeated(key for key, _ in pairs)
    if twice is not None:
        raise ValueError(f"{name} has {twice} twice: leave out one of them")
    return dict(pairs)
