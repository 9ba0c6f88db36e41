"""BLEU as sacrebleu computes it, under named settings.

References
    Papineni et al. 2002, BLEU: a method for automatic evaluation of machine translation (ACL).
    Post 2018, A call for clarity in reporting BLEU scores (WMT): why the settings belong to the score.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .packages import explain_missing

if TYPE_CHECKING:
    import numpy as np
    from sacrebleu.metrics.bleu import BLEU

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "lowercase": {"lowercase": True},
    "moses": {"tokenize": "none", "smooth_method": "none"},
    "moses_lowercase": {"tokenize": "none", "smooth_method": "none", "lowercase": True},
    "international": {"tokenize": "intl"},
    "chinese": {"tokenize": "zh"},
    "characters": {"tokenize": "char"},
}
"""The settings of sacrebleu by name."""

ORDERS = 4
"""The longest n-grams of BLEU."""


def scorer_of(variant: str, *, for_sentences: bool = False) -> BLEU:
    """Return sacrebleu's metric with the settings of a variant.

    Args:
        variant: a name from `VARIANTS`.
        for_sentences: leave out the orders of n-grams that a text is too short for, as sacrebleu recommends for the
            BLEU of single texts.

    Raises:
        ImportError: sacrebleu is not installed.
    """
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        explain_missing(error)
    # Without force, sacrebleu warns of texts that look tokenized. Those of Chart-to-Text and OpenCQA are.
    return BLEU(force=True, effective_order=for_sentences, **VARIANTS[variant])


def corpus_bleu(
    predictions: Sequence[str], references: Sequence[Sequence[str]], variant: str
) -> tuple[float, float, str]:
    """Return the BLEU of all predictions together as a fraction, the length ratio, and sacrebleu's signature.

    Args:
        predictions: n texts, at least one.
        references: the accepted texts of each, at least one.
        variant: a name from `VARIANTS`.

    Example:
        >>> corpus_bleu(["The sales rose to 5"], [["The sales rose to 5"]], "default")[:2]
        (1.0, 1.0)
    """
    most = max(map(len, references))
    # sacrebleu takes one list per accepted text, with None where a prediction has fewer.
    columns = [[texts[k] if k < len(texts) else None for texts in references] for k in range(most)]
    metric = scorer_of(variant)
    result = metric.corpus_score(predictions, columns)
    return _fraction(result.score), float(result.ratio), str(metric.get_signature())


def sentence_statistics(
    predictions: Sequence[str], references: Sequence[Sequence[str]], variant: str
) -> tuple[np.ndarray, list[float]]:
    """Return what BLEU counts in each prediction, and the BLEU of each as a fraction.

    Returns:
        An int64 array of shape (n, 2 + 2 * ORDERS): the tokens of the prediction and of its reference of the closest
        length, the n-grams that agree and all n-grams, by order; and n fractions.

    Example:
        >>> sentence_statistics(["sales fell"], [["sales rose"]], "default")[0].tolist()
        [[2, 2, 1, 0, 0, 0, 2, 1, 0, 0]]
    """
    import numpy as np

    metric = scorer_of(variant, for_sentences=True)
    rows, scores = [], []
    for prediction, accepted in zip(predictions, references, strict=True):
        result = metric.sentence_score(prediction, list(accepted))
        rows.append([result.sys_len, result.ref_len, *result.counts, *result.totals])
        scores.append(_fraction(result.score))
    return np.array(rows, dtype=np.int64).reshape(len(rows), 2 + 2 * ORDERS), scores


def bleu_of_sums(sums: np.ndarray, variant: str) -> np.ndarray:
    """Return the BLEU of sets of texts whose statistics have been added up, as fractions.

    Args:
        sums: int64 of shape (m, 2 + 2 * ORDERS), with columns as in `sentence_statistics`.
        variant: a name from `VARIANTS`.

    Returns:
        A float64 array of shape (m,).

    Example:
        >>> import numpy as np
        >>> bleu_of_sums(np.array([[4, 4, 4, 3, 2, 1, 4, 3, 2, 1], [4, 4, 0, 0, 0, 0, 4, 3, 2, 1]]), "default")
        array([1., 0.])
    """
    import numpy as np

    metric = scorer_of(variant)
    found = []
    for sys_len, ref_len, *counts in sums.tolist():
        agree, total = counts[:ORDERS], counts[ORDERS:]
        result = metric.compute_bleu(agree, total, sys_len, ref_len, smooth_method=metric.smooth_method)
        found.append(_fraction(result.score))
    return np.array(found)


def _fraction(percent: float) -> float:
    # The exponential of logarithms makes 100.00000000000004 of equal texts.
    return min(1.0, percent / 100)
