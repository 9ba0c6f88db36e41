"""`Human` and ` AUGMENTED ` are the two ChartQA sources, wherever sources are read."""

from __future__ import annotations

import pytest
from datasets import Dataset

from chartqa_ft import stratified_subset
from chartqa_ft.metrics import compare_predictions
from chartqa_ft.metrics.accuracy import relaxed_accuracy

ONE = {"predictions": ["1", "0", "1", "1"], "references": ["1"] * 4, "diagnostics": False}


@pytest.mark.parametrize(
    "sources",
    [
        ["Human", "human", "Augmented", "augmented"],
        [" human", "HUMAN\n", "AUGMENTED ", "\taugmented"],
    ],
)
def test_case_and_outer_spaces_do_not_matter(sources: list[str]) -> None:
    expected = relaxed_accuracy(**ONE, sources=["human", "human", "augmented", "augmented"])
    assert "relaxed_accuracy_mean_of_splits" in expected
    assert relaxed_accuracy(**ONE, sources=sources) == expected
    clustered = {"interval": "clustered", "chart_ids": list("abab")}
    assert relaxed_accuracy(**ONE, sources=sources, **clustered) == relaxed_accuracy(
        **ONE, sources=["human", "human", "augmented", "augmented"], **clustered
    )
    result = compare_predictions(["1"] * 4, ["0"] * 4, references=["1"] * 4, sources=sources)
    assert {name: part["n"] for name, part in result["by_source"].items()} == {"human": 2, "augmented": 2}


@pytest.mark.parametrize("unknown", [None, "", "unknown", "Unknown", " ", " unknown "])
def test_unknown_sources_have_no_key(unknown: str | None) -> None:
    metrics = relaxed_accuracy(**ONE, sources=[unknown] * 3 + ["Human"])
    assert [key for key in metrics if key.startswith("n_")] == ["n_human"]


def test_other_names_stay_other_sources() -> None:
    metrics = relaxed_accuracy(**ONE, sources=["human-like", "augmented_2", "Human", "my set"])
    assert {key for key in metrics if key.startswith("n_")} == {
        "n_source_human_like",
        "n_source_augmented_2",
        "n_human",
        "n_source_my_set",
    }


def test_a_type_called_human_is_no_source() -> None:
    metrics = relaxed_accuracy(**ONE, question_types=["Human", "human", "a", "a"])
    assert {key for key in metrics if key.startswith("n_")} == {"n_type_human", "n_type_a"}


def test_subsets_keep_the_mix_of_sources_in_any_writing() -> None:
    sources = ["Human", " human", "HUMAN", "human"] * 5 + ["augmented", "Augmented "] * 10 + [None] * 4
    records = Dataset.from_dict({"source": sources, "number": list(range(44))})
    plain = Dataset.from_dict(
        {"source": ["human"] * 20 + ["augmented"] * 20 + ["unknown"] * 4, "number": list(range(44))}
    )
    chosen = stratified_subset(records, 11, seed=3)
    assert sum("human" in (source or "").lower() for source in chosen["source"]) == 5
    assert sum("augmented" in (source or "").lower() for source in chosen["source"]) == 5
    assert len(stratified_subset(plain, 11, seed=3)) == 11
