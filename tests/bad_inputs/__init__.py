"""A corpus of bad inputs, made by code: each is handled exactly or refused clearly before the first training step."""

from __future__ import annotations

from typing import Any


def corpus() -> dict[tuple[str, str], Any]:
    """All cases by (group, name)."""
    from . import checkpoints, folders, images, metrics, objects, records, settings, tables  # noqa: F401
    from .case import CASES

    return CASES
