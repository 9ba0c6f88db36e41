"""Arguments of metrics: lists of any library are read, and what has no meaning is refused by name and index."""

from __future__ import annotations

import datetime
import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from chartqa_ft.metrics import (
    anls,
    format_table,
    mcnemar_exact,
    newcombe_paired_interval,
    paired_comparison,
    relaxed_accuracy,
    relaxed_correctness,
    wilson_interval,
)


@pytest.mark.parametrize(
    "given",
    [
        (7, 8),
        np.array([7, 8]),
        torch.tensor([7, 8]),
        [torch.tensor(7), np.array(8)],
        pd.Series([7, 8], index=[5, 6]),
        pa.chunked_array([[7], [8]]),
        {"a": 7, "b": 8}.values(),
        iter([np.int8(7), "8"]),
    ],
    ids=lambda given: type(given).__name__,
)
def test_lists_of_any_library_are_read(given: object) -> None:
    given = list(given) if hasattr(given, "__next__") else given
    metrics = relaxed_accuracy(predictions=given, references=["7", "9.5"])
    assert metrics["relaxed_accuracy"] == 0.5
    assert relaxed_accuracy(predictions=["7", "0"], references=given)["relaxed_accuracy"] == 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"predictions": None}, "predictions must be a list .* is None"),
        ({"predictions": {"7", "8"}}, "predictions must be a list .* is a set"),
        ({"predictions": np.zeros((2, 2))}, "predictions .* ndarray of 2 dimensions; decode"),
        ({"predictions": pd.DataFrame({"a": [1, 2]})}, "predictions .* DataFrame of 2 dimensions"),
        ({"predictions": torch.tensor(7)}, "predictions .* of 0 dimensions"),
        ({"predictions": ["7", b"8"]}, r"predictions\[1\] is b'8', a bytes: decode it"),
        ({"predictions": ["7", ["8"]]}, r"predictions\[1\] is \['8'\], a list"),
        ({"predictions": ["7", object]}, r"predictions\[1\] is <class 'object'>"),
        ({"references": ["7", None]}, r"references\[1\] is None: a question without a label"),
        ({"references": ["7", np.float32("nan")]}, r"references\[1\] is .*nan"),
        ({"references": ["7", pd.NA]}, r"references\[1\] is <NA>"),
        ({"references": ["7", []]}, r"references\[1\] is \[\]: a label needs an accepted answer"),
        ({"references": ["7", [None, math.nan]]}, r"references\[1\] is \[None, nan\]"),
        ({"references": ["7", [["9"]]]}, r"references\[1\]\[0\] is \['9'\], a list"),
        ({"references": ["7", {"text": "9"}]}, r"references\[1\] is \{'text': '9'\}, a dict"),
        ({"sources": "ab"}, "sources must be a list"),
        ({"sources": ["human", ["human"]]}, r"sources\[1\] is \['human'\]"),
        ({"sources": ["human", b"human"]}, r"sources\[1\] is b'human'"),
        ({"question_types": 1}, "question_types must be a list"),
        ({"question_types": ["a", {}]}, r"question_types\[1\] is \{\}"),
        ({"chart_ids": "ab"}, "chart_ids must be a list"),
        ({"chart_ids": ["a", {}]}, r"chart_ids\[1\] is \{\}"),
        ({"year_flags": "YN", "variant": "chartqapro"}, "year_flags must be a list"),
        ({"year_flags": ["YES", "perhaps"], "variant": "chartqapro"}, r"year_flags\[1\] .* holds 'perhaps'"),
        ({"year_flags": [["YES", 2], None], "variant": "chartqapro"}, r"year_flags\[0\] .* holds 2"),
        ({"n_resamples": 0}, "n_resamples must be at least 1"),
        ({"n_resamples": True}, "n_resamples must be an integer"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"seed": None}, "seed must be an integer"),
        ({"confidence": "0.95"}, "confidence must be a number"),
        ({"confidence": 95}, "confidence must lie between"),
        ({"confidence": True}, "confidence must lie between"),
        ({"interval": ["wilson"]}, "interval must be"),
        ({"diagnostics": "no"}, "diagnostics must be True or False"),
        ({"exact_choice": "no", "question_types": ["a", "b"]}, "exact_choice must be True or False"),
    ],
)
def test_what_has_no_meaning_is_refused_by_name(changes: dict, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        relaxed_accuracy(**{"predictions": ["7", "8"], "references": ["7", "9"], **changes})


def test_missing_labels_of_groups_are_unknown() -> None:
    two = {"predictions": ["7", "8"], "references": ["7", "9"]}
    for missing in (None, math.nan, np.float32("nan"), pd.NA):
        metrics = relaxed_accuracy(**two, sources=["human", missing], question_types=[missing, "a"])
        assert {key for key in metrics if key.startswith("n")} == {"n", "n_human", "n_type_a"}
    metrics = relaxed_accuracy(**two, sources=torch.tensor([0, 0]), chart_ids=np.array([1, 1]))
    assert metrics["n_source_0"] == 2


def test_numbers_of_any_library_are_arguments() -> None:
    two = {"predictions": ["7", "8"], "references": ["7", "9"]}
    plain = relaxed_accuracy(**two, interval="bootstrap", confidence=0.5, n_resamples=20, seed=3)
    assert plain == relaxed_accuracy(
        **two, interval="bootstrap", confidence=torch.tensor(0.5), n_resamples=np.int64(20), seed=torch.tensor(3)
    )


def test_single_values() -> None:
    assert relaxed_correctness(prediction=torch.tensor(7), target=np.array([6, 7])) == 1.0
    assert relaxed_correctness(prediction=datetime.date(2020, 1, 2), target="2020-01-02") == 1.0
    for value in (b"7", ["7"], {"7": 1}):
        with pytest.raises(TypeError, match="prediction is"):
            relaxed_correctness(prediction=value, target="7")
    for value in (None, [], math.nan):
        with pytest.raises(ValueError, match="target is"):
            relaxed_correctness(prediction="7", target=value)
    with pytest.raises(TypeError, match="exact must be True or False"):
        relaxed_correctness(prediction="7", target="7", exact="no")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("NO", 1.0), ("YES", 0.0), ("['YES']", 0.0), (np.array([True]), 0.0), (" true ", 0.0), (math.nan, 1.0), (0, 1.0)],
)
def test_year_flags_in_any_form(flags: object, expected: float) -> None:
    arguments = {"prediction": "2008", "target": "2007", "variant": "chartqapro"}
    assert relaxed_correctness(**arguments, year_flags=flags) == expected


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wilson_interval(0.5, 0), "n must be at least 1"),
        (lambda: wilson_interval(50, 100), "accuracy must lie between"),
        (lambda: wilson_interval(math.nan, 100), "accuracy must lie between"),
        (lambda: mcnemar_exact(-1, 2), "only_a must be at least 0"),
        (lambda: mcnemar_exact(0.5, 2), "only_a must be an integer"),
        (lambda: newcombe_paired_interval(0, 0, 0, 0), "no questions"),
        (lambda: paired_comparison([1.0, 50.0], [1.0, 1.0]), "verdicts_a must lie between"),
        (lambda: paired_comparison([1.0], ["1"]), "verdicts_b must be a number"),
        (lambda: anls("a", None), "target must be a text"),
        (lambda: format_table([]), "metrics must be the dict"),
        (lambda: format_table({"relaxed_accuracy": math.nan}), "relaxed_accuracy among the metrics is nan"),
    ],
)
def test_statistics_name_what_is_wrong(call, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        call()
