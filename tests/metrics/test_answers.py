"""How answers are read: as numbers, as lists, as texts."""

from __future__ import annotations

import math

import numpy as np
import pytest

from chartqa_ft.metrics.answers import LONGEST_LIST, as_targets, as_text, to_list, to_number


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12", 12.0),
        (" 12 ", 12.0),
        ("1_000", 1000.0),
        ("1e3", 1000.0),
        ("٣", 3.0),
        ("50%", 0.5),
        ("50%%", 0.5),
        ("50 %", 0.5),
        ("50% ", None),
        ("%", None),
        ("1,000", None),
        ("$5", None),
        ("", None),
        ("inf", math.inf),
        ("1" * 400, math.inf),
        ("0." + "1" * 100, 0.1111111111111111),
    ],
)
def test_numbers(text: str, expected: float | None) -> None:
    assert to_number(text) == expected


def test_lists() -> None:
    assert to_list("[2003, 'Peru', None]") == [2003, "Peru", None]
    assert to_list(" [1]") == [1]
    assert to_list("[]") == []
    for text in ("(1, 2)", "{'a': [1]}", "[a]", "['a'", "[1] + [2]", "[" * 200, "text", "['\\d' 1]"):
        assert to_list(text) is None, text
    spaces = " " * (LONGEST_LIST - 2)
    assert to_list(f"[{spaces}]") == []
    assert to_list(f"[{spaces} ]") is None


def test_texts_and_accepted_answers() -> None:
    assert [as_text(value) for value in ("a", 1.0, None, True)] == ["a", "1.0", "None", "True"]
    assert as_targets(np.array([1, 2])) == ["1", "2"]
    assert as_targets(np.array("x")) == ["x"]
    assert as_targets(("a", 2)) == ["a", "2"]
    assert as_targets({"k": 1}) == ["{'k': 1}"]
