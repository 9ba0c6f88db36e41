"""The questions that a model is checked on differ in length and chart, whatever records are given."""

from __future__ import annotations

import pytest
from PIL import Image

from chartqa_ft.training.model_check.examples import chosen_examples, drawn_examples, examples_on_one_chart


def row(number: int, chart: str | None = None, **changes):
    image = Image.new("RGB", (8, 8), (number, 0, 0))
    return {"image": image, "question": f"{'How ' * number}many?", "answer": "3", "chart_id": chart, **changes}


def test_drawn_charts_differ_in_size_and_questions_in_length():
    rows = drawn_examples()
    assert len({row["image"].size for row in rows}) == 3
    assert len({len(row["question"]) for row in rows}) >= 4
    assert len({row["answer"] for row in rows}) >= 4
    assert rows[0]["image"].tobytes() == drawn_examples()[0]["image"].tobytes()


def test_two_questions_on_a_chart_and_the_shortest_and_longest_of_others():
    rows = [row(5, "a"), row(4, "b"), row(9, "c"), row(1, "d"), row(7, "a"), row(2, "e"), row(0, "f", answer=None)]
    chosen = chosen_examples(rows)
    assert [one["chart_id"] for one in chosen] == ["a", "a", "d", "b", "c"]
    assert [one["chart_id"] for one in chosen[:2]] == ["a", "a"]
    assert {one["question"] for one in chosen} >= {rows[3]["question"], rows[2]["question"]}


@pytest.mark.parametrize("number", [1, 2, 3])
def test_few_records_are_enough(number):
    rows = [row(place) for place in range(number)]
    chosen = chosen_examples(rows)
    assert len(chosen) == max(number, 2)  # one question is asked again, with a longer text
    assert len({len(one["question"]) for one in chosen}) == len(chosen)
    shared = examples_on_one_chart(chosen)
    assert shared[0]["image"] is shared[1]["image"]
    assert shared[0]["question"] != shared[1]["question"]
    assert [one["chart_id"] for one in shared] == ["shared", "shared", "other"]


def test_records_are_not_changed():
    rows = [row(1, "a"), row(2, "a")]
    before = [dict(one) for one in rows]
    examples_on_one_chart(chosen_examples(rows))
    assert rows == before
