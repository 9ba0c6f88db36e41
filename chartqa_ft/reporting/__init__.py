"""What people look at: pictures of answers and training curves."""

from .pictures import draw_answers

__all__ = ["draw_answers"]
