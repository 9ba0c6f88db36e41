"""The subcommands of `chartqa-ft`: one line each, with the module whose `main` runs it."""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple, NoReturn

from .help_text import nearest

__all__ = ["SUBCOMMANDS", "Subcommand", "SubcommandParser"]


class Subcommand(NamedTuple):
    """A subcommand of `chartqa-ft`."""

    name: str
    module: str
    """Module in this folder. It has a function `main` that takes the rest of the command line, or `add_arguments`,
    which adds arguments and the default `run` to a parser. An integer that either returns is the exit code."""
    help: str


SUBCOMMANDS = (
    Subcommand("demo", "demo", "train a tiny model on drawn charts in minutes, without downloads"),
    Subcommand("evaluate", "evaluate_command", "score a checkpoint on a data set or your own questions"),
    Subcommand("compare", "compare", "test whether two runs on the same questions differ"),
    Subcommand("report", "report", "write predictions as one HTML file with charts and mistakes"),
    Subcommand("export", "export", "write predictions in the format of lmms-eval or VLMEvalKit"),
    Subcommand("app", "app", "ask a model about charts in the browser"),
    Subcommand("check", "check", "show what a training would do, without training"),
    Subcommand("push", "push", "push a trained model with its card to the Hub"),
)


class SubcommandParser(argparse.ArgumentParser):
    """Parser of a subcommand that names the known argument which is nearest to an unknown one.

    Args:
        name: Name of the subcommand.
        description: Text that `--help` shows, with its line breaks.
        **settings: For `argparse.ArgumentParser`.

    Example:
        >>> parser = SubcommandParser("report", "Write a report.")
        >>> _ = parser.add_argument("--images")
        >>> parser.parse_args(["--images", "charts"]).images
        'charts'
    """

    def __init__(self, name: str, description: str | None, **settings: Any) -> None:
        super().__init__(
            prog=f"chartqa-ft {name}".rstrip(),
            description=(description or "").strip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **settings,
        )

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse a command line; an argument that is not known is named with the one that it probably means."""
        given, unknown = self.parse_known_args(args, namespace)
        if unknown:
            # Without values, which may be secrets.
            names = [part.partition("=")[0] for part in unknown if part.startswith("-")]
            self.error(f"unrecognized arguments: {' '.join(map(self._with_nearest, names or unknown))}")
        return given

    def error(self, message: str) -> NoReturn:
        """End with code 2 and the message, and say how to see the help."""
        self.exit(2, f"{self.prog}: error: {message}\nsee {self.prog} --help\n")

    def _with_nearest(self, name: str) -> str:
        known = {option.lstrip("-") for action in self._actions for option in action.option_strings}
        near = nearest(name, known) if name.startswith("-") else None
        return f"{name} (did you mean --{near}?)" if near else name
