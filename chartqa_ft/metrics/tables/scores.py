"""How well tables that a model has read from charts agree with the right ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..entries import listed, prediction_text
from . import reference as deplot
from .matching import compare_tables
from .parsing import parse_table
from .table import Table, TooLargeError

MOST_CELLS = 1024
"""Cells up to which a table is scored, short rows filled."""
LONGEST_TEXT = 1 << 16
"""Characters up to which a table is scored."""

_NAMED = ("deplot", "deplot_2023", "tinychart")
VARIANTS = ("default", *_NAMED)
"""The names of the variants of `table_scores`."""

_KEYS = ("rms_precision", "rms_recall", "rms_f1", "rnss")
_ROWS = ("row_precision", "row_recall", "row_f1")


def table_scores(
    predictions: Iterable[object], references: Iterable[object], *, variant: str = "default"
) -> dict[str, float | int]:
    """Return the mean relative mapping similarity (RMS) and relative number set similarity (RNSS) of tables.

    Args:
        predictions: one table per chart, a text in any linearization that `parse_table` reads or a `Table`.
        references: one table per chart, as for `predictions`, or a list of accepted tables, of which each metric takes
            the one with the best score.
        variant: `"default"`, or the name of a script whose numbers have been published, with its traps:

            - `"default"`: tables are parsed first, so that a separator earns and costs nothing. The title is ignored.
              Numbers may have thousands separators, currency and percent signs (see `read_number`); `83%` equals 83
              and 0.83. `nan`, `n/a`, dashes and empty cells are missing values, and no data points. 0 equals 0. RNSS
              takes numbers from the cells, not from labels such as years, and numbers that one side lacks count as
              wrong; where neither table has any, it is the RMS F1. An empty prediction scores 0, and equal tables
              score 1.0, whatever is in them. Labels are compared as in DePlot, without regard to case.
            - `"deplot"`: `deplot/metrics.py` of google-research/google-research. Texts are divided at line breaks and
              ` | ` and not parsed otherwise: two texts without ` | ` score 1.0. A first line `title | ...` is a data
              point. Numbers such as `1,234` are texts. An empty prediction has the precision 1. RNSS counts years, but
              neither percentages nor numbers that one side lacks.
            - `"deplot_2023"`: the copy of 2023, whose F1 *is the recall*. Numbers published with it are recalls.
            - `"tinychart"`: TinyChart's copy, in which texts that differ in half of their characters are not similar.

    Returns:
        Fractions, each the mean over all charts, and `n`, the number of charts:

        - `rms_precision`, `rms_recall`, `rms_f1`, and `rnss` (`numbers_match` of the scripts);
        - `row_precision`, `row_recall`, `row_f1` for the named variants: whole rows, as in DePlot's script. Where that
          script raises an exception, tables without a header need no alignment of columns, and two empty cells are
          equal: a title or nothing at all, on both sides the same, scores 1.0.

        A prediction of more than 1,024 cells (short rows filled) or 65,536 characters scores 0 in all of them
        without being compared.

    Raises:
        ValueError: The lengths differ, there are no tables, the variant is unknown, or a reference is too large.
        TypeError: An entry is neither a text nor a `Table`.

    Example:
        >>> references = ["Year,EU\\n2019,1204\\n2020,nan"]
        >>> table_scores(predictions=["Year | EU & 2019 | 1,204 & 2020 | 7"], references=references)
        {'rms_precision': 0.5, 'rms_recall': 1.0, 'rms_f1': 0.6666666666666666, 'rnss': 0.5, 'n': 1}
    """
    each = per_example_table_scores(predictions=predictions, references=references, variant=variant)
    if not each:
        raise ValueError("there are no tables to score")
    means: dict[str, float | int] = {name: sum(scores[name] for scores in each) / len(each) for name in each[0]}
    return {**means, "n": len(each)}


def per_example_table_scores(
    predictions: Iterable[object], references: Iterable[object], *, variant: str = "default"
) -> list[dict[str, float]]:
    """Return the scores of each table, in order.

    Args:
        predictions, references, variant: as in `table_scores`.

    Returns:
        One dict per chart, with the names of `table_scores` without `n`.

    Raises:
        ValueError, TypeError: as in `table_scores`, but for an empty list.

    Example:
        >>> each = per_example_table_scores(predictions=["Year | EU\\n2019 | 4"], references=["Year | EU\\n2019 | 5"])
        >>> each[0]["rnss"]
        0.8
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant must be one of {', '.join(map(repr, VARIANTS))}, and is {variant!r}")
    given, labels = listed("predictions", predictions), listed("references", references)
    if len(given) != len(labels):
        raise ValueError(f"there are {len(given)} predictions and {len(labels)} references; one of each per chart")
    found = []
    for i, (prediction, label) in enumerate(zip(given, labels, strict=True)):
        accepted = label if isinstance(label, (list, tuple)) else [label]
        if not accepted:
            raise ValueError(f"references[{i}] is an empty list: a chart needs an accepted table; leave the chart out")
        if variant == "default":
            scores = _default_scores(accepted, prediction, i)
        else:
            scores = _scores_of_script(variant, accepted, prediction, i)
        best = _best(scores)
        found.append(best | {"rms_f1": best["rms_recall"]} if variant == "deplot_2023" else best)
    return found


def check_size(table: str | Table) -> None:
    """Check that a table is small enough to be the reference of `table_scores`.

    Raises:
        ValueError: it has more than 1,024 cells (short rows filled) or 65,536 characters.

    Example:
        >>> check_size(" | ".join("abcd") + "\\n1" * 256)
        Traceback (most recent call last):
        ...
        chartqa_ft.metrics.tables.table.TooLargeError: 1,028 cells are too many: up to 1,024 cells and 65,536 ...
    """
    _table_of(table, "the table")


def _best(scores: list[dict[str, float]]) -> dict[str, float]:
    """Return the best of each metric: F1 decides about precision and recall."""
    best: dict[str, float] = {}
    for kind in ("rms", "row"):
        key = f"{kind}_f1"
        if key in scores[0]:
            chosen = max(scores, key=lambda each: each[key])
            best |= {name: value for name, value in chosen.items() if name.startswith(kind)}
    return {name: best.get(name, max(each[name] for each in scores)) for name in scores[0]}


def _table_of(value: object, where: str) -> Table:
    if not isinstance(value, Table):
        value = parse_table(_limited(_text_of(value, where)))
    cells = [value.header, *value.rows]
    _check_size(len(value.header) * len(cells), sum(len(cell) for row in cells for cell in row))
    return value


def _plain_text_of(value: object, where: str) -> str:
    """Return an entry as the text that the scripts of others get."""
    if isinstance(value, Table):
        table = _table_of(value, where)
        rows = [("TITLE", table.title)] if table.title else []
        return "\n".join(" | ".join(row) for row in [*rows, table.header, *table.rows])
    text = _limited(_text_of(value, where))
    _check_size(deplot.size(text), len(text))
    return text


def _text_of(value: object, where: str) -> str:
    if value is None:
        raise TypeError(f"{where} is None: pass the text of a table or a Table")
    return prediction_text(value, where)


def _limited(text: str) -> str:
    _check_size(0, len(text))
    return text


def _check_size(cells: int, characters: int) -> None:
    if cells > MOST_CELLS or characters > LONGEST_TEXT:
        what = f"{cells:,} cells" if cells > MOST_CELLS else f"{characters:,} characters"
        raise TooLargeError(
            f"{what} are too many: up to {MOST_CELLS:,} cells and {LONGEST_TEXT:,} characters are scored"
        )


def _read_pair(
    read: Callable[[object, str], Any], accepted: Sequence[object], prediction: object, i: int
) -> tuple[list[Any], Any]:
    """Read the tables of a chart: the accepted ones and the predicted one, which is None if it is too large."""
    try:
        targets = [read(target, f"references[{i}]") for target in accepted]
    except TooLargeError as error:
        raise TooLargeError(f"references[{i}]: {error}") from error
    try:
        return targets, read(prediction, f"predictions[{i}]")
    except TooLargeError:
        return targets, None


def _default_scores(accepted: Sequence[object], prediction: object, i: int) -> list[dict[str, float]]:
    targets, table = _read_pair(_table_of, accepted, prediction, i)
    if table is None:
        return [dict.fromkeys(_KEYS, 0.0)]
    return [dict(zip(_KEYS, compare_tables(target, table), strict=True)) for target in targets]


def _scores_of_script(variant: str, accepted: Sequence[object], prediction: object, i: int) -> list[dict[str, float]]:
    targets, text = _read_pair(_plain_text_of, accepted, prediction, i)
    if text is None:
        return [dict.fromkeys((*_KEYS, *_ROWS), 0.0)]
    scores = []
    for target in targets:
        mapping = deplot.relative_mapping_similarity(target, text, strict=variant == "tinychart")
        values = (*mapping, deplot.numbers_match(target, text), *deplot.row_similarity(target, text))
        scores.append(dict(zip((*_KEYS, *_ROWS), values, strict=True)))
    return scores
