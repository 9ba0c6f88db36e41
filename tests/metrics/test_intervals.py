"""Intervals against scipy and published examples, the paired test against numbers by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest, norm

from chartqa_ft.metrics.accuracy import relaxed_accuracy
from chartqa_ft.metrics.intervals import (
    bootstrap_means,
    mcnemar_exact,
    mean,
    mean_of_wilson_intervals,
    newcombe_paired_interval,
    paired_comparison,
    percentile_interval,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("right", "n"), [(0, 7), (7, 7), (1, 1), (3, 10), (549, 1250), (1107, 1250), (999_999, 10**6)]
)
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_wilson_against_scipy(right: int, n: int, confidence: float) -> None:
    expected = binomtest(right, n).proportion_ci(confidence_level=confidence, method="wilson")
    assert wilson_interval(right / n, n, confidence=confidence) == pytest.approx(
        (expected.low, expected.high), abs=1e-13
    )


def test_wilson_by_hand() -> None:
    # p = 1/2, n = 4, z² = 3.841459: 1/2 -+ z sqrt(1/16 + z²/64) / (1 + z²/4)
    z2 = norm.ppf(0.975) ** 2
    half = math.sqrt(z2) * math.sqrt(1 / 16 + z2 / 64) / (1 + z2 / 4)
    assert wilson_interval(0.5, 4) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-15)


def test_mean_is_exact_in_any_order() -> None:
    values = [1e-17] * 1000 + [1.0] * 3
    assert mean(values) == mean(values[::-1]) == math.fsum(values) / 1003
    with pytest.raises(ValueError, match="no verdicts"):
        mean([])


def test_mean_of_two_wilson_intervals() -> None:
    # equal parts: the limits of one part, pulled to the centre by sqrt(2)
    low, high = wilson_interval(0.3, 200)
    got = mean_of_wilson_intervals([(0.3, 200), (0.3, 200)])
    assert got == pytest.approx((0.3 - (0.3 - low) / math.sqrt(2), 0.3 + (high - 0.3) / math.sqrt(2)), abs=1e-15)
    # one part alone is itself
    assert mean_of_wilson_intervals([(0.3, 200)]) == pytest.approx((low, high), abs=1e-15)
    (l1, u1), (l2, u2) = wilson_interval(0.4392, 1250), wilson_interval(0.8856, 1250)
    got = mean_of_wilson_intervals([(0.4392, 1250), (0.8856, 1250)])
    assert got[0] == pytest.approx(0.6624 - math.hypot(0.4392 - l1, 0.8856 - l2) / 2, abs=1e-15)
    assert got[1] == pytest.approx(0.6624 + math.hypot(u1 - 0.4392, u2 - 0.8856) / 2, abs=1e-15)


def test_bootstrap_draws_the_binomial_of_the_verdicts() -> None:
    verdicts = [1.0] * 30 + [0.0] * 70
    means = bootstrap_means(verdicts, n_resamples=40_000, seed=1)
    assert means.shape == (40_000,)
    assert means.dtype == np.float64
    assert set(np.round(means * 100, 9) % 1) == {0.0}
    assert means.mean() == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / 100 / 40_000))
    assert means.var() == pytest.approx(0.21 / 100, rel=0.05)
    expected = binom.ppf([0.025, 0.975], 100, 0.3) / 100
    assert percentile_interval(means) == pytest.approx(tuple(expected), abs=0.0101)


def test_bootstrap_of_fractions_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    verdicts = rng.random(500).tolist()
    whole = bootstrap_means(verdicts, n_resamples=999, seed=3)
    assert whole.mean() == pytest.approx(np.mean(verdicts), abs=0.005)
    assert whole.std() == pytest.approx(np.std(verdicts) / math.sqrt(500), rel=0.1)
    monkeypatch.setattr("chartqa_ft.metrics.intervals._BLOCK_CELLS", 500 * 100)
    assert np.array_equal(bootstrap_means(verdicts, n_resamples=999, seed=3), whole)


def test_bootstrap_is_seeded_and_blind_to_order() -> None:
    verdicts = [1.0, 0.0, 0.5] * 20
    first = bootstrap_means(verdicts, n_resamples=50, seed=0)
    assert np.array_equal(first, bootstrap_means(sorted(verdicts), n_resamples=50, seed=0))
    assert np.array_equal(first, bootstrap_means({1.0: 20, 0.0: 20, 0.5: 20}, n_resamples=50, seed=0))
    assert not np.array_equal(first, bootstrap_means(verdicts, n_resamples=50, seed=1))
    assert not np.array_equal(first, bootstrap_means(verdicts, n_resamples=50, seed=0, stream="human"))


def test_bootstrap_interval_of_the_mean_of_splits_is_stratified() -> None:
    # Splits of 0 and 1 have no variance within them: stratified, the mean of splits cannot move; pooled, it does.
    metrics = relaxed_accuracy(
        predictions=["1"] * 40,
        references=["1"] * 20 + ["2"] * 20,
        sources=["human"] * 20 + ["augmented"] * 20,
        interval="bootstrap",
    )
    assert metrics["relaxed_accuracy_mean_of_splits_ci_low"] == 0.5
    assert metrics["relaxed_accuracy_mean_of_splits_ci_high"] == 0.5
    assert metrics["relaxed_accuracy_ci_low"] == pytest.approx(0.35, abs=0.03)
    assert metrics["relaxed_accuracy_ci_high"] == pytest.approx(0.65, abs=0.03)


def test_bootstrap_and_wilson_agree_on_many_questions() -> None:
    questions = {"predictions": ["1"] * 3000, "references": ["1"] * 1800 + ["2"] * 1200}
    wilson, bootstrap = (relaxed_accuracy(**questions, interval=interval) for interval in ("wilson", "bootstrap"))
    for key in ("relaxed_accuracy_ci_low", "relaxed_accuracy_ci_high"):
        assert wilson[key] == pytest.approx(bootstrap[key], abs=0.002)


def test_mcnemar_by_hand() -> None:
    # 9 discordant pairs, 1 against 8: 2 (C(9,0) + C(9,1)) / 2^9 = 20/512
    assert mcnemar_exact(1, 8) == mcnemar_exact(8, 1) == pytest.approx(20 / 512, abs=1e-15)
    assert mcnemar_exact(0, 5) == pytest.approx(2 / 32, abs=1e-15)
    assert mcnemar_exact(4, 4) == 1.0
    assert mcnemar_exact(0, 0) == 1.0


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        # Altman et al. 2000, Statistics with Confidence, p. 52
        ((14, 5, 0, 22), (0.011, 0.226)),
        # Fagerland, Lydersen & Laake 2017, ch. 8, on Bentur et al. 2009
        ((1, 1, 7, 12), (-0.507, -0.026)),
    ],
)
def test_newcombe_against_published_examples(counts: tuple, expected: tuple) -> None:
    assert newcombe_paired_interval(*counts) == pytest.approx(expected, abs=5e-4)
    both, only_a, only_b, neither = counts
    low, high = newcombe_paired_interval(both, only_b, only_a, neither)
    assert (-high, -low) == pytest.approx(newcombe_paired_interval(*counts), abs=1e-15)


def test_newcombe_at_the_edges() -> None:
    assert newcombe_paired_interval(10, 0, 0, 0)[0] < 0 < newcombe_paired_interval(10, 0, 0, 0)[1]
    low, high = newcombe_paired_interval(0, 10, 0, 0)
    assert 0.5 < low < high == 1.0
    # negative association: no correction of phi, no root of a negative number
    assert newcombe_paired_interval(0, 5, 5, 0)[0] == -newcombe_paired_interval(0, 5, 5, 0)[1]


def test_paired_comparison_by_hand() -> None:
    a = [1.0] * 60 + [0.0] * 40
    b = [1.0] * 59 + [0.0] + [1.0] * 8 + [0.0] * 32
    result = paired_comparison(a, b)
    low, high = newcombe_paired_interval(59, 8, 1, 32)
    assert result == {
        "n": 100,
        "accuracy_a": 0.6,
        "accuracy_b": 0.67,
        "difference": pytest.approx(0.07),
        "difference_ci_low": low,
        "difference_ci_high": high,
        "a_better": 1,
        "b_better": 8,
        "ties": 91,
        "p_value": pytest.approx(20 / 512),
        "interval": "newcombe",
    }
    assert 0 < low < 0.07 < high
    resampled = paired_comparison(a, b, interval="bootstrap")
    assert resampled["difference_ci_low"] == pytest.approx(0.07 - 1.96 * math.sqrt(0.09 - 0.0049) / 10, abs=0.011)
    assert resampled["interval"] == "bootstrap"


def test_paired_comparison_of_fractions() -> None:
    a, b = [0.5, 0.0, 1.0, 0.75], [0.75, 0.0, 0.5, 1.0]
    result = paired_comparison(a, b)
    assert result["interval"] == "bootstrap"
    assert (result["a_better"], result["b_better"], result["ties"]) == (1, 2, 1)
    assert result["difference"] == 0.0
    assert result["difference_ci_low"] < 0 < result["difference_ci_high"]
    with pytest.raises(ValueError, match="interval='bootstrap'"):
        paired_comparison(a, b, interval="newcombe")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], []), "no verdicts"),
        (([1.0], [1.0, 0.0]), "1 and 2 verdicts"),
    ],
)
def test_paired_comparison_names_what_is_wrong(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paired_comparison(*arguments)
    with pytest.raises(ValueError, match="'newcombe', 'bootstrap' or None"):
        paired_comparison([1.0], [1.0], interval="wald")
