"""The 5 % within which a number is right."""

from __future__ import annotations

TOLERANCE = 0.05


def within_tolerance(prediction: float, target: float) -> bool:
    """Return whether `abs(p - t) / abs(t) <= 0.05` in float64. `target` must not be 0.

    nan and infinities are never within the tolerance.

    Example:
        >>> within_tolerance(105.0, 100.0), within_tolerance(1.05, 1.0)
        (True, False)
    """
    return abs(prediction - target) / abs(target) <= TOLERANCE
