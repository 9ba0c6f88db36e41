"""Synthetic charts with questions and answers, for demos and tests."""

from .questions import synthetic_chartqa

__all__ = ["synthetic_chartqa"]
