"""Intervals for questions that are asked about the same chart and are therefore not independent.

A model that misreads a chart misses several of its questions at once. The sandwich estimate adds up the deviations of
each chart before it squares them, so that questions on one chart may be correlated in any way:

    SE² = G / (G - 1) * Σ_g (Σ_{i in g} (s_i - m))² / n²

with n verdicts s_i of mean m on G charts. It is the clustered standard error of Miller 2024, with the correction
G / (G - 1) for a mean (Cameron & Miller 2015; Stata), so that one question per chart gives exactly the usual standard
error. Limits are m -+ t * SE with Student's t of G - 1 degrees of freedom, which matters below about 50 charts. The
estimate itself is too low with few charts; take it seriously from about 30 charts on.

When it matters: the clustered standard error is about sqrt(1 + (k - 1) * rho) times the independent one, with rho the
correlation of verdicts on one chart and k the number of questions on the chart of a question, averaged over questions.
Of 863 questions on 530 charts from ChartQA's test split k is 1.92 (human 2.00, augmented 1.50). With simulated
verdicts the ratio is 1.00 for rho = 0, 1.04 for 0.1, 1.09 for 0.2 and 1.21 for 0.5 (means of 300 runs; single runs
differ by 0.02 to 0.03). On ChartQA it hardly matters; with ten questions per chart and rho = 0.2 the ratio is 1.67.

References
    Liang & Zeger 1986, Biometrika 73:13-22.
    Cameron & Miller 2015, Journal of Human Resources 50:317-372.
    Miller 2024, Adding Error Bars to Evals, arXiv:2411.00640 (clustered questions, paired differences).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Hashable, Iterable, Sequence

from .intervals import check_confidence, mcnemar_exact, mean, paired_comparison, wilson_interval

_ROUNDING = 8 * sys.float_info.epsilon
"""Standard error up to which deviations are taken for rounding. Verdicts are at most 1, and their weights add up to
1."""


def chart_numbers(chart_ids: Iterable[object]) -> list[Hashable]:
    """Return a key per question that is equal for questions on one chart.

    A question without a chart (None, an empty text or NaN) is alone on its own.
    """
    keys: list[Hashable] = []
    for row, chart in enumerate(chart_ids):
        nameless = isinstance(chart, str) and not chart.strip()
        unknown = chart is None or nameless or (isinstance(chart, float) and math.isnan(chart))
        keys.append((False, row) if unknown else (True, chart))
    return keys


def clustered_variance(influences: Sequence[float], charts: Sequence[Hashable]) -> float | None:
    """Return the variance of a sum of centred influences that are independent between charts, or None for one chart.

    Args:
        influences: what each question adds to the estimate minus its expectation; for a mean `(s_i - m) / n`.
        charts: the chart of each question.

    Returns:
        The variance; 0.0 if it is no more than the rounding of the influences.
    """
    sums: dict[Hashable, list[float]] = {}
    for influence, chart in zip(influences, charts, strict=True):
        sums.setdefault(chart, []).append(influence)
    g = len(sums)
    if g < 2:
        return None
    variance = g / (g - 1) * math.fsum(math.fsum(part) ** 2 for part in sums.values())
    return 0.0 if variance <= _ROUNDING**2 else variance


def clustered_standard_error(verdicts: Sequence[float], charts: Sequence[Hashable]) -> float | None:
    """Return the standard error of the mean verdict, or None if all questions are on one chart.

    Example:
        Each chart has two questions with equal verdicts, so that there are as many independent facts as charts.

        >>> round(clustered_standard_error([1, 1, 0, 0, 1, 1, 0, 0], [1, 1, 2, 2, 3, 3, 4, 4]), 4)
        0.2887
        >>> round(clustered_standard_error([1, 0, 1, 0], [1, 2, 3, 4]), 4)
        0.2887
    """
    m = mean(verdicts)
    variance = clustered_variance([(verdict - m) / len(verdicts) for verdict in verdicts], charts)
    return None if variance is None else math.sqrt(variance)


def independent_standard_error(verdicts: Sequence[float]) -> float:
    """Return the usual standard error of the mean verdict: every question is alone on its chart."""
    return clustered_standard_error(verdicts, range(len(verdicts))) or 0.0


def clustered_interval(
    verdicts: Sequence[float], charts: Sequence[Hashable], *, confidence: float = 0.95
) -> tuple[float, float] | None:
    """Return the limits of the mean verdict, or None if all questions are on one chart: nothing can be estimated.

    If the estimate of the variance is 0 (all verdicts right, for instance), the limits are Wilson's for as many
    questions as there are charts.
    """
    check_confidence(confidence)
    m, error = mean(verdicts), clustered_standard_error(verdicts, charts)
    return _limits(m, error, len(set(charts)), confidence)


def clustered_mean_interval(
    parts: Sequence[tuple[Sequence[float], Sequence[Hashable]]], *, confidence: float = 0.95
) -> tuple[float, float] | None:
    """Return the limits of the plain mean of several accuracies, given as (verdicts, charts) each.

    Parts may share charts: the deviations of a chart add up over all parts.
    """
    check_confidence(confidence)
    influences: list[float] = []
    charts: list[Hashable] = []
    means = []
    for verdicts, of in parts:
        m = mean(verdicts)
        means.append(m)
        influences += [(verdict - m) / (len(verdicts) * len(parts)) for verdict in verdicts]
        charts += of
    variance = clustered_variance(influences, charts)
    return _limits(mean(means), None if variance is None else math.sqrt(variance), len(set(charts)), confidence)


def _limits(m: float, error: float | None, g: int, confidence: float) -> tuple[float, float] | None:
    if error is None:
        return None
    if error == 0.0:
        return wilson_interval(m, g, confidence=confidence)
    half = _t_quantile(confidence, g - 1) * error
    return max(0.0, m - half), min(1.0, m + half)


def _t_quantile(confidence: float, degrees: int) -> float:
    from scipy.stats import t

    return float(t.ppf(0.5 + confidence / 2, degrees))


def clustered_difference(
    verdicts_a: Sequence[float], verdicts_b: Sequence[float], charts: Sequence[Hashable], *, confidence: float = 0.95
) -> dict[str, float | int]:
    """Compare two systems on the same questions: the sandwich estimate for the mean of b's verdict minus a's.

    Returns:
        `difference_ci_low` and `difference_ci_high`; `p_value` of the two-sided t test of a difference of 0, with
        G - 1 degrees of freedom; `n_charts`, G. If all charts have the same difference, the standard error is 0: the
        limits meet, and the p-value is that of the exact sign test on charts.

    Raises:
        ValueError: all questions are on one chart.
    """
    check_confidence(confidence)
    differences = [b - a for a, b in zip(verdicts_a, verdicts_b, strict=True)]
    m, error, g = mean(differences), clustered_standard_error(differences, charts), len(set(charts))
    if error is None:
        raise ValueError("interval='clustered' needs questions on at least two charts, and all questions are on one")
    if error == 0.0:
        by_chart: dict[Hashable, float] = {}
        for difference, chart in zip(differences, charts, strict=True):
            by_chart[chart] = by_chart.get(chart, 0.0) + difference
        values = by_chart.values()
        p_value = mcnemar_exact(sum(value < 0 for value in values), sum(value > 0 for value in values))
        return {"difference_ci_low": m, "difference_ci_high": m, "p_value": p_value, "n_charts": g}
    from scipy.stats import t

    half = _t_quantile(confidence, g - 1) * error
    return {
        "difference_ci_low": max(-1.0, m - half),
        "difference_ci_high": min(1.0, m + half),
        "p_value": float(2 * t.sf(abs(m) / error, g - 1)),
        "n_charts": g,
    }


def clustered_comparison(
    verdicts_a: Sequence[float], verdicts_b: Sequence[float], charts: Sequence[Hashable], *, confidence: float = 0.95
) -> dict[str, float | int | str]:
    """Return the dict of `intervals.paired_comparison` with the interval and p-value of `clustered_difference`.

    `p_value_independent` is the p-value of the exact test, which treats questions as independent.

    Example:
        >>> result = clustered_comparison([1, 0, 0, 1, 0, 0], [1, 1, 1, 1, 0, 1], list("aabbcd"))
        >>> result["b_better"], round(result["p_value"], 3), result["p_value_independent"], result["n_charts"]
        (3, 0.035, 0.25, 4)
    """
    result = paired_comparison(verdicts_a, verdicts_b, confidence=confidence, n_resamples=1)
    independent = result["p_value"]
    result |= clustered_difference(verdicts_a, verdicts_b, charts, confidence=confidence)
    return result | {"interval": "clustered", "p_value_independent": independent}
