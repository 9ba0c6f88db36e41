"""Columns are matched by name or by `column_map`; missing and misspelled ones are named."""

from __future__ import annotations

import pytest
from datasets import (
    Dataset,
)

from chartqa_ft.data import LayoutError
from chartqa_ft.data.columns import find_columns
from chartqa_ft.data.load import load_chartqa

from ..support.chart_records import (
    RECORDS,
    rows_of,
    write_records,
)


@pytest.mark.parametrize("suffix", [".json", ".csv", ".parquet"])
def test_column_map(folder, suffix, streaming):
    records = [
        {"picture": f"images/{r['imgname']}", "text": r["query"], "value": r["label"], "kind": "human", "plot": "p1"}
        for r in RECORDS[:2]
    ]
    path = write_records(folder / f"charts{suffix}", records)
    column_map = {"image": "picture", "question": "text", "answer": "value", "source": "kind", "chart_id": "plot"}
    rows = rows_of(path, "train", streaming, column_map=column_map)
    assert [(r["image"], r["source"], r["chart_id"]) for r in rows] == [((8, 6, 10), "human", "p1")] * 2
    del column_map["chart_id"]
    assert rows_of(path, "train", streaming, column_map=column_map)[0]["chart_id"] == "a.png"


@pytest.mark.parametrize(
    ("header", "seen", "delimiter"),
    [
        ("imgname|query|label", "'imgname|query|label'", "'|'"),
        ("imgname;query;label,unit", "'imgname;query;label', 'unit'", "';'"),
    ],
)
def test_a_wrong_delimiter_is_named(folder, header, seen, delimiter):
    (folder / "charts.csv").write_text(f"{header}\na.png|Q?|A\n")
    with pytest.raises(LayoutError) as caught:
        load_chartqa(folder / "charts.csv")
    assert str(caught.value) == (
        f"{folder / 'charts.csv'}: no column for question and answer and image. Columns found: {seen}. A column "
        f"name contains {delimiter}, which looks like an unsupported delimiter: save the table with commas between "
        "its columns (';' and tabs also work if the header uses nothing else)."
    )


def test_hidden_test_sets(folder, streaming):
    path = write_records(
        folder / "test.json", [{"imgname": "a.png", "query": "Q?"}, {"imgname": "b.png", "query": "P?"}]
    )
    with pytest.raises(LayoutError, match=r"no column for answer.*pass require_answers=False"):
        rows_of(path, "test", streaming)
    rows = rows_of(path, "test", streaming, require_answers=False)
    assert [(r["question"], r["answer"]) for r in rows] == [("Q?", ""), ("P?", "")]


def test_columns_that_are_not_understood(folder):
    records = [{"picture": "a.png", "question_text": "Q?", "value": 3}]
    path = write_records(folder / "charts.json", records)
    with pytest.raises(LayoutError) as caught:
        load_chartqa(path)
    assert str(caught.value) == (
        f"{path}: no column for question and answer and image. Columns found: 'picture', 'question_text', 'value'. "
        "Pass a column_map, for example column_map={'question': 'question_text', 'answer': 'value', "
        "'image': 'picture'}. If the split has no answers (a hidden test set), pass require_answers=False."
    )
    column_map = {"image": "picture", "question": "question_text", "answer": "values"}
    with pytest.raises(
        LayoutError, match=r"is 'values', but there is no such column \(did you mean 'value'\?\).*found: "
    ):
        load_chartqa(path, column_map=column_map)
    with pytest.raises(LayoutError, match=r"'anwser', which is not a canonical column \(did you mean 'answer'\?\)"):
        load_chartqa(path, column_map={"anwser": "value"})
    dataset = Dataset.from_list(records)
    with pytest.raises(LayoutError, match="the given dataset, split 'train': no column for"):
        load_chartqa(dataset)


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ({"Frage": "question", "Antwort": "answer"}, "pass column_map={'question': 'Frage', 'answer': 'Antwort'}."),
        ({"Frage": "question", "Antwort": "Text"}, None),
        ({"Bild": "image"}, None),
        ({"question": "Frage,answer=Antwort"}, "Separate the pairs by spaces"),
        ({"question": "Frage; answer=Antwort"}, "Separate the pairs by spaces"),
        ({"question": "Frage, kurz"}, None),
    ],
)
def test_pairs_that_are_swapped_or_run_together_are_seen(given, advice):
    with pytest.raises(LayoutError) as caught:
        find_columns(["Frage", "Antwort", "image"], given, where="fragen.csv")
    assert (advice is not None) is ("swapped" in str(caught.value) or "Separate" in str(caught.value))
    assert (advice or "") in str(caught.value)
