"""`chartqa-ft report`: predictions as one HTML file with charts, answers and mistakes."""

from __future__ import annotations

import argparse
import os

from ..metrics.correctness import VARIANTS
from ..metrics.notation import DETECTED
from .compare import names_of
from .runs import find_run

__all__ = ["add_arguments", "report"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_arguments(parser)
        >>> parser.parse_args(["out", "--images", "charts"]).images
        'charts'
    """
    parser.add_argument("predictions", help="A predictions.jsonl, its folder, or a model on the Hub.")
    parser.add_argument("--output", help="The file to write. Unset: report.html beside the predictions.")
    parser.add_argument("--images", help="Folder of the charts, named by chart id.")
    parser.add_argument("--other", help="A second run on the same questions, to compare with.")
    parser.add_argument("--tables", help="Folder of the tables of the charts as CSV files, named by chart id.")
    parser.add_argument("--names", nargs=2, metavar=("FIRST", "SECOND"), help="Names of the two runs.")
    parser.add_argument("--title", default="Answers to questions on charts", help="Title of the report.")
    parser.add_argument(
        "--metric_variant",
        choices=[*VARIANTS, DETECTED],
        help="Variant of relaxed accuracy that scores all answers again. Unset: the verdicts in the predictions.",
    )
    parser.set_defaults(run=report)


def report(given: argparse.Namespace) -> None:
    """Write the report of a predictions file, and print its path.

    Raises:
        OSError, ValueError: a file cannot be read or written, or the arguments do not fit each other.
    """
    from ..reporting.html_report import write_report

    if given.names and given.other is None:
        raise ValueError("--names are those of two runs: add --other, or leave them out")
    run = find_run(given.predictions)
    other = None if given.other is None else find_run(given.other).predictions
    path = write_report(
        run.predictions,
        os.path.expanduser(given.output or "")
        or ("report.html" if run.on_hub else run.predictions.with_name("report.html")),
        images=given.images,
        tables=given.tables,
        other=other,
        names=given.names or names_of(given.predictions, given.other or ""),
        title=given.title,
        variant=given.metric_variant,
    )
    print(f"report: {path}")
    if given.images is None:
        print("It has no charts: add --images FOLDER, or let the script that evaluates write it with --report.")
