"""The command `chartqa-ft`: what can be done with charts and models beside training.

chartqa-ft evaluate --model_name_or_path out --output_dir scores
chartqa-ft compare before after
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NoReturn

from ..printable import printable
from .errors import log_to_terminal, with_notes
from .hints import for_command_line
from .subcommands import SUBCOMMANDS, Subcommand, SubcommandParser

__all__ = ["command_parser", "main"]

_HELP = ("-h", "--help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit code. Its module is imported here, so that `--help` imports none.

    Args:
        arguments: The command line without the name of the program. `None`: that of this process.

    Returns:
        0; 1 if `compare --fail_below` finds the second run worse than allowed; 2 if the input is invalid.

    Raises:
        SystemExit: The command line is invalid, or a subcommand ended with an error of its own.

    Example:
        >>> main(["report", "nowhere.jsonl"])
        2
    """
    line = list(sys.argv[1:] if arguments is None else arguments)
    if not line or line[0] in _HELP:
        print(_help())
        return 0 if line else 2
    if line[0] == "--version":
        package = __package__.partition(".")[0]
        print(f"chartqa-ft {sys.modules[package].__version__}")
        return 0
    command = _find(line.pop(0))
    module = _module(command)
    parser = command_parser(command.name) if hasattr(module, "add_arguments") else None
    given = None if parser is None else parser.parse_args(line)
    if parser is not None:  # others set up their own log
        log_to_terminal("%(levelname)s %(name)s: %(message)s")
    try:
        result = module.main(line) if given is None else given.run(given)
    except (OSError, ValueError, TypeError, ImportError) as error:
        names = {action.dest for action in parser._actions} if parser else set()
        print(f"chartqa-ft {command.name}: {printable(for_command_line(with_notes(error), names))}", file=sys.stderr)
        return 2
    return result if isinstance(result, int) and not isinstance(result, bool) else 0


def command_parser(name: str) -> SubcommandParser:
    """Return the parser of a subcommand whose module has `add_arguments`.

    Example:
        >>> command_parser("compare").parse_args(["before", "after"]).changed
        10
    """
    command = _find(name)
    parser = SubcommandParser(command.name, f"{command.help[0].upper()}{command.help[1:]}.")
    _module(command).add_arguments(parser)
    return parser


def _find(name: str) -> Subcommand:
    by_name = {command.name: command for command in SUBCOMMANDS}
    if name in by_name:
        return by_name[name]
    near = get_close_matches(name.lstrip("-"), by_name, 1)
    _stop(f"there is no command {name!r}" + (f"; did you mean {near[0]}?" if near else f": {', '.join(by_name)}"))


def _module(command: Subcommand) -> Any:
    name = f"{__package__}.{command.module}"
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name:
            _stop(f"this release has no chartqa-ft {command.name}")
        if (error.name or "").partition(".")[0] == "chartqa_ft":
            raise
        _stop(f"chartqa-ft {command.name} needs the package {error.name}: pip install {error.name}")


def _stop(message: str) -> NoReturn:
    print(f"chartqa-ft: error: {message}", file=sys.stderr)
    raise SystemExit(2)


def _help() -> str:
    width = max(len(command.name) for command in SUBCOMMANDS)
    rows = [f"  {command.name:<{width}}  {command.help}" for command in SUBCOMMANDS]
    return "\n".join(
        [
            "usage: chartqa-ft COMMAND [ARGUMENTS]",
            "",
            "commands:",
            *rows,
            "",
            "chartqa-ft COMMAND --help shows the arguments of a command, chartqa-ft --version the version. To train:",
            "",
            "  accelerate launch -q -m chartqa_ft.scripts.finetune_unichart --help",
            "  accelerate launch -q -m chartqa_ft.scripts.finetune_vlm_lora --help",
            "  accelerate launch -q -m chartqa_ft.scripts.finetune_own_data --help",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
