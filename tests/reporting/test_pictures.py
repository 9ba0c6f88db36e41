"""The picture of answered charts."""

from __future__ import annotations

import pytest
from PIL import Image

from chartqa_ft.reporting import pictures
from chartqa_ft.reporting.pictures import RIGHT, WRONG, draw_answers

RED = (250, 0, 0)


def rows(n):
    chart = Image.new("RGB", (50, 100), RED)
    return [
        {"image": chart, "question": "What?", "answer": "12", "prediction": "1\ud800", "correct": float(i % 2)}
        for i in range(n)
    ]


def test_each_chart_is_drawn_with_its_verdict(tmp_path):
    path = draw_answers(rows(5), tmp_path / "new" / "picture.png", columns=2, chart_size=120)
    picture = Image.open(path).convert("RGB")
    height = 120 + 6 + 18 + 21 + 18 + 12  # one line each of question, prediction and answer
    assert picture.size == (2 * 132 + 12, 3 * height + 12)
    # charts keep their proportions: half as wide as high, in the middle of each square
    for column, line in [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2)]:
        x, y = 12 + 132 * column, 12 + height * line
        assert picture.getpixel((x + 60, y + 60)) == RED
        assert picture.getpixel((x + 10, y + 60)) == (255, 255, 255)
        words = picture.crop((x, y + 120 + 6 + 18, x + 120, y + 120 + 6 + 18 + 21))
        colors = {color for _, color in words.getcolors(1 << 16)}
        assert (RIGHT in colors, WRONG in colors) == ((False, True) if column == 0 else (True, False))
    assert picture.getpixel((12 + 132 + 60, 12 + 2 * height + 60)) == (255, 255, 255)


def heights(tmp_path, *found, **options):
    return Image.open(draw_answers(found, tmp_path / "picture.png", chart_size=120, **options)).height


@pytest.mark.parametrize("field", ["question", "prediction", "answer"])
def test_long_texts_are_wrapped(tmp_path, field):
    short = heights(tmp_path, _row(correct=0.0))
    one = heights(tmp_path, _row(correct=0.0, **{field: "some words " * 5}))
    both = heights(tmp_path, _row(correct=0.0, **{field: "some words " * 10}))
    assert both - short > 1.6 * (one - short) > 0


def test_endless_and_strange_texts_are_drawn(tmp_path):
    texts = ["x" * 10**6, "\x1b[31m\u202eabc\ud800", "a\n\n\nb", "", "\u0301\u0301", "e\u0301" * 500]
    found = [_row(question=text, prediction=text, answer=text, correct=0.0) for text in texts]
    assert heights(tmp_path, *found, _row(answer=["Peru", 7], correct=0.5)) < 6000


def names(chosen):
    return "".join(row["question"] for row in chosen)


@pytest.mark.parametrize(
    ("first", "count", "expected"),
    [
        (None, None, "abcdefgh"),
        (None, 4, "aceg"),
        (None, 99, "abcdefgh"),
        ("mistakes", None, "bcfadegh"),
        ("mistakes", 2, "bc"),
        ("mistakes", 5, "bcfae"),
    ],
)
def test_mistakes_are_drawn_first_if_asked_for(tmp_path, first, count, expected):
    verdicts = {"a": 1.0, "b": 0.0, "c": 0.5, "d": None, "e": 1.0, "f": 0.0, "g": 1.0, "h": None}
    found = [_row(question=name, correct=verdict) for name, verdict in verdicts.items()]
    assert names(pictures._chosen(found, first, count)) == expected
    path = draw_answers(found, tmp_path / "p.png", chart_size=120, columns=1, first=first, count=count)
    assert _color(path, 0) == (WRONG if first else RIGHT)


def _color(path, number):
    top = 12 + number * (120 + 6 + 18 + 21 + 18 + 12) + 120 + 6 + 18
    words = Image.open(path).convert("RGB").crop((12, top, 132, top + 21))
    return next(color for color in (RIGHT, WRONG) if color in {found for _, found in words.getcolors(1 << 16)})


def test_charts_come_from_a_folder_or_the_evaluated_records(tmp_path):
    Image.new("RGB", (40, 30), RED).save(tmp_path / "a.png")
    row = {key: value for key, value in _row(chart_id="a.png", index=0).items() if key != "image"}
    for images in (tmp_path, {"a.png": tmp_path / "a.png"}, [{"image": Image.new("RGB", (40, 30), RED)}]):
        picture = Image.open(draw_answers([row], tmp_path / "p.png", chart_size=120, images=images))
        assert picture.getpixel((72, 72)) == RED
    with pytest.raises(ValueError, match=r"images has no chart 'b\.png' of row 0"):
        draw_answers([{**row, "chart_id": "b.png"}], tmp_path / "p.png", images=tmp_path)


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
        ({"first": "wrong"}, "first must be 'mistakes'"),
        ({"count": 0}, "count must be at least 1"),
        ({"font_path": "nowhere.ttf"}, "font_path='nowhere.ttf' is no font"),
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
