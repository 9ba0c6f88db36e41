"""The metrics of DePlot as its code computes them, on texts, traps included."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, NamedTuple

from .similarity import similarities

if TYPE_CHECKING:
    import numpy as np

Scores = tuple[float, float, float]
"""Precision, recall and F1."""

_NUMBER_THRESHOLD = 0.1
_TITLE = "title |"


class Parsed(NamedTuple):
    """A table as DePlot's code reads it: in lower case, rows of any length."""

    title: str | None
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def parse(text: str, *, transposed: bool = False) -> Parsed:
    """Divide a text at line breaks and ` | `.

    Example:
        >>> parse("TITLE | Sales\\nYear | EU\\n2019 | 5")
        Parsed(title='sales', header=('year', 'eu'), rows=(('2019', '5'),))
    """
    lines = text.lower().splitlines()
    title = None
    if lines and lines[0].startswith(_TITLE):
        title = lines[0][len(_TITLE) :].strip()
        lines = lines[1:]
    rows = [tuple(cell.strip() for cell in line.split(" | ")) for line in lines]
    if transposed:
        rows = list(zip_longest(*rows, fillvalue=""))
    return Parsed(title, rows[0], tuple(rows[1:])) if rows else Parsed(title, (), ())


def size(text: str) -> int:
    """Return the number of cells that a text has for `parse`, with short rows filled."""
    rows = text.splitlines()
    return len(rows) * max((line.count(" | ") + 1 for line in rows), default=0)


def relative_mapping_similarity(target: str, prediction: str, *, strict: bool = False) -> Scores:
    """Return the best precision, recall and F1 of the data points, with the prediction as it is and transposed.

    Args:
        target, prediction: tables as texts.
        strict: texts that differ in half of their characters have nothing in common, as in TinyChart's copy.

    Example:
        >>> relative_mapping_similarity("Year | EU\\n2019 | 80", "Year | EU\\n2019 | 75")
        (0.9375, 0.9375, 0.9375)
    """
    points = _points(parse(target))
    # Of equal scores the first one counts, which is the transposed one.
    both = [_match_points(points, _points(parse(prediction, transposed=turned)), strict) for turned in (True, False)]
    return max(both, key=lambda scores: scores[2])


def _points(table: Parsed) -> dict[str, str]:
    points = {} if table.title is None else {"title": table.title}
    for row in table.rows:
        for name, cell in zip(table.header[1:], row[1:], strict=False):
            points[f"{row[0]} {name}"] = cell
    return points


def _match_points(target: dict[str, str], prediction: dict[str, str], strict: bool) -> Scores:
    from scipy.optimize import linear_sum_assignment

    if not target or not prediction:
        return _of_nothing(bool(target), bool(prediction))
    keys = similarities(list(target), list(prediction), strict=strict)
    values, others = list(target.values()), list(prediction.values())
    score = 0.0
    for i, j in zip(*linear_sum_assignment(1 - keys), strict=True):
        score += keys[i, j] * _value_similarity(values[i], others[j], strict)
    return _of_score(score, len(target), len(prediction))


def _of_nothing(has_target: bool, has_prediction: bool) -> Scores:
    if not has_target and not has_prediction:
        return 1.0, 1.0, 1.0
    return (1.0, 0.0, 0.0) if has_target else (0.0, 1.0, 0.0)


def _of_score(score: float, n_target: int, n_prediction: int) -> Scores:
    if score == 0:
        return 0.0, 0.0, 0.0
    precision, recall = float(score) / n_prediction, float(score) / n_target
    return precision, recall, 2 * precision * recall / (precision + recall)


def _value_similarity(target: str, prediction: str, strict: bool) -> float:
    number, other = _number(target), _number(prediction)
    if other is not None and number:
        return 1 - _relative_distance(number, other, _NUMBER_THRESHOLD)
    return 1.0 if target == prediction else _text_similarity(target, prediction, strict)


def _text_similarity(target: str, prediction: str, strict: bool) -> float:
    return float(similarities([target], [prediction], strict=strict)[0, 0])


def _number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


def _relative_distance(target: float, prediction: float, threshold: float = 1.0) -> float:
    """Return the relative distance of two numbers, at most 1. That of 0 and 0 is 1, of 0 and others 0."""
    if not target:
        return float(not prediction)
    distance = min(abs((target - prediction) / target), 1.0)
    return distance if distance < threshold else 1.0


def numbers_match(target: str, prediction: str) -> float:
    """Return the similarity of all numbers of two texts, wherever they are: DePlot's RNSS.

    Example:
        >>> numbers_match("Year | EU\\n2019 | 100", "Year | EU\\n2019 | 90")
        0.95
    """
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    numbers, others = _numbers(target), _numbers(prediction)
    if not numbers or not others:
        return float(not numbers and not others)
    distance = np.array([[_relative_distance(number, other) for other in others] for number in numbers])
    return float(1 - distance[linear_sum_assignment(distance)].sum() / max(distance.shape))


def _numbers(text: str) -> list[float]:
    numbers = []
    for line in text.splitlines():
        for part in line.split(" | "):
            try:
                numbers.append(float(part))
            except ValueError:
                continue
    return numbers


def row_similarity(target: str, prediction: str) -> Scores:
    """Return the best precision, recall and F1 of whole rows, with each table as it is and transposed.

    The reference raises an exception for two tables without a header and for two empty cells in one place. Here the
    former need no alignment of columns, and the latter are equal.

    Example:
        >>> row_similarity("Year | EU | US\\n2019 | 5 | 6\\n2020 | 7 | 8", "Year | EU | US\\n2019 | 5 | 6")
        (1.0, 0.5, 0.6666666666666666)
    """
    found: list[Scores] = []
    predictions = [parse(prediction, transposed=turned) for turned in (True, False)]
    for turned in (True, False):
        table = parse(target, transposed=turned)
        found += [_match_rows(table, other) for other in predictions if len(table.header) == len(other.header)]
    return max(found, key=lambda scores: scores[2], default=(0.0, 0.0, 0.0))


def _match_rows(target: Parsed, prediction: Parsed) -> Scores:
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    order, alignment = _alignment(target.header, prediction.header)
    rows = [tuple(row[k] if k < len(row) else "" for k in order) for row in prediction.rows]
    rows += [] if prediction.title is None else [("title", prediction.title)]
    targets = list(target.rows) + ([] if target.title is None else [("title", target.title)])
    if not targets or not rows:
        return _of_nothing(bool(targets), bool(rows))
    if not alignment:
        return 1.0, 0.0, 0.0
    similar = _Texts([cell for row in targets for cell in row], [cell for row in rows for cell in row])
    found = np.array([[alignment * _row_similarity(row, other, similar) for other in rows] for row in targets])
    return _of_score(float(found[linear_sum_assignment(1 - found)].sum()), len(targets), len(rows))


def _alignment(target: Sequence[str], prediction: Sequence[str]) -> tuple[list[int], float]:
    """Return the order of the prediction's columns that fits the target's, and how well it does without the first."""
    from scipy.optimize import linear_sum_assignment

    if not target:
        return [], 1.0
    distance: np.ndarray = 1 - similarities(prediction, target)
    rows, columns = linear_sum_assignment(distance)
    order: list[int] = [int(row) for _, row in sorted(zip(columns, rows, strict=True))]
    alignment = 1.0
    for k, row in enumerate(order[1:], start=1):
        alignment *= 1 - distance[row, k]
    return order, float(alignment)


class _Texts:
    """The similarities of many texts, computed at once."""

    def __init__(self, targets: list[str], predictions: list[str]) -> None:
        self._rows = {text: i for i, text in enumerate(dict.fromkeys(targets))}
        self._columns = {text: j for j, text in enumerate(dict.fromkeys(predictions))}
        self._similarities = similarities(list(self._rows), list(self._columns)).tolist()

    def __call__(self, target: str, prediction: str) -> float:
        return float(self._similarities[self._rows[target]][self._columns[prediction]])


def _row_similarity(target: Sequence[str], prediction: Sequence[str], similar: _Texts) -> float:
    if len(target) != len(prediction) or not target:
        return 0.0
    product = 1.0
    for cell, other in zip(target, prediction, strict=True):
        number, guess = _number(cell), _number(other)
        if cell == other:
            continue
        if guess is not None and number:
            product *= 1 - _relative_distance(number, guess, _NUMBER_THRESHOLD)
        else:
            product *= 0.0 if number is not None else similar(cell, other)
        if not product:
            break
    return product
