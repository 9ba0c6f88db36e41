"""Times for people: how long something takes, and when it ends."""

from __future__ import annotations

from datetime import datetime, timedelta

__all__ = ["duration", "end_of_run"]


def duration(seconds: float) -> str:
    """Return a number of seconds as text, in the unit that suits it.

    Example:
        >>> duration(3.21), duration(600), duration(10_000)
        ('3.2 seconds', '10 minutes', '2.8 hours')
    """
    unit, name = (3600, "hours") if seconds >= 5400 else (60, "minutes") if seconds >= 90 else (1, "seconds")
    value = seconds / unit
    return f"{value:.2g} {name}" if value < 99.5 else f"{value:,.0f} {name}"


def end_of_run(steps: int, step_seconds: float, now: datetime, *, more: bool = False) -> str:
    """Return how long some steps take, and when they end, as text.

    Args:
        steps: number of steps that are left.
        step_seconds: time of a step, without evaluations and saves.
        now: when the first of them begins.
        more: whether steps were made before.

    Example:
        >>> end_of_run(1000, 2.0, datetime(2026, 1, 1))
        '1,000 steps take about 33 minutes, until 2026-01-01 00:33, without evaluations and saves'
    """
    seconds = steps * step_seconds
    at = (now + timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M")
    what = f"{steps:,} {'more ' * more}{'step takes' if steps == 1 else 'steps take'}"
    return f"{what} about {duration(seconds)}, until {at}, without evaluations and saves"
