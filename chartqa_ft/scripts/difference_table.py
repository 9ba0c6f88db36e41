"""The table of paired differences between two runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["difference_table"]


def difference_table(
    groups: Iterable[tuple[str, Mapping[str, Any]]], names: Sequence[str], *, p_value: str = "p (McNemar)"
) -> list[str]:
    r"""Return the lines of a table of paired differences, in percent and points.

    Args:
        groups: The title of each row, and what `compare_predictions` returns for its questions.
        names: Names of the two runs.
        p_value: Title of the column of p-values.

    Example:
        >>> row = {"accuracy_a": 0.25, "accuracy_b": 0.5, "difference": 0.25, "p_value": 0.5, "n": 4}
        >>> row |= {"difference_ci_low": -0.1, "difference_ci_high": 0.6}
        >>> print("\n".join(difference_table([("all", row)], ["before", "after"])))
        questions  before  after  difference     95 % interval  p (McNemar)  n
        all         25.00  50.00      +25.00  -10.00 to +60.00          0.5  4
    """
    rows = [["questions", *names, "difference", "95 % interval", p_value, "n"]]
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
