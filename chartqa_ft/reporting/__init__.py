"""Pictures for people: answered charts and training curves."""

from .pictures import draw_answers

__all__ = ["draw_answers"]
