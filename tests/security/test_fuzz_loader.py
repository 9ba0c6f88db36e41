"""The loader on any records and any damage: what is right comes through, and what is wrong is named."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from chartqa_ft import load_chartqa

from .fuzzing import damaged, fuzz, json_texts, outcome, texts, values

COLUMNS = ("imgname", "query", "label", "type", "chart_id")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("charts")
    Image.new("RGB", (32, 24)).save(folder / "a.png")
    return folder


def good(number: int) -> dict[str, Any]:
    return {"imgname": "a.png", "query": f"Q{number}?", "label": str(number), "type": "human", "chart_id": "c"}


def loaded(path: Path, **options: Any) -> Any:
    return outcome(lambda: load_chartqa(path, split="train", **options), path.name)


RIGHT = [good(number) for number in range(3)]


def bad_records() -> st.SearchStrategy[str]:
    """JSON of a record without one of the fields that it needs, so that it is never usable, or of no record."""
    fields = st.fixed_dictionaries(
        {}, optional={name: json_texts() for name in ("imgname", "label", "type", "chart_id")}
    )
    objects = fields.map(lambda found: "{" + ", ".join(f'"{name}": {text}' for name, text in found.items()) + "}")
    return objects | json_texts().filter(lambda text: not text.startswith("{") or '"a":' in text)


@fuzz()
@given(
    bad=st.lists(st.tuples(st.integers(0, 3), bad_records()), max_size=3), suffix=st.sampled_from([".json", ".jsonl"])
)
def test_exactly_the_bad_records_of_json_are_skipped(folder, bad, suffix):
    records = [json.dumps(record) for record in RIGHT]
    for place, text in sorted(bad, reverse=True):
        records.insert(place, text)
    path = folder / f"records{suffix}"
    path.write_text("[" + ", ".join(records) + "]" if suffix == ".json" else "\n".join(records))
    found = loaded(path, on_error="skip")
    assert isinstance(found, Dataset), found
    assert found["question"][:] == ["Q0?", "Q1?", "Q2?"]
    if bad:
        assert isinstance(loaded(path), ValueError)


@fuzz()
@given(record=st.dictionaries(st.sampled_from(COLUMNS) | texts(), values()))
def test_any_record_of_json_is_used_or_named(folder, record):
    path = folder / "one.json"
    path.write_text(json.dumps([record, good(0)]))
    loaded(path)
    loaded(path, on_error="skip", require_answers=False)


CONTENTS = {
    "charts.json": json.dumps(RIGHT).encode(),
    "lines.jsonl": b"\n".join(json.dumps(record).encode() for record in RIGHT),
    "table.csv": b"imgname,query,label,type\n"
    + b"".join(f'a.png,"Q{i}, ""so""?",{i},human\r\n'.encode() for i in range(3)),
    "table.tsv": b"imgname\tquery\tlabel\n" + b"".join(f"a.png\tQ{i}?\t{i}\n".encode() for i in range(3)),
}


@fuzz(100)
@given(data=st.data(), name=st.sampled_from(sorted(CONTENTS)), on_error=st.sampled_from(["raise", "skip"]))
def test_any_damage_to_a_file_is_named(folder, data, name, on_error):
    path = folder / name
    path.write_bytes(data.draw(damaged(CONTENTS[name])))
    loaded(path, on_error=on_error)


@fuzz()
@given(cells=st.lists(st.lists(texts(), min_size=1, max_size=5), max_size=4))
def test_any_table_is_read_or_named(folder, cells):
    path = folder / "cells.csv"
    rows = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in cells]
    path.write_bytes("\n".join(["imgname,query,label", *rows, "a.png,Q?,7"]).encode("utf-8", "surrogatepass"))
    found = loaded(path, on_error="skip")
    assert isinstance(found, Dataset), found
    assert found["question"][-1] == "Q?"


@fuzz()
@given(content=st.binary(max_size=200), suffix=st.sampled_from([".json", ".jsonl", ".csv", ".tsv", ".parquet"]))
def test_any_bytes_are_named(folder, content, suffix):
    path = folder / f"bytes{suffix}"
    path.write_bytes(content)
    assert isinstance(loaded(path), ValueError)


@fuzz(15)
@given(data=st.data())
def test_any_damage_to_parquet_is_named(folder, data, tmp_path_factory):
    picture = io.BytesIO()
    Image.new("RGB", (32, 24)).save(picture, "PNG")
    rows = [
        {"image": {"bytes": picture.getvalue(), "path": "a.png"}, "query": f"Q{i}?", "label": "1"} for i in range(3)
    ]
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    path = folder / "charts.parquet"
    path.write_bytes(data.draw(damaged(file.getvalue())))
    loaded(path, on_error="skip", cache_dir=str(tmp_path_factory.mktemp("cache")))
