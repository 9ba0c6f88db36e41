"""The command `chartqa-ft`: reports and comparisons of predictions, without loading a model.

chartqa-ft report out/predictions.jsonl --images "ChartQA Dataset/test/png"
chartqa-ft compare before after --fail_below -0.5
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from ..metrics.accuracy import INTERVALS
from ..metrics.comparison import compare_predictions
from ..metrics.correctness import VARIANTS
from ..metrics.mistakes import answer_type, question_type
from ..metrics.notation import DETECTED
from ..metrics.predictions import read_predictions
from ..printable import printable
from .app import add_app_arguments, run_app

__all__ = ["command_parser", "find_predictions_file", "main"]

PREDICTIONS_NAME = "predictions.jsonl"


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
    report.add_argument("predictions", help="A predictions.jsonl, or the folder that contains it.")
    report.add_argument("--output", help="The file to write. Unset: report.html beside the predictions.")
    report.add_argument("--images", help="Folder of the charts, named by chart id.")
    report.add_argument("--other", help="A second run on the same questions, to compare with.")
    report.add_argument("--names", nargs=2, metavar=("FIRST", "SECOND"), help="Names of the two runs.")
    report.add_argument("--title", default="Answers to questions on charts", help="Title of the report.")
    _add_variant(report)
    report.set_defaults(run=_report)

    compare = commands.add_parser("compare", help="test whether two runs on the same questions differ")
    compare.add_argument("a", help="The predictions of the first run: a predictions.jsonl, or its folder.")
    compare.add_argument("b", help="The predictions of the second run.")
    _add_variant(compare)
    compare.add_argument("--interval", choices=["newcombe", *INTERVALS[1:]], help="Kind of the interval.")
    compare.add_argument("--changed", type=int, default=10, help="Number of changed examples to print (default: 10).")
    compare.add_argument(
        "--fail_below",
        type=float,
        metavar="POINTS",
        help="Exit with code 1 if the accuracy of the second run minus that of the first is below this, in points.",
    )
    compare.set_defaults(run=_compare)

    app = commands.add_parser("app", help="ask a model questions on charts in the browser")
    add_app_arguments(app)
    app.set_defaults(run=run_app)
    return parser


def _add_variant(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--metric_variant",
        default="pix2struct",
        choices=[*VARIANTS, DETECTED],
        help="Variant of relaxed accuracy that scores both runs of a comparison.",
    )


def find_predictions_file(name: str) -> Path:
    """Return the `predictions.jsonl` that a path names: the file itself, or the one in a folder.

    Raises:
        FileNotFoundError: There is no such file.

    Example:
        >>> find_predictions_file("nowhere")
        Traceback (most recent call last):
        ...
        FileNotFoundError: there is no nowhere: pass a predictions.jsonl, or a folder that contains one
    """
    path = Path(name)
    if path.is_dir():
        found = path / PREDICTIONS_NAME
        if not found.is_file():
            raise FileNotFoundError(
                f"there is no {PREDICTIONS_NAME} in {name}: evaluate with write_predictions=True, or by "
                "examples/evaluate_checkpoint.py"
            )
        return found
    if not path.is_file():
        raise FileNotFoundError(f"there is no {name}: pass a {PREDICTIONS_NAME}, or a folder that contains one")
    return path


def _report(given: argparse.Namespace) -> None:
    from ..reporting.html_report import write_report

    predictions = find_predictions_file(given.predictions)
    other = None if given.other is None else find_predictions_file(given.other)
    path = write_report(
        predictions,
        given.output or predictions.with_name("report.html"),
        images=given.images,
        other=other,
        names=given.names or _names(given.predictions, given.other or ""),
        title=given.title,
        variant=given.metric_variant,
    )
    print(f"report: {path}")


def _compare(given: argparse.Namespace) -> int:
    a, b = (read_predictions(find_predictions_file(name)) for name in (given.a, given.b))
    names = _names(given.a, given.b)
    interval = None if given.interval == "newcombe" else given.interval
    result = compare_predictions(a, b, variant=given.metric_variant, interval=interval)
    print(f"difference: {names[1]} minus {names[0]}, in points; variant {result['variant']}, {result['interval']}")
    groups: list[tuple[str, dict[str, Any]]] = [*result.get("by_source", {}).items()]
    for title, kind in (("question", question_type), ("answer", answer_type)):
        key = "question" if title == "question" else "answer"
        for value in sorted({kind(row[key]) for row in a if row["correct"] is not None}):
            rows = {row["index"] for row in a if kind(row[key]) == value}
            parts = ([row for row in run if row["index"] in rows] for run in (a, b))
            groups.append((f"{title}: {value}", compare_predictions(*parts, variant=given.metric_variant)))
    for line in _lines([*groups, ("all", result)], names):
        print(line)
    _print_changed(a, b, max(0, given.changed), names)
    difference = 100 * result["difference"]
    if given.fail_below is not None and difference < given.fail_below:
        print(f"the difference of {difference:+.2f} points is below {given.fail_below:+g}", file=sys.stderr)
        return 1
    return 0


def _lines(groups: list[tuple[str, dict[str, Any]]], names: Sequence[str]) -> list[str]:
    rows = [["questions", *names, "difference", "95 % interval", "p (McNemar)", "n"]]
    for name, numbers in groups:
        low, high = 100 * numbers["difference_ci_low"], 100 * numbers["difference_ci_high"]
        rows.append(
            [
                name,
                f"{100 * numbers['accuracy_a']:.2f}",
                f"{100 * numbers['accuracy_b']:.2f}",
                f"{100 * numbers['difference']:+.2f}",
                f"{low:+.2f} to {high:+.2f}",
                f"{numbers['p_value']:.3g}",
                f"{numbers['n']:,}",
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]


def _print_changed(a: list[dict[str, Any]], b: list[dict[str, Any]], count: int, names: Sequence[str]) -> None:
    there = {row["index"]: row for row in b}
    changed = [(row, there[row["index"]]) for row in a if row["correct"] != there[row["index"]]["correct"]]
    print(f"{len(changed):,} questions changed their verdict")
    for before, after in changed[:count]:
        print(f"  {before['index']} {_short(before['chart_id'])}: {_short(before['question'])}")
        texts = f"{names[0]}: {_short(before['prediction'])}, {names[1]}: {_short(after['prediction'])}"
        print(f"    answer: {_short(before['answer'])}, {texts}")


def _names(a: str, b: str) -> list[str]:
    """Return short names of two paths: the last part in which they differ."""
    parts = [[part for part in Path(name).parts if part != PREDICTIONS_NAME] for name in (a, b)]
    found = [next((part for part in reversed(own) if part not in other), "") for own, other in (parts, parts[::-1])]
    return [_short(name, 24) or default for name, default in zip(found, ("A", "B"), strict=True)]


def _short(value: Any, length: int = 80) -> str:
    """Return a text on one line that a terminal prints as it is, of bounded length."""
    text = printable(value)
    return text if len(text) <= length else f"{text[: length - 3]}..."


if __name__ == "__main__":
    sys.exit(main())
