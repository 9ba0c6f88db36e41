"""Relative mapping similarity and relative number set similarity of two tables, without the traps of DePlot's code."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .numbers import Number, read_number
from .similarity import similarities
from .table import Table, is_missing

if TYPE_CHECKING:
    import numpy as np

NUMBER_THRESHOLD = 0.1
"""Relative distance from which a number is wrong."""
_TIE = 1e-6
"""How much the similarity of values counts beside that of keys when data points are matched."""


class Point(NamedTuple):
    """A value of a table and its place."""

    key: str
    """The labels of row and column, in lower case."""
    value: str
    """The text of the cell."""


class TableScores(NamedTuple):
    """The scores of one table, fractions between 0 and 1."""

    precision: float
    recall: float
    f1: float
    rnss: float


def compare_tables(target: Table, prediction: Table) -> TableScores:
    """Return the relative mapping similarity (RMS) and the relative number set similarity (RNSS) of two tables.

    RMS after Liu et al. 2023 (DePlot, arXiv:2212.10505, section 3): the values of both tables are matched by their
    labels, and each pair gives the similarity of its labels times that of its values; precision is the sum divided by
    the values of the prediction, recall by those of the target. RNSS matches all numbers, wherever they are: the
    sum of 1 minus the relative distance of each pair, divided by the larger count.

    Args:
        target: the right table.
        prediction: another table; it may have rows and columns in any order, or exchanged.

    Example:
        >>> target = Table(("Year", "Share"), [(2019, "50%"), (2020, "1,000")])
        >>> compare_tables(target, Table(("Year", "Share"), [(2020, 950), (2019, "50 %")]))
        TableScores(precision=0.975, recall=0.975, f1=0.975, rnss=0.975)
    """
    points = data_points(target)
    found = [_match_points(points, data_points(table)) for table in (prediction, prediction.transposed())]
    best = max(found, key=lambda scores: scores[2])
    rnss = _number_set_similarity(points, data_points(prediction))
    return TableScores(*best, best[2] if rnss is None else rnss)


def data_points(table: Table) -> list[Point]:
    """Return the values of a table with their labels. A missing value is none, and neither is the title.

    In a table without any value, every label is a point by itself.

    Example:
        >>> data_points(Table(("Year", "EU", "US"), [(2019, 5, "nan")]))
        [Point(key='2019 eu', value='5')]
        >>> data_points(Table(("Year",), [("2019",)]))
        [Point(key='year', value=''), Point(key='2019', value='')]
    """
    points = [
        Point(f"{row[0]} {name}".strip().lower(), cell)
        for row in table.rows
        for name, cell in zip(table.header[1:], row[1:], strict=True)
        if not is_missing(cell)
    ]
    return points or [Point(cell.lower(), "") for row in (table.header, *table.rows) for cell in row if cell]


def _match_points(target: list[Point], prediction: list[Point]) -> tuple[float, float, float]:
    from scipy.optimize import linear_sum_assignment

    if not target or not prediction:
        return (1.0, 1.0, 1.0) if not target and not prediction else (0.0, 0.0, 0.0)
    keys = similarities([point.key for point in target], [point.key for point in prediction])
    values = _value_similarities([point.value for point in target], [point.value for point in prediction])
    # Of matchings whose keys are equally similar, the one with the most similar values counts: the order of rows and
    # columns does not matter, nor do labels that occur twice.
    pairs = linear_sum_assignment(keys + _TIE * values, maximize=True)
    score = float((keys * values)[pairs].sum())
    if not score:
        return 0.0, 0.0, 0.0
    precision, recall = score / len(prediction), score / len(target)
    return precision, recall, 2 * precision * recall / (precision + recall)


def _value_similarities(target: list[str], prediction: list[str]) -> np.ndarray:
    """Return the similarity of all pairs of values: that of two numbers is relative, others are compared as texts."""
    import numpy as np

    similar = similarities([text.lower() for text in target], [text.lower() for text in prediction])
    numbers, others = [read_number(text) for text in target], [read_number(text) for text in prediction]
    rows = [i for i, number in enumerate(numbers) if number is not None]
    columns = [j for j, number in enumerate(others) if number is not None]
    if rows and columns:
        distance = relative_distances(_known(numbers), _known(others))
        similar[np.ix_(rows, columns)] = np.where(distance < NUMBER_THRESHOLD, 1 - distance, 0.0)
    return similar


def _known(numbers: list[Number | None]) -> list[Number]:
    return [number for number in numbers if number is not None]


def relative_distances(target: list[Number], prediction: list[Number]) -> np.ndarray:
    """Return `min(1, |t - p| / |t|)` for all pairs of numbers; from 0 every other number is at distance 1.

    If only one of two numbers has a percent sign, the distance is the smaller one of two: with the sign ignored (`83%`
    is 83, as in a table that gives the unit in its header), and with it read as hundredths (`83%` is 0.83).

    Args:
        target, prediction: at least one number each.

    Returns:
        Floats of shape (len(target), len(prediction)).

    Example:
        >>> relative_distances([Number(80, True)], [Number(80, False), Number(0.8, False), Number(60, True)]).tolist()
        [[0.0, 0.0, 0.25]]
    """
    import numpy as np

    printed = _distances(
        np.array([number.value for number in target]), np.array([number.value for number in prediction])
    )
    percent, other = (np.array([number.is_percent for number in side]) for side in (target, prediction))
    if (percent[:, None] == other).all():
        return printed
    hundredths = _distances(
        *(np.array([n.value / 100 if n.is_percent else n.value for n in s]) for s in (target, prediction))
    )
    return np.where(percent[:, None] == other, printed, np.minimum(printed, hundredths))


def _distances(target: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    import numpy as np

    with np.errstate(all="ignore"):
        distance = np.abs((target[:, None] - prediction) / np.abs(target)[:, None])
    distance[target == 0] = prediction != 0
    return np.minimum(np.nan_to_num(distance, nan=1.0), 1.0)


def _number_set_similarity(target: list[Point], prediction: list[Point]) -> float | None:
    """Return the similarity of the numbers among the values, or None if neither table has any.

    Labels are not counted: years would make any two charts of the same years similar. A number that the other
    table lacks is wrong.
    """
    from scipy.optimize import linear_sum_assignment

    numbers, others = (_known([read_number(point.value) for point in points]) for points in (target, prediction))
    if not numbers or not others:
        return 0.0 if numbers or others else None
    distance = relative_distances(numbers, others)
    return float((1 - distance[linear_sum_assignment(distance)]).sum() / max(distance.shape))
