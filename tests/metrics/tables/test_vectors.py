"""The named variants against what two copies of DePlot's script and TinyChart's return."""

from __future__ import annotations

import json

import pytest

from chartqa_ft.metrics import per_example_table_scores

ROWS = ("row_precision", "row_recall", "row_f1")


@pytest.fixture(scope="module")
def vectors(shared):
    lines = (shared / "metrics" / "table_vectors.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 369
    return [json.loads(line) for line in lines]


def scores_of(vectors, variant):
    return per_example_table_scores(
        predictions=[vector["prediction"] for vector in vectors],
        references=[vector["target"] for vector in vectors],
        variant=variant,
    )


@pytest.mark.parametrize("variant", ["deplot", "deplot_2023", "tinychart"])
def test_every_vector_is_equal(vectors, variant):
    own = {"deplot": "rms_f1", "deplot_2023": "f1_2023", "tinychart": "rms_f1_anls_lt"}[variant]
    for vector, scores in zip(vectors, scores_of(vectors, variant), strict=True):
        expected = {"rms_f1": vector[own], "rnss": vector["numbers_match"]}
        if variant != "tinychart":  # of that copy only F1 was recorded
            expected |= {"rms_precision": vector["rms_precision"], "rms_recall": vector["rms_recall"]}
            if vector["row_error"] is None:
                expected |= {name: vector[name] for name in ROWS}
        # Costs are computed in the order of the script, so that equal ones are matched as there.
        assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=1e-12), vector["id"]


def test_where_the_script_raises_there_is_a_value(vectors):
    raising = [vector for vector in vectors if vector["row_error"]]
    assert len(raising) == 7
    for vector, scores in zip(raising, scores_of(raising, "deplot"), strict=True):
        expected = 1.0 if vector["target"] == vector["prediction"] else 0.0
        assert [scores[name] for name in ROWS] == [expected] * 3, vector["id"]


def test_the_default_gives_every_equal_pair_one(vectors):
    equal = [vector | {"prediction": vector["target"]} for vector in vectors]
    for vector, scores in zip(equal, scores_of(equal, "default"), strict=True):
        assert set(scores.values()) == {1.0}, vector["id"]
