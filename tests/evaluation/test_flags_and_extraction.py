"""From answered rows to metrics: flags of some rows only, extraction, intervals, and what a file keeps of it."""

from __future__ import annotations

import logging

import pytest

from chartqa_ft.evaluation.row_table import RowTable
from chartqa_ft.evaluation.scoring import score_rows
from chartqa_ft.metrics import compare_predictions, read_predictions
from chartqa_ft.metrics.accuracy import relaxed_accuracy
from chartqa_ft.metrics.predictions import FIELDS, write_predictions


def row(index: int, answer: object, prediction: str, **more: object) -> dict:
    texts = {"chart_id": f"c{index // 2}", "question": f"q{index}", "answer": answer, "prediction": prediction}
    return {"index": index, **texts, "source": "human", **more}


FLAGGED = [
    row(0, "2015", "2010", year_flags=["YES"]),
    row(1, "2015", "2010", year_flags=["NO"]),
    row(2, "2015", "2010", year_flags=["YES"]),
    row(3, "2015", "2015", year_flags=["YES"]),
]


def copies(rows: list[dict], **changes: dict) -> list[dict]:
    return [{**row, **changes.get(f"row{row['index']}", {})} for row in rows]


def test_year_flags_of_all_rows() -> None:
    rows = copies(FLAGGED)
    assert score_rows(rows, variant="chartqapro")["relaxed_accuracy"] == 0.5
    assert [row["correct"] for row in rows] == [0.0, 1.0, 0.0, 1.0]


@pytest.mark.parametrize("missing", [{"year_flags": None}, ..., {"year_flags": []}])
def test_a_row_without_flags_leaves_those_of_the_others(missing: object, caplog: pytest.LogCaptureFixture) -> None:
    rows = copies(FLAGGED, row0=missing if missing is not ... else {})
    if missing is ...:
        del rows[0]["year_flags"]
    with caplog.at_level(logging.WARNING):
        metrics = score_rows(rows, variant="chartqapro")
    assert [row["correct"] for row in rows] == [1.0, 1.0, 0.0, 1.0]
    assert metrics["relaxed_accuracy"] == 0.75
    said = [record.getMessage() for record in caplog.records]
    expected = "1 of 4 questions have no year_flags: a number within 5 % of a year counts as right there"
    assert said == ([expected] if missing != {"year_flags": []} else [])


def test_a_row_without_type_leaves_those_of_the_others() -> None:
    rows = [row(i, "1", "1", question_type=kind) for i, kind in enumerate(["a", None, "a", "b"])]
    metrics = score_rows(rows, variant="pix2struct")
    assert (metrics["n_type_a"], metrics["n_type_b"], metrics["n"]) == (2, 1, 4)
    assert "n_type_none" not in metrics


def test_the_order_of_ranks_does_not_matter_for_flags() -> None:
    shuffled = [FLAGGED[i] for i in (2, 0, 3, 1)]
    rows = RowTable(copies([*shuffled, {**FLAGGED[0], "index": -1}, FLAGGED[1]])).in_order()
    assert score_rows(rows, variant="chartqapro")["relaxed_accuracy"] == 0.5


def test_a_comparison_scores_as_the_evaluation_did(tmp_path) -> None:
    a, b = copies(FLAGGED), copies(FLAGGED, row0={"prediction": "2015"})
    scores = [score_rows(rows, variant="chartqapro")["relaxed_accuracy"] for rows in (a, b)]
    files = [write_predictions(rows, tmp_path / f"{name}.jsonl") for name, rows in (("a", a), ("b", b))]
    assert [list(line)[:7] for line in read_predictions(files[0])] == [list(FIELDS)] * 4
    result = compare_predictions(*files, variant="chartqapro")
    assert [result["accuracy_a"], result["accuracy_b"]] == scores == [0.5, 0.75]
    # a file of an earlier release has no flags: those of the other file hold for the same questions
    old = write_predictions([{k: v for k, v in row.items() if k in FIELDS} for row in b], tmp_path / "old.jsonl")
    for pair, key in (((files[0], old), "accuracy_b"), ((old, files[0]), "accuracy_a")):
        assert compare_predictions(*pair, variant="chartqapro")[key] == 0.75
    assert compare_predictions(old, old, variant="chartqapro")["accuracy_a"] == 1.0
    assert compare_predictions(*files)["accuracy_a"] == 1.0  # other variants have no flags
    with pytest.raises(ValueError, match=r"at index 1 year_flags is \['NO'\] in a and \['YES'\] in b"):
        compare_predictions(a, copies(b, row1={"year_flags": ["YES"]}), variant="chartqapro")


def test_a_comparison_of_bare_predictions_takes_flags_and_types() -> None:
    texts = {"references": ["2015", "2.0"], "variant": "chartqapro", "year_flags": ["YES", None]}
    result = compare_predictions(["2010", "2.05"], ["2015", "2.05"], **texts)
    assert (result["accuracy_a"], result["accuracy_b"]) == (0.5, 1.0)
    result = compare_predictions(
        ["2010", "2.05"], ["2015", "2.05"], **texts, question_types=["Factoid", "Multi Choice"], exact_choice=True
    )
    assert (result["accuracy_a"], result["accuracy_b"]) == (0.0, 0.5)
    with pytest.raises(ValueError, match="2 predictions and 1 year_flags"):
        compare_predictions(["1", "2"], ["1", "2"], **{**texts, "year_flags": ["YES"]})


def test_the_loss_is_that_of_the_answered_rows() -> None:
    rows = [
        row(0, "1", "1", loss_sum=6.0, tokens=2),
        row(1, None, "1", loss_sum=0.0, tokens=0),
        row(2, "1", "2", loss_sum=3.0, tokens=1),
    ]
    metrics = score_rows(rows, variant="pix2struct")
    assert (metrics["loss"], metrics["n"], metrics["relaxed_accuracy"]) == (3.0, 2, 0.5)
    assert [row["correct"] for row in rows] == [1.0, None, 0.0]
    assert score_rows([rows[1]], variant="pix2struct") == {}


def test_extraction_keeps_the_prediction_and_says_how_often_it_found_one() -> None:
    rows = [row(0, "20", "Answer: 20"), row(1, "7", "7"), row(2, "", "Answer: 1")]
    metrics = score_rows(rows, variant="pix2struct", extract="answer_line")
    assert (metrics["relaxed_accuracy"], metrics["share_extracted"]) == (1.0, 0.5)
    assert [row["prediction"] for row in rows] == ["Answer: 20", "7", "Answer: 1"]
    assert [row.get("extracted") for row in rows] == ["20", "7", "1"]
    plain = [row(0, "20", "Answer: 20"), row(1, "7", "7")]
    assert score_rows(plain, variant="pix2struct")["relaxed_accuracy"] == 0.5
    assert "extracted" not in plain[0]


def test_clustered_intervals_by_the_charts_of_the_rows() -> None:
    rows = [row(i, "1", prediction) for i, prediction in enumerate("11001011")]
    metrics = score_rows(rows, variant="pix2struct", interval="clustered")
    expected = relaxed_accuracy(
        predictions=list("11001011"),
        references=["1"] * 8,
        sources=["human"] * 8,
        interval="clustered",
        chart_ids=[row["chart_id"] for row in rows],
    )
    assert metrics == expected
    assert metrics["n_charts"] == 4
