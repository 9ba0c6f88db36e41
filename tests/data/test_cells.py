"""Labels of any type become their text."""

from __future__ import annotations

import pytest

from chartqa_ft.data.load import load_chartqa

from ..support.chart_records import (
    RECORDS,
    texts,
    write_records,
)


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("Tea", "Tea"),
        (" Tea ", "Tea"),
        (["Tea"], "Tea"),
        ("['Tea']", "Tea"),
        ('["Tea"]', "Tea"),
        ('["I don\'t know"]', "I don't know"),
        ("['a', 'b']", "['a', 'b']"),
        ("[2017, 2023]", "[2017, 2023]"),
        ("[14]", "[14]"),
        ("[Germany]", "[Germany]"),
        (["[2017, 2023]"], "[2017, 2023]"),
        (12, "12"),
        (12.0, "12"),
        (0.1, "0.1"),
        (-3.50, "-3.5"),
        (0.00001, "0.00001"),
        (1e16, "10000000000000000"),
        ([2015], "2015"),
        (True, "Yes"),
        (False, "No"),
        (0, "0"),
        ("0012", "0012"),
        ("NA", "NA"),
        ("None", "None"),
        ("nan", "nan"),
    ],
)
def test_labels_become_their_text(folder, label, text):
    path = write_records(folder / "charts.jsonl", [{**RECORDS[0], "label": label}])
    assert texts(load_chartqa(path, split="train"), "answer") == [text]
