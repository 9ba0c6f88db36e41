"""Class labels, numbers and lists of images as a dataset stores them."""

from __future__ import annotations

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import (
    ClassLabel,
    Dataset,
    Features,
    List,
    Value,
)

from chartqa_ft.data import RecordError, stored_columns
from chartqa_ft.data.load import load_chartqa
from chartqa_ft.data.stored_columns import column_values

from ..support.chart_records import (
    M4,
    chart,
    m4_rows,
    parquet,
    rows_of,
    texts,
)


def test_class_labels_are_read_by_name_and_bare_integers_by_the_card(tmp_path, streaming):
    turned = M4.copy()
    turned["human_or_machine"] = ClassLabel(names=["machine", "human"])
    parquet(tmp_path / "turned", "test", turned, m4_rows(1))
    assert [r["source"] for r in rows_of(tmp_path / "turned", "test", streaming)] == ["augmented", "human", "human"]
    bare = M4.copy()
    bare["human_or_machine"] = Value("int64")
    parquet(tmp_path / "bare", "test", bare, m4_rows(1))
    assert [r["source"] for r in rows_of(tmp_path / "bare", "test", streaming)] == ["human", "augmented", "augmented"]


def test_image_lists(tmp_path, streaming):
    features = Features(
        {"images": List(datasets.Image()), "problem": Value("string"), "answers": List(Value("string"))}
    )
    inside = {"bytes": chart(3), "path": None}
    rows = [{"images": [inside], "problem": "P?", "answers": ["A"]}]
    parquet(tmp_path / "lists", "train", features, rows)
    assert [(r["image"], r["question"], r["answer"]) for r in rows_of(tmp_path / "lists", "train", streaming)] == [
        ((8, 6, 3), "P?", "A")
    ]
    parquet(tmp_path / "pairs", "train", features, [*rows, {**rows[0], "images": [inside, inside]}])
    with pytest.raises(RecordError, match=r"record 1 of split 'train'.*ambiguous record: 2 images"):
        rows_of(tmp_path / "pairs", "train", streaming)
    assert len(rows_of(tmp_path / "pairs", "train", streaming, on_error="skip")) == 1


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        ("float32", [0.1, 14.0, 1234.5], ["0.1", "14", "1234.5"]),
        ("float64", [0.1, 14.0, 1e-7], ["0.1", "14", "0.0000001"]),
        ("int64", [1, -2, 2**60], ["1", "-2", str(2**60)]),
        ("bool", [True, False, True], ["Yes", "No", "Yes"]),
    ],
)
def test_number_columns(folder, dtype, values, expected):
    table = pa.table(
        {
            "imgname": ["a.png"] * 3,
            "query": ["Q?"] * 3,
            "label": pa.array(values, pa.from_numpy_dtype(np.dtype(dtype))),
        }
    )
    pq.write_table(table, folder / "charts.parquet")
    assert texts(load_chartqa(folder, split="train"), "answer") == expected


@pytest.mark.parametrize(
    ("column", "feature", "values", "expected"),
    [
        ("answer", ClassLabel(names=["No", "Yes"]), [0, 1, -1], ["No", "Yes", ""]),
        ("answers", List(ClassLabel(names=["No", "Yes"])), [[0], [1], [-1]], ["No", "Yes", ""]),
        ("answers", List(Value("float32")), [[0.1], [2.7], [3]], ["0.1", "2.7", "3"]),
        ("question", ClassLabel(names=["How many?", "Why?"]), [0, 1, 1], ["How many?", "Why?", "Why?"]),
        ("task", ClassLabel(names=["qa", "summary"]), [0, 1, -1], ["qa", "summary", "qa"]),
        ("chart_id", ClassLabel(names=["one", "two"]), [0, 1, 1], ["one", "two", "two"]),
    ],
)
def test_classes_and_32_bit_numbers_are_read_as_they_were_written(
    tmp_path, streaming, column, feature, values, expected
):
    texts_of = {"question": Value("string"), "answer": Value("string"), column: feature}
    if column == "answers":
        del texts_of["answer"]
    rows = [
        {
            **dict.fromkeys(texts_of, "text"),
            column: value,
            "image": {"bytes": chart(int(column == "chart_id" and value)), "path": None},
        }
        for value in values
    ]
    parquet(tmp_path / "typed", "train", Features({"image": datasets.Image(), **texts_of}), rows)
    found = rows_of(tmp_path / "typed", "train", streaming, require_answers=False)
    assert [row[column.removesuffix("s")] for row in found] == expected


def test_the_cells_of_a_stored_table_are_read_as_they_were_written(tmp_path, streaming):
    table = {"header": List(Value("string")), "rows": List(List(Value("float32")))}
    features = Features({"image": datasets.Image(), "table": table})
    stored = {"header": ["Year", "EU"], "rows": [[2019, 0.1]]}
    parquet(tmp_path / "typed", "train", features, [{"image": {"bytes": chart(1), "path": None}, "table": stored}])
    (record,) = rows_of(tmp_path / "typed", "train", streaming, task="table")
    assert record["answer"] == "Year | EU\n2019 | 0.1"


def test_an_answer_of_no_class_is_no_answer(tmp_path):
    features = Features({"image": datasets.Image(), "question": Value("string"), "answer": ClassLabel(names=["No"])})
    rows = [{"image": {"bytes": chart(1), "path": None}, "question": "Q?", "answer": -1}]
    with pytest.raises(RecordError, match="no answer: column 'answer' holds None"):
        load_chartqa(Dataset.from_list(rows, features=features))


def test_a_column_is_read_in_parts_and_not_row_by_row(monkeypatch):
    rows = Dataset.from_dict({"answer": ["3", None, "7", "1", "5"], "image": [b"x"] * 5}).select([4, 3, 2, 1, 0])
    monkeypatch.setattr(stored_columns, "_VALUES_PER_READ", 2)
    reads = []
    true = Dataset.__getitem__
    monkeypatch.setattr(Dataset, "__getitem__", lambda self, key: reads.append(key) or true(self, key))
    assert list(column_values(rows.with_format("torch"), "answer")) == ["5", "1", "7", None, "3"]
    assert reads == [slice(0, 2), slice(2, 4), slice(4, 6)]
