"""Numbers as charts print them."""

from __future__ import annotations

import pytest

from chartqa_ft.metrics.tables.numbers import read_number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-5.", -5),
        ("+.5", 0.5),
        ("1,234.5", 1234.5),
        ("12,34,567", 1234567),
        ("1 234 567", 1234567),
        ("2e3", 2000),
        ("$5", 5),
        ("-$5", -5),
        ("€-5", -5),
        ("5€", 5),
        ("\u22125", -5),
    ],
)
def test_numbers(text, value):
    assert read_number(text) == (value, False)
    assert read_number(f" {text.rstrip('€')} %") == (value, True)


@pytest.mark.parametrize(
    "text",
    ["", "-", ".", "nan", "inf", "1_000", "12,5", "1,23", "0,125", "--5", "5%%", "1e999", "9" * 65, "٣", "five"],
)
def test_no_numbers(text):
    assert read_number(text) is None
