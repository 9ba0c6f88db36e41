"""How well texts of models agree with those that people wrote: BLEU, ROUGE and length, with intervals."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..entries import listed, prediction_text, target_texts, whole_number
from ..intervals import check_confidence, percentile_interval
from .bleu import VARIANTS as BLEU_VARIANTS
from .bleu import bleu_of_sums, corpus_bleu, sentence_statistics
from .rouge import KINDS, TOKENIZERS, rouge_scores, rouge_signature, share_of_foreign_letters

if TYPE_CHECKING:
    import numpy as np

__all__ = ["TOKENIZERS", "VARIANTS", "per_example_text_scores", "text_scores"]

logger = logging.getLogger(__name__)

VARIANTS = tuple(BLEU_VARIANTS)
"""The names of the variants of `text_scores`."""
LONGEST_TEXT = 1 << 16
"""Characters of a prediction that are scored; what follows is left out."""

# Resampled counts are drawn in blocks of at most this many cells (32 MiB of int64).
_BLOCK_CELLS = 1 << 22


def text_scores(
    predictions: Iterable[object],
    references: Iterable[object],
    *,
    variant: str = "default",
    tokenizer: str = "rouge_score",
    confidence: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, float | int | str]:
    """Return BLEU, ROUGE and the length ratio of summaries or open answers, with bootstrap intervals.

    BLEU depends on its settings: compare figures of the same signature only. It needs the packages of the extra
    `text`, `sacrebleu` and `rouge_score`.

    Args:
        predictions: one text per chart or question. Strip model output beforehand, as evaluation does.
        references: one text for each, or a list of accepted texts.
        variant: the settings of BLEU:

            - `"default"`: sacrebleu's own: tokens of mteval-v13a, case counts, exponential smoothing.
            - `"lowercase"`: ignoring case, as TinyChart scores Chart-to-Text.
            - `"moses"`: `multi-bleu.perl`, which Chart-to-Text and OpenCQA used: tokens are what white space divides,
              and there is no smoothing. Predictions and references must be tokenized alike beforehand.
            - `"moses_lowercase"`: `multi-bleu.perl -lc`.
            - `"international"`: tokens of mteval-v14, for scripts with spaces between words.
            - `"chinese"`: Chinese letters are tokens, other text as in the default.
            - `"characters"`: all characters are tokens, for any other script without spaces.
        tokenizer: the words of ROUGE. `"rouge_score"`, the package's own, knows the letters a to z and digits only;
            `"unicode"` knows words in any script, and equals it on texts in ASCII.
        confidence: the confidence level of the intervals.
        n_resamples: the number of resampled sets of texts; 0 for no intervals.
        seed: the seed of the random generator.

    Returns:
        A flat dict. Scores are fractions (BLEU 0.125 is 12.5 in papers):

        - `bleu`, of all texts together;
        - `rouge1`, `rouge2`, `rougeL`, `rougeLsum`: the mean F1 without stemming; of several accepted texts the best
          one counts. `rougeLsum` takes lines for sentences;
        - `length_ratio`: the tokens of BLEU in all predictions, divided by those in the references;
        - the limits of each, `..._ci_low` and `..._ci_high`: percentiles of resampled texts (Efron & Tibshirani 1993,
          ch. 13; Koehn 2004 for BLEU), and `confidence`;
        - `bleu_signature` and `rouge_signature`, texts that name the settings and the versions;
        - `n`, the number of texts.

    Raises:
        ValueError: the lengths differ, there are no texts, a text has no reference, or a name is unknown.
        TypeError: an argument or an entry is of a wrong type; the message names it.
        ImportError: a package is missing.

    Example:
        >>> scores = text_scores(["Sales rose to 5."], ["Sales rose to 7."], n_resamples=0)
        >>> scores["rouge1"], scores["length_ratio"], scores["bleu_signature"].split("|")[3]
        (0.75, 1.0, 'tok:13a')
    """
    _check_names(variant, tokenizer)
    confidence = check_confidence(confidence)
    n_resamples, seed = whole_number("n_resamples", n_resamples, 0), whole_number("seed", seed, 0)
    texts, accepted = _pairs(predictions, references)
    if not texts:
        raise ValueError("there are no texts to score")
    _warn_of_scripts(accepted, tokenizer)
    bleu, ratio, signature = corpus_bleu(texts, accepted, variant)
    each = rouge_scores(texts, accepted, tokenizer)
    scores: dict[str, float | int | str] = {"bleu": bleu}
    scores.update({kind: sum(one[kind] for one in each) / len(each) for kind in KINDS})
    scores["length_ratio"] = ratio
    if n_resamples:
        import numpy as np

        statistics, _ = sentence_statistics(texts, accepted, variant)
        rouge = np.array([[one[kind] for kind in KINDS] for one in each])
        samples = _resampled(statistics, rouge, variant, n_resamples, seed)
        for name, values in samples.items():
            low, high = percentile_interval(values, confidence=confidence)
            scores[f"{name}_ci_low"], scores[f"{name}_ci_high"] = low, high
        scores["confidence"] = confidence
    return {**scores, "bleu_signature": signature, "rouge_signature": rouge_signature(tokenizer), "n": len(texts)}


def per_example_text_scores(
    predictions: Iterable[object],
    references: Iterable[object],
    *,
    variant: str = "default",
    tokenizer: str = "rouge_score",
) -> list[dict[str, float]]:
    """Return the scores of each text, in order.

    Args:
        predictions, references, variant, tokenizer: as in `text_scores`.

    Returns:
        One dict per text: `bleu` of this text alone, without the orders of n-grams that it is too short for, the kinds
        of ROUGE, and `length_ratio` (0.0 for an empty reference). The mean of these BLEU is not the BLEU of all texts.

    Raises:
        ValueError, TypeError, ImportError: as in `text_scores`, but for an empty list.

    Example:
        >>> each = per_example_text_scores(["Sales rose", ""], ["Sales rose", "Sales fell"])
        >>> [(one["bleu"], one["rougeL"], one["length_ratio"]) for one in each]
        [(1.0, 1.0, 1.0), (0.0, 0.0, 0.0)]
    """
    _check_names(variant, tokenizer)
    texts, accepted = _pairs(predictions, references)
    statistics, bleu = sentence_statistics(texts, accepted, variant)
    each = rouge_scores(texts, accepted, tokenizer)
    lengths = statistics[:, :2].tolist()
    return [
        {"bleu": score, **one, "length_ratio": given / wanted if wanted else 0.0}
        for score, one, (given, wanted) in zip(bleu, each, lengths, strict=True)
    ]


def _check_names(variant: object, tokenizer: object) -> None:
    for name, value, known in (("variant", variant, VARIANTS), ("tokenizer", tokenizer, TOKENIZERS)):
        if not isinstance(value, str) or value not in known:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, and is {value!r}")


def _pairs(predictions: Iterable[object], references: Iterable[object]) -> tuple[list[str], list[list[str]]]:
    given, labels = listed("predictions", predictions), listed("references", references)
    if len(given) != len(labels):
        raise ValueError(f"there are {len(given)} predictions and {len(labels)} references; one of each per text")
    texts = [prediction_text(text, f"predictions[{i}]")[:LONGEST_TEXT] for i, text in enumerate(given)]
    targets = [target_texts(label, f"references[{i}]") for i, label in enumerate(labels)]
    return texts, [[target] if isinstance(target, str) else target for target in targets]


def _warn_of_scripts(references: list[list[str]], tokenizer: str) -> None:
    if tokenizer != "rouge_score":
        return
    foreign = sum(max(map(share_of_foreign_letters, accepted)) > 0.5 for accepted in references)
    if foreign:
        logger.warning(
            "most letters of %d of %d references are no words for ROUGE: pass tokenizer='unicode', and a variant of "
            "BLEU for their script ('international', 'chinese' or 'characters')",
            foreign,
            len(references),
        )


def _resampled(
    statistics: np.ndarray, rouge: np.ndarray, variant: str, n_resamples: int, seed: int
) -> dict[str, np.ndarray]:
    """Return the scores of `n_resamples` sets of n texts that are drawn with replacement.

    Args:
        statistics: int64 of shape (n, k), of BLEU.
        rouge: float64 of shape (n, kinds of ROUGE).
        variant, n_resamples, seed: as in `text_scores`.
    """
    import numpy as np

    n = len(statistics)
    rng = np.random.default_rng(seed)
    found: dict[str, list[np.ndarray]] = {name: [] for name in ("bleu", *KINDS, "length_ratio")}
    block = max(1, _BLOCK_CELLS // n)
    for start in range(0, n_resamples, block):
        times = rng.multinomial(n, np.full(n, 1 / n), size=min(block, n_resamples - start))
        sums, means = times @ statistics, times @ rouge / n
        found["bleu"].append(bleu_of_sums(sums, variant))
        found["length_ratio"].append(np.where(sums[:, 1] > 0, sums[:, 0] / np.maximum(sums[:, 1], 1), 0.0))
        for column, kind in enumerate(KINDS):
            found[kind].append(means[:, column])
    return {name: np.concatenate(parts) for name, parts in found.items()}
