"""Blocks of a Donut encoder computed a few windows at a time on a CPU: less memory and time, the same values."""

from __future__ import annotations

from .layer import ChunkedDonutSwinLayer, chunk_swin_blocks

__all__ = ["ChunkedDonutSwinLayer", "chunk_swin_blocks"]
