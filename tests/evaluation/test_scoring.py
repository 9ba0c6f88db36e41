"""The metrics of rows are those of relaxed accuracy."""

from __future__ import annotations

import numpy as np

from chartqa_ft.evaluation.scoring import score_rows


def test_scores_weigh_tokens_and_not_rows():
    row = {"answer": "1", "source": None}
    rows = [
        {**row, "prediction": "1", "loss_sum": 6.0, "tokens": 3},
        {**row, "prediction": "2", "loss_sum": 1.0, "tokens": 1},
    ]
    metrics = score_rows(rows, variant="pix2struct")
    assert metrics["loss"] == 1.75
    assert metrics["relaxed_accuracy"] == 0.5
    assert [row["correct"] for row in rows] == [1.0, 0.0]
    assert score_rows([], variant="pix2struct") == {}


def test_rows_without_a_reference_are_left_out_and_zero_is_a_reference(caplog):
    rows = [{"answer": a, "source": "human", "prediction": "0"} for a in (0, "", None, "5")]
    metrics = score_rows(rows, variant="pix2struct")
    assert (metrics["n"], metrics["relaxed_accuracy"]) == (2, 0.5)
    assert [row["correct"] for row in rows] == [1.0, None, None, 0.0]
    assert "2 of 4 questions have no answer" in caplog.text


def test_year_flags_and_question_types_reach_the_metric():
    row = {"answer": "2016", "source": None, "prediction": "2015", "question_type": "Factoid"}
    for flag, verdict in (("YES", 0.0), ("NO", 1.0)):
        metrics = score_rows([{**row, "year_flags": [flag]}], variant="chartqapro")
        assert metrics["relaxed_accuracy"] == metrics["relaxed_accuracy_type_factoid"] == verdict


def test_own_metrics_may_be_numpy_numbers():
    row = {"answer": "1", "source": None, "prediction": "1"}
    metrics = score_rows([row], variant="pix2struct", compute_metrics=lambda p: {"m": np.float32(0.5)})
    assert type(metrics["m"]) is float
