"""The packages of others that compute the scores of texts. They are imported where they are used."""

from __future__ import annotations

from typing import NoReturn


def explain_missing(error: ImportError) -> NoReturn:
    """Raise an error that says how to install what is missing.

    Raises:
        ImportError: always.

    Example:
        >>> explain_missing(ImportError("No module named 'sacrebleu'", name="sacrebleu"))
        Traceback (most recent call last):
        ...
        ImportError: scores of texts need sacrebleu and rouge_score: pip install 'chartqa_ft[text]' (No module named \
'sacrebleu')
    """
    raise ImportError(
        f"scores of texts need sacrebleu and rouge_score: pip install 'chartqa_ft[text]' ({error})", name=error.name
    ) from error
