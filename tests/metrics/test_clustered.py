"""Clustered intervals against brute force, against simulations of known correlation, and where they meet others."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t as student

from chartqa_ft.metrics import compare_predictions
from chartqa_ft.metrics.accuracy import relaxed_accuracy
from chartqa_ft.metrics.clustered import (
    chart_numbers,
    clustered_comparison,
    clustered_difference,
    clustered_interval,
    clustered_mean_interval,
    clustered_standard_error,
    independent_standard_error,
)
from chartqa_ft.metrics.intervals import mcnemar_exact, wilson_interval
from chartqa_ft.metrics.table import format_table


def brute_force(verdicts: list[float], charts: list) -> float:
    """Every pair of questions on one chart, as the formula with a double sum is written."""
    n, m, g = len(verdicts), sum(verdicts) / len(verdicts), len(set(charts))
    pairs = sum((verdicts[i] - m) * (verdicts[j] - m) for i in range(n) for j in range(n) if charts[i] == charts[j])
    return math.sqrt(max(pairs, 0.0) * g / (g - 1)) / n


def drawn(rng: np.random.Generator, charts: list, *, accuracy: float, correlation: float) -> list[float]:
    """Verdicts with exactly this correlation between two questions on a chart: a beta-binomial model."""
    scale = (1 - correlation) / correlation if correlation else None
    names = list(dict.fromkeys(charts))
    if scale is None:
        share = dict.fromkeys(names, accuracy)
    else:
        share = dict(zip(names, rng.beta(accuracy * scale, (1 - accuracy) * scale, len(names)), strict=True))
    return [float(rng.random() < share[chart]) for chart in charts]


def test_the_standard_error_is_that_of_all_pairs() -> None:
    rng = random.Random(2)
    for _ in range(100):
        n = rng.randint(2, 30)
        charts = [rng.randint(0, n // 2) for _ in range(n)]
        verdicts = [rng.choice([0.0, 1.0, 0.75]) for _ in range(n)]
        got = clustered_standard_error(verdicts, charts)
        if len(set(charts)) == 1:
            assert got is None
        else:
            assert got == pytest.approx(brute_force(verdicts, charts), abs=1e-9)


def test_one_question_per_chart_has_the_usual_standard_error() -> None:
    verdicts = [1.0, 0.0, 1.0, 1.0, 0.75]
    usual = float(np.std(verdicts, ddof=1)) / math.sqrt(5)
    assert clustered_standard_error(verdicts, "abcde") == pytest.approx(usual, abs=1e-15)
    assert independent_standard_error(verdicts) == pytest.approx(usual, abs=1e-15)


def test_questions_that_are_right_together_count_once() -> None:
    verdicts = [1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0]
    for copies in (2, 5):
        charts = [chart for chart in range(7) for _ in range(copies)]
        repeated = [verdict for verdict in verdicts for _ in range(copies)]
        assert clustered_standard_error(repeated, charts) == pytest.approx(independent_standard_error(verdicts))


def test_by_hand() -> None:
    # charts aab c: m = 1/2, sums of deviations a: 1, b: -1/2, c: -1/2; 3/2 * (1 + 1/4 + 1/4) / 16
    verdicts, charts = [1.0, 1.0, 0.0, 0.0], ["a", "a", "b", "c"]
    error = math.sqrt(1.5 * 1.5 / 16)
    assert clustered_standard_error(verdicts, charts) == pytest.approx(error, abs=1e-15)
    half = student.ppf(0.975, 2) * error
    assert clustered_interval(verdicts, charts) == (max(0.0, 0.5 - half), min(1.0, 0.5 + half)) == (0.0, 1.0)
    half = student.ppf(0.75, 2) * error
    assert clustered_interval(verdicts, charts, confidence=0.5) == pytest.approx((0.5 - half, 0.5 + half))


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.8])
def test_coverage_and_size_on_simulated_data(correlation: float) -> None:
    rng = np.random.default_rng(11)
    sizes = rng.integers(1, 6, 120)
    charts = [chart for chart, size in enumerate(sizes) for _ in range(size)]
    means, errors, covered, covered_by_wilson = [], [], 0, 0
    for _ in range(400):
        verdicts = drawn(rng, charts, accuracy=0.7, correlation=correlation)
        means.append(sum(verdicts) / len(verdicts))
        errors.append(clustered_standard_error(verdicts, charts))
        low, high = clustered_interval(verdicts, charts)
        covered += low <= 0.7 <= high
        low, high = wilson_interval(means[-1], len(verdicts))
        covered_by_wilson += low <= 0.7 <= high
    k = sum(int(size) ** 2 for size in sizes) / len(charts)
    theory = math.sqrt(0.7 * 0.3 / len(charts) * (1 + (k - 1) * correlation))
    assert np.mean(errors) == pytest.approx(theory, rel=0.03)
    assert np.std(means) == pytest.approx(theory, rel=0.10)
    assert 0.92 < covered / 400 < 0.98
    if correlation == 0.8:
        assert covered_by_wilson / 400 < 0.85


def test_ratio_to_independent_questions_on_charts_of_the_test_split(shared: Path) -> None:
    charts = [
        row["imgname"]
        for name in ("human", "augmented")
        for row in json.loads((shared / "chartqa" / "test" / f"test_{name}.json").read_text(encoding="utf-8"))
    ]
    assert (len(charts), len(set(charts))) == (863, 530)
    rng = np.random.default_rng(0)
    for correlation, expected in ((0.0, 1.0), (0.2, 1.09), (0.5, 1.21)):
        ratios = []
        for _ in range(60):
            verdicts = drawn(rng, charts, accuracy=0.7, correlation=correlation)
            ratios.append(clustered_standard_error(verdicts, charts) / independent_standard_error(verdicts))
        assert np.mean(ratios) == pytest.approx(expected, abs=0.015)


def test_without_any_deviation_charts_are_counted_after_wilson() -> None:
    assert clustered_interval([1.0] * 6, list("aabbcc")) == wilson_interval(1.0, 3)
    assert clustered_interval([0.0] * 6, list("aabbcc")) == wilson_interval(0.0, 3)
    assert clustered_interval([1.0, 0.0] * 2, list("aabb")) == wilson_interval(0.5, 2)
    assert clustered_interval([1.0, 0.0], list("aa")) is None


def test_the_mean_of_splits_knows_charts_in_both() -> None:
    human, augmented = ([1.0, 0.0, 1.0, 0.0], list("aabc")), ([1.0, 1.0, 0.0], list("abd"))
    low, high = clustered_mean_interval([human, augmented], confidence=0.5)
    sums = {"a": 0.0, "b": 0.0, "c": 0.0, "d": 0.0}
    for verdicts, charts in (human, augmented):
        m = sum(verdicts) / len(verdicts)
        for verdict, chart in zip(verdicts, charts, strict=True):
            sums[chart] += (verdict - m) / (2 * len(verdicts))
    error = math.sqrt(4 / 3 * sum(value**2 for value in sums.values()))
    centre = (1 / 2 + 2 / 3) / 2
    assert (high + low) / 2 == pytest.approx(centre)
    assert (high - low) / 2 == pytest.approx(student.ppf(0.75, 3) * error)
    # equal parts on the same charts are no more than one of them
    assert clustered_mean_interval([human, human]) == pytest.approx(clustered_interval(*human))


def test_questions_without_a_chart_are_alone() -> None:
    numbers = chart_numbers(["a", None, "a", "", " ", None, float("nan"), 3, 3, "3"])
    assert [numbers.index(number) for number in numbers] == [0, 1, 0, 3, 4, 5, 6, 7, 7, 9]


# --- relaxed accuracy --------------------------------------------------------------------------------------------

EIGHT = {
    "predictions": ["1", "1", "0", "0", "1", "1", "0", "1"],
    "references": ["1"] * 8,
    "sources": ["human"] * 4 + ["augmented"] * 4,
    "diagnostics": False,
}
CHARTS = ["a", "a", "b", "b", "c", "c", "d", "d"]


def test_relaxed_accuracy_with_clustered_intervals() -> None:
    metrics = relaxed_accuracy(**EIGHT, interval="clustered", chart_ids=CHARTS)
    verdicts = [1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0]
    for name, rows in (("", slice(0, 8)), ("_human", slice(0, 4)), ("_augmented", slice(4, 8))):
        limits = clustered_interval(verdicts[rows], CHARTS[rows])
        key = f"relaxed_accuracy{name}_ci_"
        assert (metrics[f"{key}low"], metrics[f"{key}high"]) == limits
    sides = [(verdicts[:4], CHARTS[:4]), (verdicts[4:], CHARTS[4:])]
    key = "relaxed_accuracy_mean_of_splits_ci_"
    assert (metrics[f"{key}low"], metrics[f"{key}high"]) == clustered_mean_interval(sides)
    assert metrics["n_charts"] == 4
    assert all(type(value) in (int, float) for value in metrics.values())  # as loggers of a trainer take them
    wilson = relaxed_accuracy(**EIGHT)
    assert {k: v for k, v in wilson.items() if "_ci_" not in k} == {
        k: v for k, v in metrics.items() if "_ci_" not in k and k != "n_charts"
    }
    assert "n_charts" not in wilson
    # a chart for each question: given, or because none is known
    alone = relaxed_accuracy(**EIGHT, interval="clustered", chart_ids=range(8))
    assert alone == relaxed_accuracy(**EIGHT, interval="clustered", chart_ids=[None] * 8)
    assert alone["n_charts"] == 8


def test_a_group_on_one_chart_has_no_limits() -> None:
    metrics = relaxed_accuracy(**EIGHT, interval="clustered", chart_ids=["a"] * 4 + ["b"] * 4)
    assert "relaxed_accuracy_ci_low" in metrics
    assert "relaxed_accuracy_human_ci_low" not in metrics
    assert "relaxed_accuracy_mean_of_splits_ci_low" in metrics
    table = format_table(metrics).splitlines()
    assert next(line for line in table if line.startswith("human")).split() == ["human", "50.00", "4"]
    assert "relaxed_accuracy_ci_low" not in relaxed_accuracy(**EIGHT, interval="clustered", chart_ids=["a"] * 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs chart_ids="),
        ({"chart_ids": ["a"]}, "8 predictions and 1 chart_ids"),
    ],
)
def test_relaxed_accuracy_names_what_is_missing(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        relaxed_accuracy(**EIGHT, interval="clustered", **options)


# --- two systems -------------------------------------------------------------------------------------------------


def test_the_difference_of_two_systems_by_hand() -> None:
    a, b = [1.0, 0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 0.0, 1.0]
    charts = ["x", "x", "x", "y", "z"]
    # d = 0 1 1 -1 0, mean 1/5; sums of deviations x: 7/5, y: -6/5, z: -1/5
    error = math.sqrt(3 / 2 * (49 + 36 + 1) / 25) / 5
    result = clustered_comparison(a, b, charts, confidence=0.5)
    assert result["difference_ci_low"] == pytest.approx(0.2 - student.ppf(0.75, 2) * error)
    assert result["difference_ci_high"] == pytest.approx(0.2 + student.ppf(0.75, 2) * error)
    assert result["p_value"] == pytest.approx(2 * student.sf(0.2 / error, 2))
    assert result["p_value_independent"] == mcnemar_exact(1, 2)
    assert (result["interval"], result["n_charts"]) == ("clustered", 3)


def test_equal_differences_on_all_charts() -> None:
    result = clustered_difference([0.0] * 6, [1.0] * 6, list("aabbcc"))
    assert result == {"difference_ci_low": 1.0, "difference_ci_high": 1.0, "p_value": 0.25, "n_charts": 3}
    assert clustered_difference([1.0, 0.0], [1.0, 0.0], list("ab"))["p_value"] == 1.0
    with pytest.raises(ValueError, match="at least two charts"):
        clustered_difference([1.0], [0.0], ["a"])


def test_errors_of_the_first_kind_of_two_equal_systems() -> None:
    """Two equal systems with other luck on each chart: the exact test takes questions for independent facts."""
    rng = np.random.default_rng(4)
    charts = [chart for chart in range(60) for _ in range(8)]
    rejected, rejected_by_mcnemar = 0, 0
    for _ in range(300):
        a = drawn(rng, charts, accuracy=0.6, correlation=0.5)
        b = drawn(rng, charts, accuracy=0.6, correlation=0.5)
        result = clustered_comparison(a, b, charts)
        rejected += result["p_value"] < 0.05
        rejected_by_mcnemar += result["p_value_independent"] < 0.05
        inside = result["difference_ci_low"] <= 0 <= result["difference_ci_high"]
        assert inside == (result["p_value"] >= 0.05)
    assert 0.02 < rejected / 300 < 0.085
    assert rejected_by_mcnemar / 300 > 0.2


def record(index: int, chart: str | None, prediction: str, source: str = "human") -> dict:
    return {"index": index, "chart_id": chart, "answer": "1", "prediction": prediction, "source": source}


def test_comparison_of_records_by_chart_and_source() -> None:
    charts, sources = list("aabbccd"), ["human"] * 4 + ["augmented"] * 2 + ["Human "]
    a = [record(i, charts[i], text, sources[i]) for i, text in enumerate("1010101")]
    b = [record(i, charts[i], text, sources[i]) for i, text in enumerate("1111100")]
    result = compare_predictions(a, b, interval="clustered")
    left, right = ([float(row["prediction"] == "1") for row in rows] for rows in (a, b))
    expected = clustered_comparison(left, right, charts)
    assert {key: result[key] for key in expected} == expected
    assert set(result["by_source"]) == {"human", "augmented"}
    assert result["by_source"]["human"]["n"] == 5
    assert result["by_source"]["human"]["n_charts"] == 3
    assert result["by_source"]["augmented"]["interval"] == "newcombe"  # one chart alone
    bare = compare_predictions(
        list("1010101"),
        list("1111100"),
        references=["1"] * 7,
        sources=sources,
        chart_ids=charts,
        interval="clustered",
    )
    assert bare == result


@pytest.mark.parametrize("interval", ["clustered"])
def test_comparison_names_what_is_missing(interval: str) -> None:
    with pytest.raises(ValueError, match="chart_ids=, or records with chart_id"):
        compare_predictions(["1"], ["1"], references=["1"], interval=interval)
    with pytest.raises(ValueError, match="chart_ids=, or records with chart_id"):
        compare_predictions([record(0, None, "1")], [record(0, None, "1")], interval=interval)
    with pytest.raises(ValueError, match="1 references and 2 chart_ids"):
        compare_predictions(["1"], ["1"], references=["1"], chart_ids=["a", "b"], interval=interval)
    with pytest.raises(ValueError, match="records carry their own"):
        compare_predictions([record(0, "a", "1")], [record(0, "a", "1")], chart_ids=["a"])
    with pytest.raises(ValueError, match="at least two charts"):
        compare_predictions(["1"], ["1"], references=["1"], chart_ids=["a"], interval=interval)


@pytest.mark.parametrize("size", [3, 5, 7, 10])
@pytest.mark.parametrize("charts", [2, 3, 30])
def test_equal_deviations_that_are_not_exact_in_binary_count_as_none(size: int, charts: int) -> None:
    of = [chart for chart in range(charts) for _ in range(size)]
    one_right = [float(place == 0) for _ in range(charts) for place in range(size)]
    result = clustered_difference([0.0] * len(of), one_right, of)
    assert result["p_value"] == mcnemar_exact(0, charts)
    assert result["difference_ci_low"] == result["difference_ci_high"] == pytest.approx(1 / size)
    assert clustered_interval(one_right, of) == wilson_interval(sum(one_right) / len(of), charts)
    both = clustered_mean_interval([(one_right, of), (one_right, [chart + charts for chart in of])])
    assert both == pytest.approx(wilson_interval(1 / size, 2 * charts))
    equal = clustered_interval([0.1] * len(of), of)
    assert equal == pytest.approx(wilson_interval(0.1, charts))


def test_a_small_deviation_is_no_rounding() -> None:
    of = [chart for chart in range(100) for _ in range(1000)]
    verdicts = [0.0] * len(of)
    verdicts[7] = 1.0
    assert clustered_standard_error(verdicts, of) == pytest.approx(1e-5, rel=1e-3)
