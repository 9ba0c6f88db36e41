"""Times for people."""

from __future__ import annotations

from datetime import datetime

from chartqa_ft.training.durations import duration, end_of_run


def test_units_change_where_numbers_get_long():
    assert [duration(seconds) for seconds in (0, 89, 90, 5399, 5400, 360_000)] == [
        "0 seconds",
        "89 seconds",
        "1.5 minutes",
        "90 minutes",
        "1.5 hours",
        "100 hours",
    ]
    assert end_of_run(1, 60.0, datetime(2026, 12, 31, 23, 59), more=True) == (
        "1 more step takes about 60 seconds, until 2027-01-01 00:00, without evaluations and saves"
    )
