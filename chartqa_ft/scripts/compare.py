"""`chartqa-ft compare`: the paired table of two runs, the examples that changed, and an exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..files import read_json
from ..metrics.comparison import PairedAnswers, compare_predictions, paired_answers
from ..metrics.correctness import VARIANTS
from ..metrics.extraction import EXTRACTORS
from ..metrics.limits import INTERVALS
from ..metrics.notation import DETECTED
from ..metrics.predictions import is_short_answer, read_predictions
from ..printable import printable
from .difference_table import difference_table
from .runs import METRICS_NAME, PREDICTIONS_NAME, Run, find_run

__all__ = ["add_arguments", "compare", "names_of", "points"]

_SETTINGS = (
    "prompt",
    "system_prompt",
    "prompts",
    "generation_num_beams",
    "final_num_beams",
    "generation_max_new_tokens",
    "max_tokens",
    "temperature",
    "extra_body",
    "metric_extract",
    "image_size",
    "max_pixels",
    "max_tiles",
    "max_patches",
    "compat",
)
"""Arguments of an evaluation that change answers, as `metrics.json` records them."""


_LONGEST_NAME = 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_arguments(parser)
        >>> parser.parse_args(["before", "after", "--fail_below", "-0.5"]).fail_below
        Decimal('-0.5')
    """
    parser.add_argument(
        "a",
        help="The first run: a predictions.jsonl, its folder, or a model on the Hub that was pushed with its "
        "predictions (owner/name, or owner/name@revision).",
    )
    parser.add_argument("b", help="The second run, on the same questions.")
    parser.add_argument(
        "--metric_variant",
        default="pix2struct",
        choices=[*VARIANTS, DETECTED],
        help="Variant of relaxed accuracy that scores both runs anew.",
    )
    parser.add_argument(
        "--metric_extract",
        choices=list(EXTRACTORS),
        help="Find the answer in both predictions in this way. Unset: the answers that the evaluations scored.",
    )
    parser.add_argument(
        "--interval",
        choices=["newcombe", *INTERVALS[1:]],
        help="Kind of the intervals; clustered accounts for questions that share charts, in the p-values too.",
    )
    parser.add_argument("--changed", type=int, default=10, help="Number of changed examples to print (default: 10).")
    parser.add_argument(
        "--fail_below",
        type=points,
        metavar="POINTS",
        help="Exit with code 1 if the accuracy of the second run minus that of the first, over all questions (row "
        "'all'), is below this. In percentage points, before rounding; a difference of exactly POINTS passes.",
    )
    parser.set_defaults(run=compare)


def points(text: str) -> Decimal:
    """Return the value of `--fail_below`, exactly as it was written.

    Raises:
        argparse.ArgumentTypeError: it is no number between -100 and 100.

    Example:
        >>> points("-0.1")
        Decimal('-0.1')
    """
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("nan")
    if not value.is_finite() or not -100 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of percentage points between -100 and 100")
    return value


def compare(given: argparse.Namespace) -> int:
    """Print the comparison of two runs, and return the exit code: 1 if `--fail_below` is not reached, else 0.

    Raises:
        OSError, ValueError: a run cannot be read, or the runs are not on the same questions.
    """
    runs = [find_run(given.a), find_run(given.b)]
    a, b = (read_predictions(run.predictions) for run in runs)
    names = names_of(given.a, given.b)
    try:
        result = compare_predictions(
            a,
            b,
            variant=given.metric_variant,
            extract=given.metric_extract,
            interval=given.interval,
            by_type=True,
        )
    except ValueError as error:
        raise ValueError(f"{error} (a: {given.a}, b: {given.b})") from error
    pairs = paired_answers(a, b, variant=given.metric_variant, extract=given.metric_extract)
    print(f"difference: {names[1]} minus {names[0]}, in points; variant {result['variant']}, {result['interval']}")
    others = sum(not is_short_answer(row) for row in a)
    if others:
        print(f"{others:,} rows of other tasks than qa are left out")
    for line in [*_differing_settings(*runs), *_table(result, names)]:
        print(line)
    print(
        f"McNemar: {names[0]} is better on {_questions(result['a_better'])}, {names[1]} on "
        f"{_questions(result['b_better'])}; p = {result.get('p_value_independent', result['p_value']):.3g}"
    )
    _print_changed(pairs, max(0, given.changed), names)
    difference = exact_difference(pairs)
    if given.fail_below is not None and difference < Fraction(given.fail_below):
        shown = f"{float(difference):+.2f}"
        if Fraction(Decimal(shown)) >= Fraction(given.fail_below):  # rounding would contradict the exit code
            shown = f"{float(difference):+.6g}"
        print(f"the difference of {shown} points is below {given.fail_below:+}", file=sys.stderr)
        return 1
    return 0


def exact_difference(pairs: Sequence[PairedAnswers]) -> Fraction:
    """Return the accuracy of the second run minus that of the first, in percentage points, without rounding.

    Example:
        >>> row = {"index": 0, "answer": "4"}
        >>> exact_difference(paired_answers([{**row, "prediction": "3"}], [{**row, "prediction": "4"}]))
        Fraction(100, 1)
    """
    total = sum((Fraction(pair.verdict_b) - Fraction(pair.verdict_a) for pair in pairs), Fraction(0))
    return 100 * total / len(pairs)


def _table(result: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    groups = [*result.get("by_source", {}).items()]
    for title in ("question", "answer"):
        groups += [(f"{title}: {name}", part) for name, part in result[f"by_{title}_type"].items()]
    shown = [(_short(name, 40), part) for name, part in [*groups, ("all", result)]]
    by_chart = result["interval"] == "clustered"
    return difference_table(shown, names, p_value="p (clustered)" if by_chart else "p (McNemar)")


def _differing_settings(*runs: Run) -> list[str]:
    """Return a line about settings that the scores of both runs record and that differ, if there are any."""
    try:
        stored = [{} if run.metrics is None else read_json(run.metrics).get("arguments") for run in runs]
    except ValueError as error:
        return [f"settings are not compared: {printable(error)}"]
    known: list[dict[str, Any]] = [one if isinstance(one, dict) else {} for one in stored]
    differing = [
        f"{name} {_setting(known[0][name])} / {_setting(known[1][name])}"
        for name in _SETTINGS
        if all(name in one for one in known) and known[0][name] != known[1][name]
    ]
    return [f"settings that differ ({METRICS_NAME}): {', '.join(differing)}"] if differing else []


def _setting(value: Any) -> str:
    return "unset" if value is None else _short(value, 40)


def _print_changed(pairs: Sequence[PairedAnswers], count: int, names: Sequence[str]) -> None:
    changed = [pair for pair in pairs if pair.verdict_a != pair.verdict_b]
    print(f"{_questions(len(changed))} changed {'its' if len(changed) == 1 else 'their'} verdict")
    for pair in changed[:count]:
        before, after = pair.a, pair.b
        print(f"  {before.get('index')} {_short(before.get('chart_id'))}: {_short(before.get('question'))}")
        texts = f"{names[0]}: {_short(_scored(before))}, {names[1]}: {_short(_scored(after))}"
        print(f"    answer: {_short(before['answer'])}, {texts}")
    if 0 < count < len(changed):
        print(f"  ... and {len(changed) - count:,} more (--changed {len(changed)})")


def _questions(n: int) -> str:
    return f"{n:,} question{'s' * (n != 1)}"


def _scored(record: Mapping[str, Any]) -> Any:
    return record.get("extracted", record["prediction"])


def names_of(a: str, b: str) -> list[str]:
    """Return short names of two runs: the last part in which their paths differ.

    Example:
        >>> names_of("runs/before/predictions.jsonl", "runs/after/predictions.jsonl")
        ['before', 'after']
        >>> names_of("out/baseline.jsonl", "out")
        ['baseline.jsonl', 'out']
    """
    parts = [[part for part in Path(name).parts if part != PREDICTIONS_NAME] for name in (a, b)]
    found = [next((part for part in reversed(own) if part not in other), "") for own, other in (parts, parts[::-1])]
    if any(found):  # the path of one holds all parts of the other
        found = [name or (own[-1] if own else "") for name, own in zip(found, parts, strict=True)]
    return [_short_name(name) or default for name, default in zip(found, ("A", "B"), strict=True)]


def _short_name(name: str) -> str:
    """Return a name of bounded length that keeps its end, in which the names of runs often differ."""
    text = printable(name)
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME // 2 - 3]}...{text[-_LONGEST_NAME // 2 :]}"


def _short(value: Any, length: int = 80) -> str:
    """Return a text on one line that a terminal prints as it is, of bounded length."""
    text = printable(value)
    return text if len(text) <= length else f"{text[: length - 3]}..."
