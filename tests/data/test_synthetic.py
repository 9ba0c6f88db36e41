"""Synthetic charts: what is asked has the answer that is drawn, and the same arguments give the same data."""

from __future__ import annotations

import hashlib
import io
import itertools
import re
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from chartqa_ft.data.synthetic.drawing import COLORS, Chart, draw_chart, value_to_y
from chartqa_ft.data.synthetic.questions import QUESTION_TYPES, SEED_CLASSES, make_chart, synthetic_chartqa

EXPECTED_FIRST_ROW = {
    "question": "How much is green?",
    "answer": "4",
    "source": "augmented",
    "chart_id": "synthetic-5-000000",
    "chart_type": "bar",
    "question_type": "value",
}
EXPECTED_DIGEST = "e0b12e20d421129419ef30212d75a653e5a77ea239d40ca744ad6bfcc18787ec"
EXPECTED_KINDS = {"value": 877, "count": 300, "extreme": 496, "comparison": 570, "difference": 285}

CANONICAL = ["image", "question", "answer", "source", "chart_id"]


def stored_png(dataset, row: int) -> bytes:
    return dataset.data.column("image")[row].as_py()["bytes"]


def rows_of(dataset) -> list[dict]:
    return dataset.remove_columns("image").to_list()


def read_values(pixels: np.ndarray, chart_type: str) -> dict[str, int]:
    """The values of a chart from its pixels alone: bar heights, tops of markers, angles of slices."""
    size = pixels.shape[0]
    plot = slice(0 if chart_type == "pie" else size * 15 // 96, None)  # the smoothed tick labels have gray pixels
    masks = {name: (pixels[:, plot] == np.array(color)).all(-1) for name, color in COLORS.items()}
    masks = {name: mask for name, mask in masks.items() if mask.sum() > (size / 96) ** 2 * 20}
    unit = size * 8 / 96  # pixels per unit of the axis
    if chart_type == "bar":
        return {name: round(mask.any(1).sum() / unit) for name, mask in masks.items()}
    if chart_type == "line":
        centers = {name: np.nonzero(mask)[0].min() + size * 5 / 96 for name, mask in masks.items()}
        return {name: round((size * 88 / 96 - center) / unit) for name, center in centers.items()}
    seen: Counter = Counter()
    last = None
    for degree in range(-5, 360):  # clockwise from a little before noon; a white border counts for the slice before it
        angle = np.deg2rad(degree + 0.5)
        row, column = (round(size * (0.5 + 0.35 * part)) for part in (-np.cos(angle), np.sin(angle)))
        last = next((name for name, mask in masks.items() if mask[row, column]), last)
        seen[last] += degree >= 0
    return {name: 10 * round(degrees / 36) for name, degrees in seen.items()}


def solve(question: str, values: dict[str, int]) -> str:
    """An answer from the words of a question, written without a look at the code that asks."""
    named = [word for word in re.findall(r"[a-z]+", question) if word in COLORS]
    if question.startswith("How much is"):
        return str(values[named[0]])
    if question.startswith("How many"):
        return str(len(values))
    if question.startswith("Which color"):
        wanted = (max if "largest" in question else min)(values.values())
        (winner,) = [name for name, value in values.items() if value == wanted]
        return winner
    if question.startswith("Is"):
        return "Yes" if values[named[0]] > values[named[1]] else "No"
    assert re.fullmatch(r"What is \w+ minus \w+\?", question)
    return str(values[named[0]] - values[named[1]])


@pytest.mark.parametrize("image_size", [96, 240])
def test_every_answer_follows_from_the_pixels(image_size: int) -> None:
    dataset = synthetic_chartqa(90, seed=11, image_size=image_size)
    checked: Counter = Counter()
    values: dict[str, dict[str, int]] = {}
    for index, row in enumerate(rows_of(dataset)):
        if row["chart_id"] not in values:
            pixels = np.asarray(Image.open(io.BytesIO(stored_png(dataset, index))))
            assert pixels.shape == (image_size, image_size, 3)
            values[row["chart_id"]] = read_values(pixels, row["chart_type"])
        assert solve(row["question"], values[row["chart_id"]]) == row["answer"], row
        checked[row["chart_type"], row["question_type"]] += 1
    assert len(checked) == 3 * len(QUESTION_TYPES)
    assert min(checked.values()) >= 25


def test_canonical_columns_and_lazy_png_images() -> None:
    from datasets import Image as ImageFeature

    dataset = synthetic_chartqa(3, seed=0)
    assert dataset.column_names == [*CANONICAL, "chart_type", "question_type"]
    assert dataset.features["image"] == ImageFeature()
    assert all(stored_png(dataset, row).startswith(b"\x89PNG\r\n\x1a\n") for row in range(len(dataset)))
    first = dataset[0]["image"]
    assert (first.mode, first.size) == ("RGB", (96, 96))
    drawn = draw_chart(make_chart(0, 0, "bar"))
    assert np.array_equal(np.asarray(first), np.asarray(drawn))


def test_questions_of_a_seed_never_change() -> None:
    rows = rows_of(synthetic_chartqa(60, seed=5))
    text = "\n".join("|".join(row.values()) for row in rows)
    assert rows[0] == EXPECTED_FIRST_ROW
    assert hashlib.sha256(text.encode()).hexdigest() == EXPECTED_DIGEST


def test_same_arguments_give_the_same_bytes_and_a_longer_set_starts_with_the_shorter() -> None:
    short, again, long = (synthetic_chartqa(n, seed=5) for n in (12, 12, 20))
    assert short.data.table.equals(again.data.table)
    assert short._fingerprint == again._fingerprint != long._fingerprint
    assert long.data.table.slice(0, len(short)).combine_chunks().equals(short.data.table.combine_chunks())
    assert long.data.table.num_rows > len(short)


def test_questions_of_a_chart_are_adjacent_and_share_its_image() -> None:
    dataset = synthetic_chartqa(40, seed=2)
    ids = dataset["chart_id"][:]
    runs = [key for key, _ in itertools.groupby(ids)]
    assert runs == [f"synthetic-2-{index:06d}" for index in range(40)]
    images = {key: {stored_png(dataset, row) for row, other in enumerate(ids) if other == key} for key in runs}
    assert all(len(same) == 1 for same in images.values())
    assert len(set.union(*images.values())) == 40


def test_seeds_of_different_classes_share_no_chart() -> None:
    charts = [{make_chart(seed, n, kind) for n in range(400) for kind in ("bar", "line", "pie")} for seed in range(8)]
    assert SEED_CLASSES == 8
    assert all(not a & b for a, b in itertools.combinations(charts, 2))
    # Without the classes there would be meetings: pies with three slices repeat within one seed already.
    assert len(charts[0]) < 1200
    drawn = [
        {stored_png(data, row) for row in range(len(data))}
        for data in (synthetic_chartqa(300, seed=s) for s in (0, 1))
    ]
    assert not drawn[0] & drawn[1]


def test_shares_of_kinds_sources_and_types() -> None:
    rows = rows_of(synthetic_chartqa(300, seed=1))
    assert Counter(row["question_type"] for row in rows) == EXPECTED_KINDS
    assert {(row["source"], row["question_type"]) for row in rows} == {
        ("augmented", "value"),
        *(("human", kind) for kind in QUESTION_TYPES if kind != "value"),
    }
    assert Counter({row["chart_id"]: row["chart_type"] for row in rows}.values()) == {
        "bar": 100,
        "line": 100,
        "pie": 100,
    }
    assert len({(row["chart_id"], row["question"]) for row in rows}) == len(rows)


def test_shares_can_be_chosen() -> None:
    wanted = {"value": 2, "count": 1}
    rows = rows_of(synthetic_chartqa(10, seed=1, chart_types=("bar", "bar", "pie"), questions_per_chart=wanted))
    per_chart = Counter((row["chart_id"], row["question_type"]) for row in rows)
    assert set(per_chart) == {(f"synthetic-1-{n:06d}", kind) for n in range(10) for kind in wanted}
    assert all(count == wanted[kind] for (_, kind), count in per_chart.items())
    assert [{r["chart_id"]: r["chart_type"] for r in rows}[f"synthetic-1-{n:06d}"] for n in range(4)] == [
        "bar",
        "bar",
        "pie",
        "bar",
    ]


def test_values_lie_on_their_gridlines() -> None:
    pixels = np.asarray(draw_chart(Chart("bar", ("red", "blue", "green"), (4, 10, 1))))
    for name, value in (("red", 4), ("blue", 10), ("green", 1)):
        rows = np.nonzero((pixels == np.array(COLORS[name])).all(-1).any(1))[0]
        assert (rows.min(), rows.max()) == (value_to_y(value), 87)
    assert [value_to_y(v) for v in (0, 1, 10)] == [88, 80, 8]
    assert (pixels[value_to_y(8), 92] == 222).all()  # the gridline at 8 ends beyond the last bar


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_charts": 0}, "n_charts must be at least 1, got 0"),
        ({"chart_types": ("bar", "radar")}, "chart_types must be a sequence of types from"),
        ({"chart_types": "bar"}, "chart_types must be a sequence of types from"),
        ({"chart_types": ()}, "chart_types must be a sequence of types from"),
        ({"questions_per_chart": {"sum": 1}}, "keys of questions_per_chart must be from"),
        ({"questions_per_chart": {"value": 0}}, "at least one question"),
        ({"questions_per_chart": {"value": 2, "count": -1}}, "no negative number"),
        ({"image_size": 20}, "image_size must be at least 48"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        synthetic_chartqa(**{"n_charts": 2, "seed": 0, **arguments})


@pytest.mark.parametrize(
    ("chart", "message"),
    [
        (("radar", ("red",), (1,)), "chart_type must be one of"),
        (("bar", ("red", "red"), (1, 2)), "different colors"),
        (("bar", ("red", "mauve"), (1, 2)), "different colors"),
        (("bar", ("red", "blue"), (1,)), "one value per name"),
        (("bar", (), ()), "one value per name"),
        (("bar", ("red", "blue"), (0, 2)), "at least 1"),
        (("line", ("red", "blue"), (1, 11)), "at most 10"),
        (("pie", ("red", "blue"), (40, 50)), "sum to 100"),
    ],
)
def test_a_chart_that_cannot_be_drawn_is_refused(chart: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Chart(*chart)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_charts": 1.5}, "n_charts must be an integer, got 1.5"),
        ({"n_charts": "ten"}, "n_charts must be an integer, got 'ten'"),
        ({"n_charts": True}, "n_charts must be an integer"),
        ({"seed": "a"}, "seed must be an integer, got 'a'"),
        ({"seed": None}, "seed must be an integer"),
        ({"image_size": 96.0}, "image_size must be an integer"),
        ({"chart_types": None}, "chart_types must be a sequence"),
        ({"chart_types": [["bar"]]}, "chart_types must be a sequence"),
        ({"questions_per_chart": ["value"]}, "questions_per_chart must be a dict"),
        ({"questions_per_chart": {"value": "2"}}, r"questions_per_chart\['value'\] must be an integer, got '2'"),
        ({"questions_per_chart": {"value": 1.5}}, r"questions_per_chart\['value'\] must be an integer"),
    ],
)
def test_arguments_of_wrong_types_are_named(arguments: dict, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        synthetic_chartqa(**{"n_charts": 2, "seed": 0, **arguments})


def test_integers_of_numpy_are_integers() -> None:
    plain = synthetic_chartqa(2, seed=3)
    same = synthetic_chartqa(np.int64(2), seed=np.int32(3))
    assert same._fingerprint == plain._fingerprint
    assert same["question"][:] == plain["question"][:]
