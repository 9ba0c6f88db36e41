"""Statistics of scores: confidence intervals of an accuracy, and the paired comparison of two systems.

Verdicts are fractions between 0 and 1, one per question, almost always 0.0 or 1.0. The intervals of this module
treat questions as independent; `clustered.py` has those for questions that share charts.

References
    Wilson 1927, J. Amer. Stat. Assoc. 22:209-212.
    Newcombe 1998, Statistics in Medicine 17:2635-2650 (paired difference, method 10).
    Zou & Donner 2008, Statistics in Medicine 27:1693-1702 (limits of sums from limits of the parts, "MOVER").
    Efron & Tibshirani 1993, An Introduction to the Bootstrap, ch. 13 (percentile intervals).
    McNemar 1947, Psychometrika 12:153-157; the exact form is the sign test on the discordant pairs.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING

from .entries import fraction, listed, whole_number

if TYPE_CHECKING:
    import numpy as np

# Resampled counts are drawn in blocks of at most this many cells (32 MiB of int64), however many distinct verdicts.
_BLOCK_CELLS = 1 << 22


def check_confidence(confidence: float) -> float:
    """Return `confidence` as a float if it is a number strictly between 0 and 1.

    Raises:
        TypeError: it is not a number.
        ValueError: it is outside.

    Example:
        >>> check_confidence(0.95)
        0.95
    """
    number = fraction("confidence", confidence)
    if number in (0.0, 1.0):
        raise ValueError(f"confidence must lie between 0 and 1, as in 0.95, and is {confidence!r}")
    return number


def mean(verdicts: Sequence[float]) -> float:
    """Return the arithmetic mean, exact in any order of the verdicts. Raises ValueError if there are none.

    Example:
        >>> mean([1.0, 0.0, 1.0, 1.0])
        0.75
    """
    if not verdicts:
        raise ValueError("there are no verdicts to take a mean of")
    return math.fsum(verdicts) / len(verdicts)


def wilson_interval(accuracy: float, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of an accuracy on `n` questions, without continuity correction.

    With the normal quantile z: `(p + z²/2n ± z sqrt(p(1 - p)/n + z²/4n²)) / (1 + z²/n)` (Wilson 1927). It is
    conservative for fractional verdicts (ANLS), because p(1 - p) bounds their variance.

    Example:
        >>> low, high = wilson_interval(0.5, 100)
        >>> f"{low:.4f} - {high:.4f}"
        '0.4038 - 0.5962'
    """
    accuracy, n = fraction("accuracy", accuracy), whole_number("n", n, 1)
    z = NormalDist().inv_cdf(0.5 + check_confidence(confidence) / 2)
    shrink = 1 + z * z / n
    centre = (accuracy + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(accuracy * (1 - accuracy) / n + z * z / (4 * n * n))
    low = 0.0 if accuracy <= 0.0 else max(0.0, centre - half)
    high = 1.0 if accuracy >= 1.0 else min(1.0, centre + half)
    return low, high


def mean_of_wilson_intervals(parts: Sequence[tuple[float, int]], *, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval of the unweighted mean of independent accuracies.

    With the Wilson limits l and u of each of k parts: `m - sqrt(Σ(p - l)²)/k` and `m + sqrt(Σ(u - p)²)/k` (Zou &
    Donner 2008). The interval stays between 0 and 1 and is not symmetric, like those of its parts.

    Args:
        parts: accuracy and number of questions of each part.
        confidence: the confidence level.

    Example:
        >>> low, high = mean_of_wilson_intervals([(0.4392, 1250), (0.8856, 1250)])
        >>> f"{low:.4f} - {high:.4f}"
        '0.6458 - 0.6785'
    """
    k = len(parts)
    centre = math.fsum(accuracy for accuracy, _ in parts) / k
    limits = [wilson_interval(accuracy, n, confidence=confidence) for accuracy, n in parts]
    below = math.sqrt(math.fsum((p - low) ** 2 for (p, _), (low, _) in zip(parts, limits, strict=True))) / k
    above = math.sqrt(math.fsum((high - p) ** 2 for (p, _), (_, high) in zip(parts, limits, strict=True))) / k
    return max(0.0, centre - below), min(1.0, centre + above)


def bootstrap_means(
    verdicts: Iterable[float] | Mapping[float, int], *, n_resamples: int, seed: int, stream: str = ""
) -> np.ndarray:
    """Return the means of samples drawn with replacement from the verdicts.

    The mean of a sample depends only on how often each distinct value occurs, which is multinomial (binomial for 0 and
    1). The draw is exact, its cost does not grow with the number of verdicts, and their order does not matter.

    Args:
        verdicts: verdicts, or the number of times that each value occurs.
        n_resamples: the number of samples.
        seed: seed of the random generator.
        stream: name of an independent stream of the same seed.

    Returns:
        A float64 array of shape (n_resamples,).

    Example:
        >>> bootstrap_means([1.0, 1.0, 1.0], n_resamples=2, seed=0)
        array([1., 1.])
    """
    import numpy as np

    counts = Counter(verdicts)
    values = np.array(sorted(counts), dtype=np.float64)
    weights = np.array([counts[value] for value in values.tolist()], dtype=np.int64)
    n = int(weights.sum())
    rng = np.random.default_rng([seed, zlib.crc32(stream.encode())])
    block = max(1, _BLOCK_CELLS // len(values))
    means = [
        rng.multinomial(n, weights / n, size=min(block, n_resamples - start)) @ values / n
        for start in range(0, n_resamples, block)
    ]
    return np.concatenate(means)


def percentile_interval(samples: np.ndarray, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return the limits of the middle share `confidence` of the samples.

    Example:
        >>> import numpy as np
        >>> percentile_interval(np.arange(101.0), confidence=0.5)
        (25.0, 75.0)
    """
    import numpy as np

    tail = (1 - check_confidence(confidence)) / 2
    low, high = np.quantile(samples, [tail, 1 - tail])
    return float(low), float(high)


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Return the two-sided p-value of the exact McNemar test.

    It is the probability, for two equally good systems, of a split of the discordant pairs at least this uneven.
    Questions that both systems get right, or both wrong, do not count. Without discordant pairs it is 1.0.

    Args:
        only_a: number of questions that only system a gets right.
        only_b: number of questions that only system b gets right.

    Example:
        >>> mcnemar_exact(1, 8)
        0.0390625
    """
    only_a, only_b = whole_number("only_a", only_a, 0), whole_number("only_b", only_b, 0)
    if only_a + only_b == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue)


def newcombe_paired_interval(
    both: int, only_a: int, only_b: int, neither: int, *, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the interval of the accuracy of a minus that of b from paired counts (Newcombe 1998, method 10).

    Combines the Wilson limits of the two accuracies with their correlation phi, whose numerator, if it is positive, is
    lowered by n/2, but not below 0.

    Args:
        both: number of questions that both systems get right.
        only_a: number of questions that only a gets right.
        only_b: number of questions that only b gets right.
        neither: number of questions that both get wrong.
        confidence: the confidence level.

    Example:
        >>> low, high = newcombe_paired_interval(14, 5, 0, 22)
        >>> f"{low:.3f} - {high:.3f}"
        '0.011 - 0.226'
    """
    counts = {"both": both, "only_a": only_a, "only_b": only_b, "neither": neither}
    both, only_a, only_b, neither = (whole_number(name, count, 0) for name, count in counts.items())
    n = both + only_a + only_b + neither
    if not n:
        raise ValueError("both, only_a, only_b and neither are all 0: there are no questions to compare")
    p_a, p_b = (both + only_a) / n, (both + only_b) / n
    low_a, high_a = wilson_interval(p_a, n, confidence=confidence)
    low_b, high_b = wilson_interval(p_b, n, confidence=confidence)
    margins = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    phi = 0.0
    if margins:
        association = both * neither - only_a * only_b
        phi = (max(association - n / 2, 0.0) if association > 0 else association) / math.sqrt(margins)

    def spread(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))

    below = spread(p_a - low_a, high_b - p_b)
    above = spread(high_a - p_a, p_b - low_b)
    return max(-1.0, p_a - p_b - below), min(1.0, p_a - p_b + above)


def paired_comparison(
    verdicts_a: Sequence[float],
    verdicts_b: Sequence[float],
    *,
    confidence: float = 0.95,
    interval: str | None = None,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> dict[str, float | int | str]:
    """Compare two systems by their verdicts on the same questions, in the same order.

    Args:
        verdicts_a, verdicts_b: the verdicts of each system.
        confidence: the confidence level of the interval.
        interval: `"newcombe"` (only for verdicts of 0 and 1), `"bootstrap"` (percentiles over resampled questions) or
            None for newcombe where it applies, else bootstrap.
        n_resamples, seed: number of resamples and seed of the bootstrap.

    Returns:
        `n`; `accuracy_a`, `accuracy_b`; `difference` = accuracy_b - accuracy_a with `difference_ci_low` and
        `difference_ci_high`; `a_better`, `b_better`, `ties`: numbers of questions on which one verdict is higher, or
        neither; `p_value` of the exact McNemar test (of the exact sign test, which generalizes it, for fractional
        verdicts); `interval`: the method used.

    Raises:
        ValueError: there are no questions, lengths differ, `interval` is unknown, or it is newcombe and verdicts are
            fractional.

    Example:
        >>> result = paired_comparison([1.0, 0.0, 0.0], [1.0, 1.0, 1.0])
        >>> result["b_better"], result["ties"], result["p_value"]
        (2, 1, 0.5)
    """
    confidence = check_confidence(confidence)
    n_resamples, seed = whole_number("n_resamples", n_resamples, 1), whole_number("seed", seed, 0)
    verdicts_a, verdicts_b = listed("verdicts_a", verdicts_a), listed("verdicts_b", verdicts_b)
    if len(verdicts_a) != len(verdicts_b):
        raise ValueError(f"the systems have {len(verdicts_a)} and {len(verdicts_b)} verdicts: not the same questions")
    if interval not in (None, "newcombe", "bootstrap"):
        raise ValueError(f"interval must be 'newcombe', 'bootstrap' or None, and is {interval!r}")
    pairs = Counter(zip(verdicts_a, verdicts_b, strict=True))
    for pair in pairs:
        for name, verdict in zip(("verdicts_a", "verdicts_b"), pair, strict=True):
            fraction(f"each of {name}", verdict)
    n, accuracy_a, accuracy_b = len(verdicts_a), mean(verdicts_a), mean(verdicts_b)
    binary = all(value in (0.0, 1.0) for pair in pairs for value in pair)
    if interval == "newcombe" and not binary:
        raise ValueError("Newcombe's interval needs verdicts of 0 and 1; use interval='bootstrap' for this variant")
    a_better = sum(count for (a, b), count in pairs.items() if a > b)
    b_better = sum(count for (a, b), count in pairs.items() if b > a)
    method = interval or ("newcombe" if binary else "bootstrap")
    if method == "newcombe":
        low, high = newcombe_paired_interval(
            pairs[1.0, 1.0], b_better, a_better, pairs[0.0, 0.0], confidence=confidence
        )
    else:
        differences: Counter[float] = Counter()
        for (a, b), count in pairs.items():
            differences[b - a] += count
        low, high = percentile_interval(
            bootstrap_means(differences, n_resamples=n_resamples, seed=seed, stream="difference"),
            confidence=confidence,
        )
    return {
        "n": n,
        "accuracy_a": accuracy_a,
        "accuracy_b": accuracy_b,
        "difference": accuracy_b - accuracy_a,
        "difference_ci_low": low,
        "difference_ci_high": high,
        "a_better": a_better,
        "b_better": b_better,
        "ties": n - a_better - b_better,
        "p_value": mcnemar_exact(a_better, b_better),
        "interval": method,
    }
