"""The command `chartqa-ft`: reports and comparisons of predictions, without loading a model.

chartqa-ft report out/predictions.jsonl --images "ChartQA Dataset/test/png"
chartqa-ft compare before after --fail_below -0.5
chartqa-ft export out --format vlmevalkit --output my-model_ChartQA_TEST.tsv
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from ..metrics.correctness import VARIANTS
from ..metrics.notation import DETECTED
from ..printable import printable
from .app import add_app_arguments, run_app
from .compare import add_arguments as add_compare
from .compare import names_of
from .export import add_arguments as add_export
from .runs import find_predictions_file, find_run

__all__ = ["command_parser", "find_predictions_file", "main"]


class _Parser(argparse.ArgumentParser):
    """A parser that names the nearest known argument or command."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        known = _options(self)
        words = [word.strip("'") for word in message.split()]
        near = [
            match for word in words for match in difflib.get_close_matches(word, known, 1, 0.7) if match not in words
        ]
        super().error(f"{message}; did you mean {near[0]}?" if near else message)


def _options(parser: argparse.ArgumentParser) -> list[str]:
    """Return the options of a parser, and its commands with theirs."""
    known = [name for action in parser._actions for name in action.option_strings]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                known += [name, *_options(command)]
    return known


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        arguments: The command line without the name of the program. `None`: that of this process.

    Returns:
        0; 1 if `compare --fail_below` finds the second run worse than allowed; 2 if the input is invalid.

    Example:
        >>> main(["report", "nowhere.jsonl"])
        2
    """
    parser = command_parser()
    given = parser.parse_args(arguments)
    try:
        return int(given.run(given) or 0)
    except (OSError, ValueError, TypeError, ImportError) as error:
        print(f"chartqa-ft {given.command}: {printable(error)}", file=sys.stderr)
        return 2


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line.

    Example:
        >>> command_parser().parse_args(["compare", "before", "after"]).command
        'compare'
    """
    parser = _Parser(
        prog="chartqa-ft", description="Look at and compare the answers of models to questions on charts."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    report = commands.add_parser("report", help="write predictions as one HTML file with charts and mistakes")
    report.add_argument("predictions", help="A predictions.jsonl, its folder, or a model on the Hub.")
    report.add_argument("--output", help="The file to write. Unset: report.html beside the predictions.")
    report.add_argument("--images", help="Folder of the charts, named by chart id.")
    report.add_argument("--other", help="A second run on the same questions, to compare with.")
    report.add_argument("--tables", help="Folder of the tables of the charts as CSV files, named by chart id.")
    report.add_argument("--names", nargs=2, metavar=("FIRST", "SECOND"), help="Names of the two runs.")
    report.add_argument("--title", default="Answers to questions on charts", help="Title of the report.")
    report.add_argument(
        "--metric_variant",
        choices=[*VARIANTS, DETECTED],
        help="Variant of relaxed accuracy that scores all answers again. Unset: the verdicts in the predictions.",
    )
    report.set_defaults(run=_report)

    add_compare(commands.add_parser("compare", help="test whether two runs on the same questions differ"))
    add_export(commands.add_parser("export", help="write predictions in the format of lmms-eval or VLMEvalKit"))
    app = commands.add_parser("app", help="ask a model questions on charts in the browser")
    add_app_arguments(app)
    app.set_defaults(run=run_app)
    return parser


def _report(given: argparse.Namespace) -> None:
    from ..reporting.html_report import write_report

    run = find_run(given.predictions)
    other = None if given.other is None else find_run(given.other).predictions
    path = write_report(
        run.predictions,
        given.output or ("report.html" if run.on_hub else run.predictions.with_name("report.html")),
        images=given.images,
        tables=given.tables,
        other=other,
        names=given.names or names_of(given.predictions, given.other or ""),
        title=given.title,
        variant=given.metric_variant,
    )
    print(f"report: {path}")


if __name__ == "__main__":
    sys.exit(main())
