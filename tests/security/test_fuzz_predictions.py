"""`read_predictions` on any line and any damage: rows, or an error that names file and line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chartqa_ft import relaxed_accuracy
from chartqa_ft.metrics.predictions import FIELDS, read_predictions, write_predictions

from .fuzzing import damaged, fuzz, json_texts, outcome, texts, values

ROWS = [
    dict(zip(FIELDS, (n, f"c{n}.png", 'How many: "bars"?', ["3", "three"], "3", 1.0, "human"), strict=True))
    for n in range(3)
]


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("predictions") / "predictions.jsonl"


def read(path: Path) -> object:
    found = outcome(lambda: read_predictions(path), path.name)
    if isinstance(found, ValueError):
        assert re.search(rf"{path.name}(, line \d+| is empty)", str(found)), found
    return found


@fuzz(100)
@given(data=st.data())
def test_any_damage_is_named_with_its_line(path, data):
    content = write_predictions(ROWS, path).read_bytes()
    path.write_bytes(data.draw(damaged(content)))
    read(path)


@fuzz(100)
@given(field=st.sampled_from(FIELDS), text=json_texts(), line=st.integers(0, 2))
def test_any_value_of_a_field_is_read_and_scored_or_named_with_its_line(path, field, text, line):
    lines = [json.dumps(row) for row in ROWS]
    fields = [f'"{name}": {text if name == field else json.dumps(value)}' for name, value in ROWS[line].items()]
    lines[line] = "{" + ", ".join(fields) + "}"
    path.write_text("\n".join(lines), encoding="utf-8")
    found = read(path)
    if isinstance(found, ValueError):
        assert f"{path.name}, line {line + 1}" in str(found)
        return
    rows = [row for row in found if row["correct"] is not None]
    columns = {name: [row[name.rstrip("s")] for row in rows] for name in ("predictions", "sources")}
    columns["references"] = [row["answer"] for row in rows]
    outcome(lambda: relaxed_accuracy(**columns), "sources", "references", "predictions")


@fuzz()
@given(
    rows=st.lists(st.fixed_dictionaries({name: values() for name in FIELDS} | {"index": st.integers(0)}), max_size=2)
)
def test_what_is_written_comes_back_or_is_named(path, rows):
    write_predictions(rows, path)
    found = read(path)
    assert isinstance(found, ValueError) or repr(found) == repr(rows)


@fuzz()
@given(answer=texts(), prediction=texts(longest=300))
def test_any_text_comes_back(path, answer, prediction):
    row = {**ROWS[0], "answer": answer, "prediction": prediction}
    assert read_predictions(write_predictions([row], path)) == [row]
