"""Questions in, answers and scores out, during training or without it."""

from .answering import answer_questions

__all__ = ["answer_questions"]
