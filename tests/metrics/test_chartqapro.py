"""ChartQAPro's rule and scores, against what its official script returned."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chartqa_ft.evaluation.scoring import score_rows
from chartqa_ft.metrics import per_example_correctness, relaxed_accuracy
from chartqa_ft.metrics.chartqapro import chartqapro, chartqapro_official

VECTORS = Path(__file__).parent / "metric_vectors.jsonl"
TYPES = ("Factoid", "Multi Choice", "Hypothetical", "Fact Checking", "Conversational")
FLAGS = (["NO"], ["YES"], ["NO", "YES"])
# What evaluate_predictions.py (vis-nlp/ChartQAPro, 8911d1b, with anls 0.0.2) returned for the rows below.
OFFICIAL = {
    "type_factoid": 0.5552579365079365,
    "type_multi_choice": 0.46091691995947315,
    "type_hypothetical": 0.5078014184397163,
    "type_fact_checking": 0.4499493414387032,
    "type_conversational": 0.3617021276595745,
    "": 0.4674989911218724,
}


def official_rows() -> list[dict]:
    """The rows that the script was given, as `load_chartqa` gives them: of a dialogue the last flag."""
    rows = []
    for i, line in enumerate(VECTORS.read_text(encoding="utf-8").splitlines()):
        row, kind, flags = json.loads(line), TYPES[i % 5], FLAGS[i % 3]
        rows.append(
            {
                "prediction": row["prediction"],
                "answer": row["target"],
                "question_type": kind,
                "year_flags": flags[-1:] if kind == "Conversational" else flags,
                "source": "unknown",
            }
        )
    return rows


def test_scores_by_type_and_overall_are_those_of_the_official_script() -> None:
    rows = official_rows()
    found = relaxed_accuracy(
        predictions=[row["prediction"] for row in rows],
        references=[row["answer"] for row in rows],
        question_types=[row["question_type"] for row in rows],
        year_flags=[row["year_flags"] for row in rows],
        variant="chartqapro_official",
    )
    for name, score in OFFICIAL.items():
        assert found["_".join(filter(None, ("relaxed_accuracy", name)))] == pytest.approx(score, abs=1e-9), name
    # An evaluation scores the rows that have an answer, each as the script does.
    rows = [row for row in rows if row["answer"].strip()]
    metrics = score_rows(rows, variant="chartqapro_official")
    verdicts = per_example_correctness(
        predictions=[row["prediction"] for row in rows],
        references=[row["answer"] for row in rows],
        year_flags=[row["year_flags"] for row in rows],
        variant="chartqapro_official",
    )
    assert [row["correct"] for row in rows] == verdicts
    assert metrics["relaxed_accuracy"] == pytest.approx(sum(verdicts) / len(rows))


@pytest.mark.parametrize(
    ("prediction", "target", "score"),
    [
        ("83%", "83", 1.0),
        ("83", "83%", 1.0),
        ("83 %", "83", 1.0),
        ("83%", "83%", 1.0),
        ("83%", "0.83", 0.0),
        ("0.83", "83%", 0.0),
        ("['83%', 5]", "['83', '5%']", 1.0),
        ("[83%, 5]", "['83', '5%']", 0.0),  # no list in Python's notation
    ],
)
def test_a_percent_sign_is_dropped(prediction: str, target: str, score: float) -> None:
    """The official script returned the same for each pair."""
    assert chartqapro(prediction, target) == chartqapro_official(prediction, target) == score


@pytest.mark.parametrize(
    ("prediction", "target", "score"),
    [("Yes.\n", "Yes", 0.75), ("Yes\n.", "Yes", 1.0), ("..Yes", "Yes...", 1.0), ("0.5", ".5", 0.0), (".", "", 1.0)],
)
def test_ends_are_stripped_as_in_the_script(prediction: str, target: str, score: float) -> None:
    assert chartqapro_official(prediction, target) == score


def test_the_options_reach_the_official_variant() -> None:
    asked = {"references": ["2007.", "2"], "predictions": ["2008", "2.05."], "variant": "chartqapro_official"}
    assert per_example_correctness(**asked) == [1.0, 1.0]
    assert per_example_correctness(**asked, year_flags=["YES", "NO"]) == [0.0, 1.0]
    kinds = ["Factoid", "Multi Choice"]
    assert per_example_correctness(**asked, question_types=kinds, exact_choice=True) == [1.0, 0.0]
