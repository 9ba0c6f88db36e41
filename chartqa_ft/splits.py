"""The path of earlier releases for `chartqa_ft.data`; it goes with the next one."""

from .data import split_by_chart  # noqa: F401
