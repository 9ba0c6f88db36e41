"""Verdicts on many answers and their means, against numbers by hand."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest

from chartqa_ft.metrics.accuracy import per_example_correctness, relaxed_accuracy

from .examples import TEN, TEN_VERDICTS


def test_per_example_correctness_per_question_options() -> None:
    questions = {
        "predictions": ["2008", "2008", "2.04", "2.04"],
        "references": ["2007", "2007", "2", "2"],
        "variant": "chartqapro",
        "year_flags": ["NO", ["YES"], None, None],
        "question_types": ["Factoid", "Factoid", "Multi Choice", "Hypothetical"],
    }
    assert per_example_correctness(**questions) == [1.0, 0.0, 1.0, 1.0]
    assert per_example_correctness(**questions, exact_choice=True) == [1.0, 0.0, 0.0, 1.0]
    # the other variants take the same call and have no such rules
    assert per_example_correctness(**{**questions, "variant": "pix2struct"}) == [1.0, 1.0, 1.0, 1.0]
    with pytest.raises(ValueError, match="exact_choice=True needs question_types"):
        per_example_correctness(predictions=["1"], references=["1"], variant="chartqapro", exact_choice=True)
    with pytest.raises(ValueError, match="4 predictions and 1 year_flags"):
        per_example_correctness(**{**questions, "year_flags": ["YES"]})


def test_aggregation_by_hand() -> None:
    assert per_example_correctness(predictions=TEN["predictions"], references=TEN["references"]) == TEN_VERDICTS
    metrics = relaxed_accuracy(**TEN)
    limits = {key: value for key, value in metrics.items() if key.endswith(("_ci_low", "_ci_high"))}
    assert {key: value for key, value in metrics.items() if key not in limits} == {
        "relaxed_accuracy": 0.4,
        "n": 10,
        "relaxed_accuracy_human": 0.75,
        "n_human": 4,
        "relaxed_accuracy_augmented": 0.25,
        "n_augmented": 4,
        "relaxed_accuracy_mean_of_splits": 0.5,
        "relaxed_accuracy_confidence": 0.95,
        "share_trailing_dot": 0.1,
        "share_percent": 0.1,
        "share_comma": 0.1,
        "share_dollar": 0.1,
        "share_empty": 0.1,
        "share_unparsable_number": 0.3,
        "accuracy_lenient": 0.8,
        "accuracy_strict_year": 0.3,
    }
    assert sorted(limits) == sorted(
        f"relaxed_accuracy{name}_ci_{end}"
        for name in ("", "_human", "_augmented", "_mean_of_splits")
        for end in ("low", "high")
    )
    for key in ("relaxed_accuracy", "relaxed_accuracy_human", "relaxed_accuracy_mean_of_splits"):
        assert 0.0 <= limits[f"{key}_ci_low"] < metrics[key] < limits[f"{key}_ci_high"] <= 1.0
    json.dumps(metrics, allow_nan=False)


def test_pooled_is_not_the_mean_of_unequal_splits() -> None:
    metrics = relaxed_accuracy(
        predictions=["1"] * 5, references=["1", "2", "2", "2", "1"], sources=["human"] * 4 + ["augmented"]
    )
    assert metrics["relaxed_accuracy"] == 0.4
    assert metrics["relaxed_accuracy_mean_of_splits"] == (0.25 + 1.0) / 2


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (None, {"n": 2}),
        (["human", "human"], {"n": 2, "n_human": 2}),
        (["augmented", "unknown"], {"n": 2, "n_augmented": 1}),
        (["unknown", None], {"n": 2}),
        (["My Set!", "human"], {"n": 2, "n_human": 1, "n_source_my_set": 1}),
    ],
)
def test_an_absent_source_has_no_key(sources: list | None, expected: dict[str, int]) -> None:
    metrics = relaxed_accuracy(predictions=["1", "2"], references=["1", "1"], sources=sources)
    assert {key: value for key, value in metrics.items() if key == "n" or key.startswith("n_")} == expected
    assert "relaxed_accuracy_mean_of_splits" not in metrics
    assert not any(isinstance(value, float) and math.isnan(value) for value in metrics.values())
    for key in expected:
        assert "relaxed_accuracy" + key[1:] in metrics


@pytest.mark.parametrize("interval", ["wilson", "bootstrap"])
@pytest.mark.parametrize("variant", ["pix2struct", "chartqapro"])
def test_the_order_of_questions_does_not_matter(interval: str, variant: str) -> None:
    rng = random.Random(3)
    rows = [
        (rng.choice(["Peru", "Pery", "5", "5.2", "Chile", ""]), rng.choice(["Peru", "5", "Chile"]), source)
        for source in ["human"] * 40 + ["augmented"] * 70 + ["unknown"] * 9
    ]

    def scored(rows: list[tuple]) -> dict:
        predictions, references, sources = map(list, zip(*rows, strict=True))
        return relaxed_accuracy(
            predictions=predictions, references=references, sources=sources, variant=variant, interval=interval
        )

    first = scored(rows)
    for _ in range(3):
        rng.shuffle(rows)
        assert scored(rows) == first


def test_inputs_may_be_any_iterable_and_stay_as_they_are() -> None:
    predictions, references = ["Yes", 5, None], [["No", "yes"], "5.1", "x"]
    expected = relaxed_accuracy(predictions=predictions, references=references)
    assert expected["relaxed_accuracy"] == pytest.approx(2 / 3)
    assert predictions == ["Yes", 5, None]
    assert relaxed_accuracy(predictions=iter(predictions), references=(r for r in references)) == expected
    assert relaxed_accuracy(predictions=np.array(["Yes", "No"]), references=np.array(["Yes", "x"]))["n"] == 2


def test_white_space_is_an_empty_answer_and_hides_no_dot() -> None:
    metrics = relaxed_accuracy(predictions=["", " \n", "5. \n", "x"], references=["5", ["a", "5"], "5", "nan"])
    assert metrics["share_empty"] == 0.5
    assert metrics["share_trailing_dot"] == 0.25
    assert metrics["share_unparsable_number"] == 0.5  # "nan" is no number that an answer could miss


def test_accuracy_by_question_type() -> None:
    metrics = relaxed_accuracy(
        predictions=["1", "1", "a"],
        references=["1", "2", "A"],
        variant="chartqapro",
        question_types=["Fact Checking", "Fact Checking", "Factoid"],
        diagnostics=False,
    )
    assert metrics["relaxed_accuracy_type_fact_checking"] == 0.5
    assert metrics["n_type_fact_checking"] == 2
    assert metrics["relaxed_accuracy_type_factoid"] == 1.0
    assert "accuracy_lenient" not in metrics


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"predictions": [], "references": []}, "no predictions"),
        ({"predictions": ["1"], "references": ["1", "2"]}, "1 predictions and 2 references"),
        ({"predictions": ["1"], "references": ["1"], "sources": []}, "1 predictions and 0 sources"),
        (
            {"predictions": ["1"], "references": ["1"], "question_types": ["a", "b"]},
            "1 predictions and 2 question_types",
        ),
        (
            {"predictions": ["1"], "references": ["1"], "interval": "wald"},
            "'wilson', 'bootstrap' or 'clustered'.*'wald'",
        ),
        ({"predictions": ["1"], "references": ["1"], "confidence": 95}, "between 0 and 1"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        relaxed_accuracy(**arguments)


@pytest.mark.parametrize("name", ["predictions", "references"])
def test_a_single_text_is_not_a_list_of_answers(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} must be a list"):
        relaxed_accuracy(**{"predictions": ["12"], "references": ["12"], name: "12"})
