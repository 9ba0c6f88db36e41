"""`chartqa-ft export`: write predictions in the format of another program."""

from __future__ import annotations

import argparse
import os

from ..metrics.export import EXPORT_FORMATS, export_predictions
from .runs import find_predictions_file

__all__ = ["add_arguments", "export"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_arguments(parser)
        >>> parser.parse_args(["out", "--format", "vlmevalkit", "--output", "a.tsv"]).output
        'a.tsv'
    """
    parser.add_argument("predictions", help="A predictions.jsonl, its folder, or a model on the Hub.")
    parser.add_argument("--format", required=True, choices=[*EXPORT_FORMATS], help="The program that reads the file.")
    parser.add_argument(
        "--output",
        required=True,
        help="The file to write. lmms-eval: .jsonl as from --log_samples, or .json for its model from_log, which "
        "scores the answers; vlmevalkit: .tsv.",
    )
    parser.set_defaults(run=export)


def export(given: argparse.Namespace) -> None:
    """Write the file and say where it is.

    Raises:
        OSError, ValueError, TypeError: see `export_predictions`.
    """
    path = export_predictions(
        find_predictions_file(given.predictions), os.path.expanduser(given.output), format=given.format
    )
    print(f"{given.format}: {path}")
