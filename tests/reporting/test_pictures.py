"""The picture of answered charts."""

from __future__ import annotations

import pytest
from PIL import Image

from chartqa_ft.reporting.pictures import RIGHT, WRONG, draw_answers

RED = (250, 0, 0)


def rows(n):
    chart = Image.new("RGB", (50, 100), RED)
    return [
        {"image": chart, "question": "What?" * 40, "answer": "12", "prediction": "1\ud800", "correct": float(i % 2)}
        for i in range(n)
    ]


def test_each_chart_is_drawn_with_its_verdict(tmp_path):
    path = draw_answers(rows(5), tmp_path / "new" / "picture.png", columns=2, chart_size=60)
    picture = Image.open(path).convert("RGB")
    assert picture.size == (2 * 72 + 12, 3 * 156 + 12)
    # charts keep their proportions: half as wide as high, in the middle of each square
    for column, line in [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2)]:
        x, y = 12 + 72 * column, 12 + 156 * line
        assert picture.getpixel((x + 30, y + 30)) == RED
        assert picture.getpixel((x + 5, y + 30)) == (255, 255, 255)
        words = picture.crop((x, y + 100, x + 60, y + 122))
        colors = {color for _, color in words.getcolors(1 << 16)}
        assert (RIGHT in colors, WRONG in colors) == ((False, True) if column == 0 else (True, False))
    assert picture.getpixel((12 + 72 + 30, 12 + 2 * 156 + 30)) == (255, 255, 255)


def test_no_rows_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="no rows to draw"):
        draw_answers([], tmp_path / "picture.png")


def _row(**changes):
    row = {"image": Image.new("RGB", (40, 30)), "question": "Q?", "answer": "3", "prediction": "3", "correct": 1.0}
    return {**row, **changes}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": None}, "rows must be a list of dicts"),
        ({"rows": {}}, "rows must be a list of dicts"),
        ({"rows": [_row(), "x"]}, r"rows\[1\] must be a dict"),
        ({"rows": [_row(), {"image": None}]}, r"rows\[1\] lacks question, answer, prediction, correct"),
        ({"columns": 0}, "columns must be at least 1"),
        ({"columns": "4"}, "columns must be an integer"),
        ({"chart_size": -5}, "chart_size must be at least 1"),
        ({"path": None}, "path must be the path"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        draw_answers(**{"rows": [_row()], "path": tmp_path / "picture.png", **arguments})


def test_an_answer_that_cannot_be_compared_is_neither_right_nor_wrong(tmp_path):
    path = draw_answers(iter([_row(correct=None, answer=None)]), tmp_path / "picture.png")
    below = Image.open(path).convert("RGB").crop((0, 240, 232, 316))
    assert not any(pixel in (RIGHT, WRONG) for _, pixel in below.getcolors(10**6))
    path = draw_answers([_row(correct=0.0)], tmp_path / "picture.png")
    assert any(pixel == WRONG for _, pixel in Image.open(path).convert("RGB").getcolors(10**6))
