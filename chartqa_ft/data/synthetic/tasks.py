"""Answers of other tasks than questions about drawn charts: their data tables, and summaries of one sentence."""

from __future__ import annotations

from ...metrics.tables import Table, write_table
from .drawing import Chart

TASKS = ("qa", "table", "summary")
"""The tasks for which charts are drawn."""

TASK_WORDS = "Color Value In this bar line pie chart is the largest with and smallest"
"""The words of tables and summaries, except colors and numbers."""


def table_of(chart: Chart) -> str:
    """Return the data table of a chart, a row per mark in the order in which it is drawn.

    Example:
        >>> print(table_of(Chart("bar", ("red", "blue"), (3, 7))))
        Color | Value
        red | 3
        blue | 7
    """
    return write_table(Table(("Color", "Value"), zip(chart.names, chart.values, strict=True)))


def summary_of(chart: Chart) -> str:
    """Return one sentence about the largest and the smallest mark of a chart, the first one of equal marks.

    Example:
        >>> summary_of(Chart("bar", ("red", "blue"), (3, 7)))
        'In this bar chart blue is the largest with 7 and red is the smallest with 3.'
    """
    marks = list(zip(chart.values, chart.names, strict=True))
    (high, largest), (low, smallest) = (max(marks, key=lambda m: m[0]), min(marks, key=lambda m: m[0]))
    return (
        f"In this {chart.chart_type} chart {largest} is the largest with {high} and {smallest} is the smallest with "
        f"{low}."
    )
