"""Rows become batches: keyed, grouped by chart, sampled and collated."""

from .collator import ChartQACollator

__all__ = ["ChartQACollator"]
