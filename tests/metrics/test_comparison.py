"""The comparison of two systems from lists, records and files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chartqa_ft.metrics import compare_predictions

ANSWERS = ["Peru", "41", "2010", "Yes"]
SOURCES = ["human", "human", "augmented", "unknown"]


def records(predictions: list, **changes: dict) -> list[dict]:
    rows = [
        {
            "index": 10 + i,
            "chart_id": f"c{i // 2}.png",
            "question": f"question {i}?",
            "answer": ANSWERS[i],
            "prediction": prediction,
            "correct": 0.0,
            "source": SOURCES[i],
        }
        for i, prediction in enumerate(predictions)
    ]
    for index, change in changes.items():
        rows[int(index[1:])].update(change)
    return rows


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_two_systems_from_lists_records_and_files(tmp_path: Path) -> None:
    a, b = ["Peru", "40", "2011", "No"], ["peru", "12", "2010", "yes"]
    bare = compare_predictions(a, b, references=ANSWERS, sources=SOURCES)
    assert (bare["accuracy_a"], bare["accuracy_b"], bare["difference"]) == (0.75, 0.75, 0.0)
    assert (bare["a_better"], bare["b_better"], bare["ties"], bare["p_value"]) == (1, 1, 2, 1.0)
    assert (bare["variant"], bare["confidence"]) == ("pix2struct", 0.95)
    assert {name: (part["n"], part["difference"]) for name, part in bare["by_source"].items()} == {
        "human": (2, -0.5),
        "augmented": (1, 0.0),
    }
    # records are matched by index, in any order, and scored afresh whatever `correct` says
    assert compare_predictions(records(a), records(b)[::-1]) == bare
    paths = write(tmp_path / "a.jsonl", records(a)), write(tmp_path / "b.jsonl", records(b)[::-1])
    assert compare_predictions(*paths) == bare
    assert compare_predictions(str(paths[0]), records(b)) == bare
    assert compare_predictions(*paths, variant="strict_year")["accuracy_a"] == 0.5
    assert "by_source" not in compare_predictions(a, b, references=ANSWERS)


GOOD = ["Peru", "40", "2011", "No"]


@pytest.mark.parametrize(
    ("b", "message"),
    [
        (records(GOOD, r2={"question": "another?"}), r"index 12 question is 'question 2\?' in a and 'another\?' in b"),
        (records(GOOD, r1={"answer": "42"}), "index 11 answer is '41' in a and '42' in b"),
        (records(GOOD, r0={"chart_id": "z.png"}), "index 10 chart_id"),
        (records(GOOD)[:3], r"index 13 \('question 3\?'\) is in a and not in b"),
        (records(GOOD, r3={"index": 99}), "index 13 .* is in a and not in b"),
        (records(GOOD, r3={"index": 10}), "b: index 10 occurs twice, again in record 3"),
        (GOOD, "both be records"),
    ],
)
def test_other_questions_are_refused_by_the_first_difference(b: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare_predictions(records(GOOD), b)


def test_more_wrong_comparisons(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"index 13 .* is in b and not in a"):
        compare_predictions(records(GOOD)[:3], records(GOOD))
    with pytest.raises(ValueError, match=r"a: the record of index 10 has no 'prediction'"):
        compare_predictions([{"index": 10, "answer": "1"}], records(GOOD))
    with pytest.raises(ValueError, match="carry their own answers"):
        compare_predictions(records(GOOD), records(GOOD), references=ANSWERS)
    with pytest.raises(ValueError, match="need references="):
        compare_predictions(GOOD, GOOD)
    with pytest.raises(ValueError, match="a has 4 predictions and b has 3"):
        compare_predictions(GOOD, GOOD[:3], references=ANSWERS)
    with pytest.raises(ValueError, match="4 references and 1 sources"):
        compare_predictions(GOOD, GOOD, references=ANSWERS, sources=["human"])
    empty = write(tmp_path / "empty.jsonl", [])
    with pytest.raises(ValueError, match=r"index 10 .* is in b and not in a"):
        compare_predictions(records(GOOD)[1:], records(GOOD))
    with pytest.raises(ValueError, match=r"empty\.jsonl is empty"):
        compare_predictions(empty, records(GOOD))
    with pytest.raises(ValueError, match="no questions"):
        compare_predictions([], [], references=[])
    unanswered = [{**records(GOOD)[0], "answer": None}]
    with pytest.raises(ValueError, match="no questions"):
        compare_predictions(unanswered, unanswered)
    assert compare_predictions([*unanswered, *records(GOOD)[1:]], [*unanswered, *records(GOOD)[1:]])["n"] == 3
    for side, message in ((None, "b is None"), (5, "b is 5"), ({}, "b is {}"), ({"1"}, "b must be a list")):
        with pytest.raises(TypeError, match=message):
            compare_predictions(GOOD, side, references=ANSWERS)
    with pytest.raises(ValueError, match="a mixes records and bare predictions: 4 of 5"):
        compare_predictions([*records(GOOD), "7"], records(GOOD))
    with pytest.raises(TypeError, match=r"a: the index of record 0 is \[1\]"):
        compare_predictions([{"index": [1], "answer": "1", "prediction": "1"}], records(GOOD))
