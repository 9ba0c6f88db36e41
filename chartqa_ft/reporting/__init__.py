"""What people look at: a report of all answers, answered charts and training curves."""

from .curve import draw_curves
from .html_report import write_report
from .pictures import draw_answers

__all__ = ["draw_answers", "draw_curves", "write_report"]
