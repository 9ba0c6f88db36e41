"""OpenCQA and Chart-to-Text: small folders of their layouts, drawn here."""

from __future__ import annotations

import json

import pytest
from datasets import Dataset

from chartqa_ft import load_chartqa
from chartqa_ft.data import LayoutError, RecordError

from ..support.chart_records import COLUMNS, chart, plain, write_images

ANSWERED = ["a.png", "Cups of tea", "Tea rose from 1 to 5.", "How did tea rise?", "It rose fast.", "Tea rose to 5."]


def open_cqa(folder, *, articles: bool = False, **splits):
    """A clone of OpenCQA with the given records; other files of the repository lie beside them."""
    (folder / "chart_images").mkdir(parents=True)
    write_images(folder / "chart_images", a=10, b=20)
    etc = folder / "etc" / ("data(full_summary_article)" if articles else "data")
    etc.mkdir(parents=True)
    (etc / "data_format.txt").write_text("{image_no: [...]}")
    (folder / "etc" / "question_analysis.json").write_text('{"how": 7}')
    for split, records in splits.items():
        name = f"{split}_extended.json" if articles else f"{split}.json"
        (etc / name).write_text(json.dumps(records), encoding="utf-8")
    return folder


def chart_to_text(folder, **splits):
    """A part of Chart-to-Text: `two_col` charts 1 and 2 and the `multi_col` chart 1, which is another one."""
    for parent, charts in ((folder, {1: 10, 2: 20}), (folder / "multiColumn", {1: 30})):
        for name in ("imgs", "captions", "titles"):
            (parent / name).mkdir(parents=True)
        for number, shade in charts.items():
            (parent / "imgs" / f"{number}.png").write_bytes(chart(shade))
            (parent / "captions" / f"{number}.txt").write_text(f"The share was {shade} % .\n", encoding="utf-8")
    (folder / "dataset_split").mkdir()
    for split, names in {**splits, "all": [name for part in splits.values() for name in part]}.items():
        text = "\n".join(["File_No", *names]) + "\n"
        (folder / "dataset_split" / f"{split}_index_mapping.csv").write_text(text)
    return folder


@pytest.mark.parametrize("articles", [False, True])
def test_open_cqa(tmp_path, articles, streaming):
    records = [ANSWERED, ["b.png", *ANSWERED[1:3], "What fell?", '"Milk" fell.', "Milk."]]
    if articles:
        records = [[*record[:2], "A long article.", *record[2:]] for record in records]
    folder = open_cqa(
        tmp_path / "OpenCQA",
        articles=articles,
        train={"1": records[0], "2": records[1]},
        test={"3": records[1]},
    )
    loaded = load_chartqa(folder, streaming=streaming)
    assert {name: list(part.features) for name, part in loaded.items()} == {
        "test": [*COLUMNS, "task"],
        "train": [*COLUMNS, "task"],
    }
    rows = plain(loaded["train"])
    assert rows[0] == {
        "image": (8, 6, 10),
        "question": "How did tea rise?",
        "answer": "It rose fast.",
        "source": "unknown",
        "chart_id": "a.png",
        "task": "open_qa",
    }
    assert rows[1]["answer"] == '"Milk" fell.'


def test_one_file_of_open_cqa_needs_its_images(tmp_path):
    folder = open_cqa(tmp_path, test={"1": ANSWERED})
    loaded = load_chartqa(folder / "etc" / "data" / "test.json", image_dir=folder, split="test")
    assert (loaded["answer"][0], loaded[0]["image"].size) == ("It rose fast.", (8, 6))


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (ANSWERED[:5], "no list of 6 or 7 texts"),
        ([*ANSWERED[:5], None], "no list of 6 or 7 texts"),
        ([*ANSWERED[:3], " ", *ANSWERED[4:]], "empty question"),
        ([*ANSWERED[:4], "", ""], "no answer"),
        (["c.png", *ANSWERED[1:]], "no image file"),
        (["../../a.png", *ANSWERED[1:]], "path leaves image_dir|no image file"),
    ],
)
def test_wrong_records_of_open_cqa_are_named(tmp_path, record, said):
    folder = open_cqa(tmp_path, train={"1": ANSWERED, "2": record})
    with pytest.raises(RecordError, match=said):
        load_chartqa(folder)
    assert load_chartqa(folder, split="train", on_error="skip")["chart_id"][:] == ["a.png"]


# ------------------------------------------------------------------ Chart-to-Text
@pytest.mark.parametrize("inside", ["", "dataset", "pew_dataset/dataset"])
def test_chart_to_text(tmp_path, inside, streaming):
    chart_to_text(tmp_path / inside, train=["two_col-2.txt", "multi_col-1.txt"], test=["two_col-1.txt"])
    loaded = load_chartqa(tmp_path, streaming=streaming)
    assert sorted(loaded) == ["test", "train"]
    assert list(loaded["train"].features) == [*COLUMNS, "task"]
    rows = plain(loaded["train"])
    assert [(row["image"], row["question"], row["answer"], row["task"]) for row in rows] == [
        ((8, 6, 20), "", "The share was 20 % .", "summary"),
        ((8, 6, 30), "", "The share was 30 % .", "summary"),
    ]
    # 1.png of both kinds are different charts
    charts = [row["chart_id"] for part in loaded.values() for row in part]
    assert len(set(charts)) == 3


def test_of_two_parts_one_is_chosen(tmp_path):
    for name in ("statista", "pew"):
        chart_to_text(tmp_path / f"{name}_dataset" / "dataset", test=["two_col-1.txt"])
    with pytest.raises(LayoutError, match=r"pass one of .*pew_dataset.* and .*statista_dataset"):
        load_chartqa(tmp_path)
    assert len(load_chartqa(tmp_path / "statista_dataset", split="test")) == 1


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("two_col-7.txt", "its caption cannot be read"),
        ("../../secret.txt", "File_No is"),
        ("two_col-1.csv", "File_No is"),
        ("three_col-1.txt", "File_No is"),
        ("two_col-3.txt", "no answer"),
        ("two_col-4.txt", "no image file"),
        ("two_col-5.txt", "leads out of"),
        ("two_col-6.txt", "its caption cannot be read"),
    ],
)
def test_wrong_records_of_chart_to_text_are_named(tmp_path, entry, said):
    folder = chart_to_text(tmp_path / "dataset", train=["two_col-1.txt", entry])
    (folder / "captions" / "3.txt").write_text(" \n")
    (folder / "captions" / "4.txt").write_text("No chart.")
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "captions" / "5.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "captions" / "6.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(RecordError, match=said):
        load_chartqa(folder)
    assert load_chartqa(folder, split="train", on_error="skip")["answer"][:] == ["The share was 10 % ."]


# ------------------------------------------------------------------ own records that name their tasks
def test_own_records_with_tasks_and_rationales(tmp_path, streaming):
    write_images(tmp_path, a=10)
    records = [
        {"imgname": "a.png", "query": "How many?", "label": 7, "rationale": " 3 + 4 = 7 "},
        {"imgname": "a.png", "label": "Tea rose.", "task": "summary"},
        {"imgname": "a.png", "query": "", "label": "a | b\n1 | 2", "task": "table", "rationale": None},
    ]
    (tmp_path / "charts.jsonl").write_text("\n".join(map(json.dumps, records)))
    loaded = plain(load_chartqa(tmp_path, split="train", streaming=streaming))
    assert [(row["task"], row["question"], row["answer"], row["rationale"]) for row in loaded] == [
        ("qa", "How many?", "7", "3 + 4 = 7"),
        ("summary", "", "Tea rose.", ""),
        ("table", "", "a | b\n1 | 2", ""),
    ]


@pytest.mark.parametrize("task", ["", None, "qa", "open_qa", " qa "])
def test_records_that_ask_need_a_question(tmp_path, task):
    write_images(tmp_path, a=10)
    record = {"imgname": "a.png", "query": " ", "label": "7", "task": task}
    (tmp_path / "charts.json").write_text(json.dumps([record]))
    with pytest.raises(RecordError, match="empty question"):
        load_chartqa(tmp_path)


def test_a_task_column_under_another_name(tmp_path):
    rows = Dataset.from_dict(
        {"image": [{"bytes": chart(10), "path": None}], "kind": ["summary"], "label": ["Tea rose."]}
    )
    loaded = load_chartqa(rows, column_map={"task": "kind"})
    assert (loaded["task"][0], loaded["question"][0], loaded["answer"][0]) == ("summary", "", "Tea rose.")
