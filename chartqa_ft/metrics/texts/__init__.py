"""Texts: how well summaries and open answers agree with those that people wrote."""

from .scores import TOKENIZERS, VARIANTS, per_example_text_scores, text_scores

__all__ = ["TOKENIZERS", "VARIANTS", "per_example_text_scores", "text_scores"]
