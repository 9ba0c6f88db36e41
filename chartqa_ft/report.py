"""The path of earlier releases for `chartqa_ft.reporting`; it goes with the next one."""

from .reporting import draw_answers  # noqa: F401
