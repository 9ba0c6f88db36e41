"""Exports to lmms-eval and VLMEvalKit: examples by hand, and their rules, written anew, on the exported files."""

from __future__ import annotations

import csv
import hashlib
import json
import random
from pathlib import Path

import pandas
import pytest

from chartqa_ft.metrics import per_example_correctness
from chartqa_ft.metrics.export import export_predictions
from chartqa_ft.metrics.predictions import write_predictions


def row(index=0, answer="4", prediction="4", source="human", **more):
    return {
        "index": index,
        "chart_id": f"c{index}.png",
        "question": f"question {index}?",
        "answer": answer,
        "prediction": prediction,
        "correct": 1.0,
        "source": source,
        **more,
    }


# ------------------------------------------------------------------ their rules, in our words
def numeric(text):
    percent = text.endswith("%")
    try:
        return float(text.rstrip("%")) / 100 if percent else float(text)
    except ValueError:
        return None


def within_five_percent(prediction, target):
    """The rule of both programs: 5 % of a number that is not zero, else equal texts whatever the case."""
    p, t = numeric(prediction), numeric(target)
    return abs(p - t) / abs(t) <= 0.05 if p is not None and t else prediction.lower() == target.lower()


def vlmevalkit_scores(path, **options):
    """What VLMEvalKit computes of a file: cells as pandas reads them, lists of accepted answers, the best match."""
    table = pandas.read_csv(path, sep="\t", **options)
    scores = []
    for answer, prediction in zip(table["answer"], table["prediction"], strict=True):
        label = str(answer)
        try:
            value = eval(label, {"__builtins__": {}})
        except Exception:
            value = None
        targets = value if isinstance(value, list) else [label]
        scores.append(max(within_five_percent(str(prediction).strip(), str(target)) for target in targets))
    return [float(score) for score in scores]


PREDICTIONS = [
    *("4", "4.2", "4.3", "Peru", "peru ", "PERU", "", "0", "0.0", "nan", "None", "NA", "n/a", "null", "50%", "0.5"),
    *("1,000", "a\tb", 'a "quoted" text', "two\nlines", "a\r\nb", " 7 ", "1e3", "True", "-0", "Ümlaut", "#NA"),
    *("[4]", "[2003, 2004]", "2004", "\u0664", "inf", "0%", "yes or no", "1_000", "None.", "'", "\\", "9" * 30),
]
LABELS = [label for label in PREDICTIONS if label.strip()]


@pytest.fixture
def rows():
    """Every label with every prediction, in an order that mixes kinds of cells."""
    pairs = [(label, prediction) for label in LABELS for prediction in PREDICTIONS]
    random.Random(0).shuffle(pairs)
    return [row(i, *pair, "human" if i % 3 else "augmented") for i, pair in enumerate(pairs)]


def test_vlmevalkit_computes_our_number_for_its_variant(rows, tmp_path):
    path = export_predictions(rows, tmp_path / "m_ChartQA_TEST.tsv", format="vlmevalkit")
    ours = per_example_correctness(
        predictions=[row["prediction"] for row in rows],
        references=[row["answer"] for row in rows],
        variant="vlmevalkit",
    )
    assert 0.03 < sum(ours) / len(ours) < 0.5
    assert vlmevalkit_scores(path) == ours
    assert vlmevalkit_scores(path, low_memory=False) == ours


@pytest.mark.parametrize(
    "column", [["0", "0", "3"], ["0", "0.0", "1.5"], ["None", "NA", ""], ["True", "false", "True"]]
)
def test_columns_that_pandas_would_convert_are_scored_alike(column, tmp_path):
    pairs = [(label or "x", prediction) for label in column for prediction in column]
    rows = [row(i, *pair) for i, pair in enumerate(pairs)]
    path = export_predictions(rows, tmp_path / "a.tsv", format="vlmevalkit")
    ours = per_example_correctness(
        predictions=[row["prediction"] for row in rows],
        references=[row["answer"] for row in rows],
        variant="vlmevalkit",
    )
    assert vlmevalkit_scores(path) == ours


def test_a_table_for_vlmevalkit_written_by_hand(tmp_path):
    rows = [
        row(7, "4", "4.1"),
        row(3, "Peru", 'the "north"\tof\nPeru', "augmented"),
        row(4, ["10", "ten"], "ten", "other"),
        row(5, "0", "0", None),
        row(6, "", "unscored"),
    ]
    path = export_predictions(rows, tmp_path / "a.tsv", format="vlmevalkit")
    assert path.read_bytes().decode() == (
        '"index"\t"question"\t"answer"\t"split"\t"prediction"\n'
        '"7"\t"question 7?"\t"4"\t"test_human"\t"4.1"\n'
        '"3"\t"question 3?"\t"Peru"\t"test_augmented"\t"the ""north""\tof\nPeru"\n'
        '"4"\t"question 4?"\t"[\'10\', \'ten\']"\t"other"\t"ten"\n'
        '"5"\t"question 5?"\t"[\'0\']"\t"unknown"\t"0\u00a0"\n'
    )
    table = pandas.read_csv(path, sep="\t")
    assert list(table["index"]) == [7, 3, 4, 5]
    assert vlmevalkit_scores(path) == [1.0, 0.0, 1.0, 1.0]


def test_the_extracted_answer_is_scored_and_the_generated_text_kept(tmp_path):
    rows = [row(0, "4", "I think.\nAnswer: 4", extracted="4"), row(1, "5", "5", extracted="5")]
    path = export_predictions(rows, tmp_path / "a.tsv", format="vlmevalkit")
    with open(path, newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file, delimiter="\t"))
    assert [(one["prediction"], one["generated"]) for one in read] == [("4", "I think.\nAnswer: 4"), ("5", "5")]
    samples = lines(export_predictions(rows, tmp_path / "a.jsonl", format="lmms-eval"))
    assert [(one["filtered_resps"], one.get("resps")) for one in samples] == [
        (["4"], [["I think.\nAnswer: 4"]]),
        (["5"], None),
    ]
    log = json.loads(export_predictions(rows, tmp_path / "a.json", format="lmms-eval").read_text())
    assert [one["resps"] for one in log["logs"]] == [[["4"]], [["5"]]]


@pytest.mark.parametrize(
    "label",
    [
        *("__import__('os').system('echo 1 > PWNED')", "[open('PWNED', 'w')]", "9**9**9**9", "().__class__", "a.b"),
        *("(lambda: 1)()", "[x for x in (1,)]", "yes or no", "f'{1}'", "print('x')", "'\\d' + 'a'"),
        *("-" * 3_000 + "1", "-" * 30_000 + "1"),
    ],
)
def test_labels_that_are_code_are_not_run_and_score_alike(label, tmp_path):
    rows = [row(0, label, label), row(1, label, "x")]
    path = export_predictions(rows, tmp_path / "a.tsv", format="vlmevalkit")
    table = pandas.read_csv(path, sep="\t")
    assert table["answer"][0] == repr([label])
    assert eval(table["answer"][0], {"__builtins__": {}}) == [label]
    assert vlmevalkit_scores(path) == [1.0, 0.0]


@pytest.mark.parametrize("label", ["Peru", "exit", "2003", "-5", "12.5", "[2003, 2004]", "the USA", "3/4%", "it's"])
def test_other_labels_are_written_as_they_are(label, tmp_path):
    path = export_predictions([row(0, label)], tmp_path / "a.tsv", format="vlmevalkit")
    with open(path, newline="", encoding="utf-8") as file:
        assert next(csv.DictReader(file, delimiter="\t"))["answer"] == label


def test_texts_that_utf_8_or_pandas_cannot_hold_are_replaced(tmp_path):
    path = export_predictions([row(0, "a", "x\ud800y\0z")], tmp_path / "a.tsv", format="vlmevalkit")
    assert list(pandas.read_csv(path, sep="\t")["prediction"]) == ["x?y\ufffdz"]


# ------------------------------------------------------------------ lmms-eval
def lines(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_lmms_eval_computes_our_number_for_its_variant(rows, tmp_path):
    samples = lines(export_predictions(rows, tmp_path / "a.jsonl", format="lmms-eval"))
    ours = per_example_correctness(
        predictions=[row["prediction"] for row in rows],
        references=[row["answer"] for row in rows],
        variant="lmms_eval",
    )
    assert [sample["relaxed_overall"] for sample in samples] == ours
    assert [float(within_five_percent(one["filtered_resps"][0], one["target"])) for one in samples] == ours
    for source in ("human", "augmented"):
        of_source = [verdict for verdict, row in zip(ours, rows, strict=True) if row["source"] == source]
        assert [one[f"relaxed_{source}_split"] for one in samples if f"relaxed_{source}_split" in one] == of_source


def test_samples_of_lmms_eval_written_by_hand(tmp_path):
    rows = [row(7, "Peru", "peru"), row(3, "100", "106", "augmented"), row(4, 5, "5", None), row(5, None, "unscored")]
    written = write_predictions(rows_without_verdict(rows), tmp_path / "p.jsonl")
    path = export_predictions(written, tmp_path / "a.jsonl", format="lmms-eval")
    assert lines(path) == [
        {
            "doc_id": 7,
            "target": "Peru",
            "target_hash": hashlib.sha256(b"Peru").hexdigest(),
            "input": "question 7?",
            "filtered_resps": ["peru"],
            "relaxed_overall": 1.0,
            "relaxed_human_split": 1.0,
        },
        {
            "doc_id": 3,
            "target": "100",
            "target_hash": hashlib.sha256(b"100").hexdigest(),
            "input": "question 3?",
            "filtered_resps": ["106"],
            "relaxed_overall": 0.0,
            "relaxed_augmented_split": 0.0,
        },
        {
            "doc_id": 4,
            "target": "5",
            "target_hash": hashlib.sha256(b"5").hexdigest(),
            "input": "question 4?",
            "filtered_resps": ["5"],
            "relaxed_overall": 1.0,
        },
    ]


def rows_without_verdict(rows):
    return [{**row, "correct": None if row["answer"] is None else row["correct"]} for row in rows]


def test_a_log_for_from_log_gives_back_every_answer(tmp_path):
    rows = [row(0, "4", "4.1"), row(2, None, "no label"), row(1, ["a", "b"], "b")]
    log = json.loads(export_predictions(rows, tmp_path / "a.json", format="lmms-eval").read_text())
    assert log["args"]["limit"] is None  # from_log skips logs of a part of the questions
    assert log["model_configs"]["task"] == "chartqa"
    # As from_log reads it: resps[0] is the list of answers, of which it returns the first.
    answers = {entry["doc_id"]: entry["resps"][0][0] for entry in log["logs"]}
    assert answers == {0: "4.1", 2: "no label", 1: "b"}


# ------------------------------------------------------------------ refusals
@pytest.mark.parametrize(
    ("rows", "name", "format", "error", "message"),
    [
        ([row()], "a.tsv", "mmmu", ValueError, "format must be one of lmms-eval, vlmevalkit"),
        ([row()], "a.xlsx", "vlmevalkit", ValueError, r"a file for vlmevalkit must end in \.tsv"),
        ([row()], "a", "lmms-eval", ValueError, r"must end in \.jsonl or \.json"),
        ([], "a.tsv", "vlmevalkit", ValueError, "nothing to export"),
        ([row(answer=None)], "a.tsv", "vlmevalkit", ValueError, "no question has an answer"),
        ([row(answer=["a", "b"])], "a.jsonl", "lmms-eval", ValueError, "index 0 .* has 2 accepted answers"),
        ([{"question": "?"}], "a.tsv", "vlmevalkit", ValueError, r"predictions\[0\] lacks answer, prediction"),
        (["4"], "a.tsv", "vlmevalkit", TypeError, r"predictions\[0\] must be a dict"),
        (None, "a.tsv", "vlmevalkit", TypeError, "predictions is None"),
        ({}, "a.tsv", "vlmevalkit", TypeError, "predictions is {}"),
    ],
)
def test_what_cannot_be_exported_is_refused(rows, name, format, error, message, tmp_path):
    with pytest.raises(error, match=message):
        export_predictions(rows, tmp_path / name, format=format)
    assert list(tmp_path.iterdir()) == []


def test_one_accepted_answer_in_a_list_is_a_target(tmp_path):
    (sample,) = lines(export_predictions([row(answer=["4"])], tmp_path / "a.jsonl", format="lmms-eval"))
    assert sample["target"] == "4"


def test_left_out_questions_are_counted(tmp_path, caplog):
    export_predictions([row(0), row(1, answer=" ")], tmp_path / "a.jsonl", format="lmms-eval")
    assert "1 of 2 questions have no answer to compare with: they are left out" in caplog.text


def test_the_predictions_are_not_replaced_by_their_export(tmp_path):
    path = write_predictions([row()], tmp_path / "predictions.jsonl")
    (tmp_path / "link.jsonl").symlink_to(path)
    before = path.read_bytes()
    for output in (path, tmp_path / "link.jsonl"):
        with pytest.raises(ValueError, match=r"jsonl is the file that is read: write to another one"):
            export_predictions(path, output, format="lmms-eval")
    assert path.read_bytes() == before
