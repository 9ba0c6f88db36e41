"""Columns are matched by name or by `column_map`; missing and misspelled ones are named."""

from __future__ import annotations

import pytest
from datasets import (
    Dataset,
    IterableDataset,
)

from chartqa_ft.data import LayoutError, RecordError
from chartqa_ft.data.columns import FIRST_RECORDS, find_columns
from chartqa_ft.data.load import load_chartqa

from ..support.chart_records import (
    RECORDS,
    chart,
    rows_of,
    texts,
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
        "If the split has no answers (a hidden test set), pass require_answers=False. "
        "Pass a column_map, for example column_map={'question': 'question_text', 'answer': 'value', "
        "'image': 'picture'}."
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


# ------------------------------------------------------------------ columns that only later records have
FIRST = [RECORDS[0]] * FIRST_RECORDS


@pytest.mark.parametrize("column", ["task", "rationale", "type", "chart_id"])
def test_a_column_that_comes_too_late_in_json_lines_is_an_error(folder, column, streaming):
    records = [*FIRST, {**RECORDS[1], "color": "red", column: None}, {**RECORDS[2], column: "summary"}]
    path = write_records(folder / "charts.jsonl", records)
    with pytest.raises(RecordError) as caught:
        rows_of(path, "train", streaming)
    assert (caught.value.index, caught.value.reason) == (1001, "malformed record")
    assert caught.value.cause == (
        f"the column '{column}' first appears here, but the columns were chosen by the first 1,000 records: write it "
        f"there too, even if it is empty (in record 1001 of {path})"
    )


def test_such_records_can_be_skipped_and_the_first_ones_corrected(folder):
    late = {**RECORDS[2], "task": "summary"}
    path = write_records(folder / "charts.jsonl", [*FIRST, *[late] * 2, RECORDS[1]])
    assert len(load_chartqa(path, split="train", on_error="skip")) == 1001
    write_records(path, [{**RECORDS[0], "task": ""}, *FIRST, *[late] * 2, RECORDS[1]])
    assert texts(load_chartqa(path, split="train"), "task")[1000:] == ["qa", "summary", "summary", "qa"]


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_a_late_name_in_another_spelling_is_an_error_too(folder, suffix):
    path = write_records(folder / f"charts{suffix}", [*FIRST, {**RECORDS[1], "Label": "7"}])
    with pytest.raises(RecordError, match=r"record 1000 .*the columns 'label', 'Label' differ only in case"):
        load_chartqa(path)


def test_in_json_most_columns_may_be_late(folder, streaming):
    late = {"imgname": "b.png", "label": "Tea rose.", "task": "summary", "rationale": "It did."}
    path = write_records(folder / "charts.json", [*FIRST, RECORDS[1], late])
    loaded = load_chartqa(path, split="train", streaming=streaming)
    rows = [
        (record["answer"], record["task"], record["rationale"])
        for record in loaded.select_columns(["answer", "task", "rationale"])
    ]
    assert rows[1000:] == [("12", "qa", ""), ("Tea rose.", "summary", "It did.")]
    # The others have no images in such a column: nothing changes for them.
    write_records(path, [*FIRST, RECORDS[1], {**late, "image": "b.png"}])
    with pytest.raises(RecordError, match=r"record 1001 .*the column 'image' first appears here"):
        list(load_chartqa(path, split="train", streaming=streaming))


def generated(shards: list[dict]):
    for changes in shards:
        yield {"image": {"bytes": chart(10), "path": None}, "question": "Q?", "answer": "7", **changes}


def test_the_first_record_of_a_stream_decides_about_its_columns():
    def records():
        yield from generated([{}, {"task": "summary"}])

    rows = iter(load_chartqa(IterableDataset.from_generator(records)))
    assert next(rows)["answer"] == "7"
    with pytest.raises(RecordError, match=r"record 1 .*the column 'task' first appears here, .* by the first record:"):
        next(rows)


def test_the_shards_of_a_stream_have_the_columns_of_the_first_one():
    stream = IterableDataset.from_generator(generated, gen_kwargs={"shards": [{"task": "summary"}, {}]})
    assert stream.num_shards == 2
    assert [record["task"] for record in load_chartqa(stream)] == ["summary", "qa"]
    stream = IterableDataset.from_generator(generated, gen_kwargs={"shards": [{}, {"task": "summary"}]})
    with pytest.raises(RecordError, match=r"record 0 .*the column 'task' first appears here"):
        list(load_chartqa(stream))


# ------------------------------------------------------------------ answers of tasks
OF_TASKS = [
    {"imgname": "a.png", "query": "Q?", "label": "7", "task": "qa", "summary": "Tea rose."},
    {"imgname": "a.png", "query": "", "label": "8", "task": "", "summary": "Tea rose."},
    {"imgname": "a.png", "query": "P?", "label": "9", "task": "open_qa", "summary": "Tea rose."},
]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_a_task_has_its_own_answers_and_leaves_those_of_others(folder, suffix, streaming):
    path = write_records(folder / f"charts{suffix}", OF_TASKS)
    rows = rows_of(path, "train", streaming, task="summary")
    assert [(r["task"], r["question"], r["answer"]) for r in rows] == [
        ("qa", "Q?", "7"),
        ("summary", "", "Tea rose."),
        ("open_qa", "P?", "9"),
    ]
    rows = rows_of(path, "train", streaming, task="summary", column_map={"answer": "label"})
    assert [r["answer"] for r in rows] == ["7", "8", "9"]


def test_a_record_of_another_task_does_not_take_the_only_answers(folder):
    records = [{key: value for key, value in record.items() if key != "label"} for record in OF_TASKS]
    path = write_records(folder / "charts.json", records)
    with pytest.raises(RecordError, match=r"record 0 .*no answer: no column for the task 'qa'"):
        load_chartqa(path, task="summary")
    kept = load_chartqa(path, split="train", task="summary", on_error="skip")
    assert (texts(kept, "task"), texts(kept, "answer")) == (["summary"], ["Tea rose."])


def test_twins_of_the_answers_of_a_task_are_mapped_as_answers():
    with pytest.raises(LayoutError, match=r"'Summary', 'summary' differ only .* pass column_map=\{'answer': \.\.\.\}"):
        find_columns(["image", "Summary", "summary"], None, where="charts.csv", task="summary")


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
