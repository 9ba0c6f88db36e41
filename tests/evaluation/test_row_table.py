"""A table gives back the rows that were put in, each once and in order, in a fraction of the memory of dicts."""

from __future__ import annotations

import math
import pickle
import random
import tracemalloc

import pytest

from chartqa_ft.evaluation.row_table import RowTable
from chartqa_ft.evaluation.scoring import score_rows
from chartqa_ft.metrics.predictions import read_predictions, write_predictions


class Name(str):
    """A subclass of str, which must come back as it is."""


VALUES = (
    "",
    "Umsätze 2020",
    "\ud800 alone",
    "図表\x00\n",
    "x" * 70_000,
    0,
    -1,
    2**63 - 1,
    -(2**63),
    2**63,
    10**30,
    0.1,
    -0.0,
    5e-324,
    math.inf,
    None,
    True,
    ["7", 8.5],
    {"a": 1},
    Name("n"),
)


def test_values_come_back_equal_and_with_their_type():
    table = RowTable({"value": value} for value in VALUES)
    found = [row["value"] for row in table]
    assert found == list(VALUES)
    assert [type(value) for value in found] == [type(value) for value in VALUES]
    assert math.isnan(RowTable([{"value": math.nan}])[0]["value"])
    assert math.copysign(1.0, RowTable([{"value": -0.0}])[0]["value"]) == -1.0


@pytest.mark.parametrize("seed", range(5))
def test_a_table_behaves_as_a_list_of_dicts(seed):
    draw = random.Random(seed)
    rows = [{key: draw.choice(VALUES) for key in draw.sample("abcdef", draw.randrange(1, 6))} for _ in range(300)]
    table, dicts = RowTable(), [dict(row) for row in rows]
    for start in range(0, 300, 7):
        added = table.extend(rows[start : start + 7])
        assert [dict(row) for row in added] == rows[start : start + 7]
    for _ in range(2_000):
        number, key = draw.randrange(-300, 300), draw.choice("abcdefg")
        if draw.random() < 0.2 and key in dicts[number]:
            del table[number][key]
            del dicts[number][key]
        else:
            table[number][key] = dicts[number][key] = draw.choice(VALUES)
    assert [dict(row) for row in table] == dicts
    for row, wanted in zip(table, dicts, strict=True):
        assert len(row) == len(wanted)
        assert [key in row for key in "abcdefgh"] == [key in wanted for key in "abcdefgh"]
        assert [row.get(key, "none") for key in "abcdefgh"] == [wanted.get(key, "none") for key in "abcdefgh"]
    assert [dict(row) for row in table[5:200:9]] == dicts[5:200:9]
    assert [dict(row) for row in pickle.loads(pickle.dumps(table))] == dicts
    assert rows != dicts  # what was put in is not changed


def test_what_is_not_there():
    table = RowTable([{"a": "1"}, {"b": "2"}])
    for row, key in ((table[0], "b"), (table[1], "a"), (table[0], "c")):
        with pytest.raises(KeyError, match=key):
            row[key]
        with pytest.raises(KeyError, match=key):
            del row[key]
    assert 3 not in table[0]
    for number in (2, -3):
        with pytest.raises(IndexError):
            table[number]
    with pytest.raises(TypeError, match="rows can only be added to the table that has all rows"):
        table.where(lambda row: True).extend([{"a": "3"}])
    assert len(RowTable()) == 0
    assert not RowTable().in_order()


def test_rows_are_counted_once_and_in_order():
    table = RowTable({"index": i, "x": x} for i, x in [(2, "c"), (-1, "filler"), (0, "a"), (2, "d"), (1, "b")])
    ordered = table.in_order()
    assert [row["x"] for row in ordered] == ["a", "b", "d"]
    assert [row["x"] for row in ordered.in_order()] == ["a", "b", "d"]
    assert [row["x"] for row in ordered.where(lambda row: row["index"] != 1).in_order()] == ["a", "d"]
    assert ordered[-1]["x"] == "d"
    ordered[0]["correct"] = 1.0
    assert table[2]["correct"] == 1.0  # the values are shared


def rows_of(number: int) -> list[dict[str, object]]:
    draw = random.Random(0)
    return [
        {
            "index": index,
            "chart_id": f"chart_{index // 2:06d}.png",
            "question": f"How many people live in town number {index} of the country?",
            "answer": ["12.5", "Peru", "Yes", ""][draw.randrange(4)],
            "prediction": str(draw.randrange(1000)),
            "source": ["human", "augmented", None][draw.randrange(3)],
            "task": draw.choice(["qa", None, "summary"]),
            "loss_sum": draw.random(),
            "tokens": draw.randrange(1, 9),
        }
        for index in range(number)
    ]


@pytest.mark.parametrize("extract", [None, "answer_line"])
def test_a_table_is_scored_and_written_as_a_list(tmp_path, extract):
    rows = rows_of(500)
    table = RowTable(reversed(rows)).in_order()
    given = {
        "variant": "pix2struct",
        "extract": extract,
        "interval": "clustered",
        "compute_metrics": lambda p: {"right": sum(a == b for a, b in zip(p.predictions, p.label_ids, strict=True))},
    }
    metrics = score_rows(table, **given)
    assert metrics == score_rows(rows, **given)
    assert metrics["summary_bleu"] >= 0
    assert [dict(row) for row in table] == rows
    one, other = (write_predictions(form, tmp_path / str(i)) for i, form in enumerate((rows, table)))
    assert one.read_bytes() == other.read_bytes()
    assert len(read_predictions(one)) == 500


def test_a_table_takes_less_than_a_third_of_the_memory_of_dicts():
    def held(make) -> int:
        tracemalloc.start()
        kept = make()
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(kept) == 5_000
        return size

    assert held(lambda: RowTable(row for row in rows_of(5_000))) < held(lambda: rows_of(5_000)) / 3
