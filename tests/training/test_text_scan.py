"""Texts that a model cannot take stop a run before its first step, or are left out and counted."""

from __future__ import annotations

import copy

import pytest
import torch
from datasets import Dataset

from chartqa_ft import ChartQATrainer, adapter_for, read_predictions
from chartqa_ft.data.chart_subset import chart_subset

from ..support.common import arguments, drawn_charts, tiny, trainer

LONG = "value " * 300


def with_answers(answers, question=None):
    rows = [dict(row) for row in drawn_charts().select(range(6))]
    for row, answer in answers.items():
        rows[row]["answer"] = answer
    if question is not None:
        rows[5]["question"] = question
    return rows


@pytest.mark.parametrize(
    ("answers", "question", "says"),
    [
        ({3: "a</s>b"}, None, "row 3: record .* holds '</s>'"),
        ({3: LONG, 4: LONG}, None, "2 of 6 records cannot be used: row 3: .*the answer takes .*; row 4"),
        ({2: None}, None, "row 2: .*no answer"),
        ({2: {"a": 1}}, None, "row 2: .*is a dict"),
        ({}, "What is <s_answer>?", "row 5: .*question holds '<s_answer>'"),
    ],
)
def test_bad_records_stop_a_training_before_its_first_step(tmp_path, answers, question, says):
    run = trainer(tmp_path, records=with_answers(answers, question))
    with pytest.raises(ValueError, match=rf"train_dataset: .*{says}"):
        run.train()
    assert run.state.global_step == 0


def test_bad_records_of_the_evaluation_stop_a_training_too(tmp_path):
    parts = {"good": with_answers({}), "bad": with_answers({}, "What is </s>?")}
    run = trainer(tmp_path, eval_dataset=parts, eval_strategy="steps", eval_steps=1)
    with pytest.raises(ValueError, match=r"eval_dataset\['bad'\]: 1 of 6 records"):
        run.train()
    assert run.state.global_step == 0


def test_bad_records_are_left_out_and_counted_if_asked(tmp_path, caplog):
    records = drawn_charts().select(range(6))
    answers = ["a</s>b", *records["answer"][1:]]
    records = records.remove_columns("answer").add_column("answer", answers)
    run = trainer(tmp_path, records=records, eval_dataset=records, on_bad_text="skip")
    run.train()
    assert run.state.global_step == 1
    assert len(run.train_dataset) == 5
    assert "train_dataset: 1 of 6 records cannot be used: row 0: record" in caplog.text
    metrics = run.evaluate()
    assert metrics["eval_n_human"] + metrics["eval_n_augmented"] == 5
    with pytest.raises(ValueError, match="test_dataset: 1 of 6 records cannot be used"):
        run.predict(records)  # owes an answer to every record


@pytest.mark.parametrize("kind", ["data set", "list", "subset"])
def test_rows_of_an_evaluation_have_the_numbers_of_all_records(tmp_path, kind):
    whole, hard = drawn_charts().select(range(6)), with_answers({0: "a</s>b", 2: "c</s>d"})
    if kind != "list":
        hard = whole.remove_columns("answer").add_column("answer", [row["answer"] for row in hard])
    subset = {"eval_subset": 2, "eval_strategy": "steps", "eval_steps": 1} if kind == "subset" else {}
    run = trainer(tmp_path, eval_dataset={"easy": whole.select(range(2)), "hard": hard}, on_bad_text="skip", **subset)
    kept = [1, 3, 4, 5]
    if kind == "subset":
        usable = whole.select(kept)
        chosen = chart_subset(usable["source"], usable["chart_id"], 2, seed=run.args.seed)
        kept = [kept[row] for row in chosen]
        run.train()
    else:
        run.evaluate()
    step = run.state.global_step
    rows = read_predictions(tmp_path / "predictions" / f"eval_hard-step-{step}.jsonl")
    assert [row["index"] for row in rows] == kept
    assert [row["question"] for row in rows] == [whole[number]["question"] for number in kept]
    assert run.scores[step].part == "hard"
    assert run.scores[step].records is hard
    assert run.scores[step].chart(run.scores[step].rows[0]).tobytes() == whole[kept[0]]["image"].tobytes()


def test_nothing_is_trained_if_no_record_is_left(tmp_path):
    records = with_answers(dict.fromkeys(range(6), "a</s>b"))
    with pytest.raises(ValueError, match=r"6 of 6 records cannot be used.*and 3 more"):
        trainer(tmp_path, records=records, on_bad_text="skip").train()


def test_a_label_longer_than_the_model_stops_no_evaluation(tmp_path, caplog):
    records = with_answers({1: LONG, 4: LONG})
    run = trainer(tmp_path, eval_dataset=records, per_device_eval_batch_size=3)
    metrics = run.evaluate()
    whole = run.evaluate([row for row in records if row["answer"] != LONG])
    assert metrics["eval_loss"] == pytest.approx(whole["eval_loss"], rel=1e-5)
    assert caplog.text.count("left out of the loss of this evaluation") == 2
    output = run.predict(records)
    assert len(output.predictions) == 6
    assert output.metrics["test_loss"] == pytest.approx(whole["eval_loss"], rel=1e-5)


@pytest.mark.parametrize("answer", [["7"], ("7",), [7], "  7 "])
def test_the_only_item_of_a_list_is_learned_and_right(tmp_path, answer):
    records = with_answers(dict.fromkeys(range(6), answer))
    run = trainer(tmp_path, records=records, eval_dataset=records)
    labels = next(iter(run.get_train_dataloader()))["labels"]
    assert set(run.adapter.decode(labels)) == {"7"}
    assert set(map(str, run.predict(records).label_ids)) == {"7"}


def test_a_data_set_is_scanned_once(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "chartqa_ft.training.text_scan.find_bad_texts", lambda *a, **k: calls.append(k["training"]) or []
    )
    records = drawn_charts().select(range(6))
    run = trainer(tmp_path, records=records, eval_dataset=records, eval_strategy="steps", eval_steps=1)
    run.train()
    run.evaluate()
    assert sorted(calls) == [False, True]
    run.adapter.limit -= 1
    run.evaluate()
    assert len(calls) == 3


@pytest.mark.parametrize("kind", [list, tuple, None])
def test_what_did_not_change_is_not_scanned_again(tmp_path, monkeypatch, kind):
    calls = []
    monkeypatch.setattr(
        "chartqa_ft.training.text_scan.find_bad_texts", lambda *a, **k: calls.append(k["training"]) or []
    )
    records = drawn_charts().select(range(6))
    if kind is not None:
        records = kind(dict(row) for row in records)
    run = trainer(tmp_path, records=records, eval_dataset=records, eval_strategy="steps", eval_steps=1)
    for _ in range(2):
        run.train()
        run.evaluate()
        run.check()
    assert sorted(calls) == [False, True]


@pytest.mark.parametrize(
    "changes", [{"answer": "8"}, {"question": "Why?"}, {"answer": ["8"]}, {"answer": 8}, {"answer": None}]
)
def test_a_list_that_changed_is_scanned_again(tmp_path, monkeypatch, changes):
    calls = []
    monkeypatch.setattr("chartqa_ft.training.text_scan.find_bad_texts", lambda *a, **k: calls.append(len(a[1])) or [])
    records = with_answers({})
    scan = trainer(tmp_path, records=records).texts
    for _ in range(2):
        scan.bad_texts(records, training=True)
    assert calls == [6]
    records[2].update(changes)
    for _ in range(2):
        scan.bad_texts(records, training=True)
    assert calls == [6, 6]
    scan.bad_texts([*records, {**records[0], "answer": {"a": 1}}], training=True)
    assert calls == [6, 6, 7]


def test_other_values_of_on_bad_text_are_refused(tmp_path):
    with pytest.raises(ValueError, match="on_bad_text='drop' is not known: use raise or skip"):
        arguments(tmp_path, on_bad_text="drop")


# ---------------------------------------------------------------------- sizes
@pytest.mark.parametrize("size", [[192, 96], (192, 96), 96, "96", [96]])
def test_a_size_that_does_not_name_its_sides_is_refused(tmp_path, size):
    model, processor = tiny()
    processor = copy.deepcopy(processor)
    processor.image_processor.size = size
    with pytest.raises(ValueError, match=r"image_processor\.size is .* set it to a dict such as .*\"height\""):
        ChartQATrainer(model, arguments(tmp_path), train_dataset=drawn_charts(), processing_class=processor)


def test_a_size_set_after_the_adapter_was_made_is_refused_too(tmp_path):
    model, processor = tiny()
    processor = copy.deepcopy(processor)
    adapter = adapter_for(model, processor)
    processor.image_processor.size = [192, 96]
    with pytest.raises(ValueError, match=r"image_processor\.size is \[192, 96\]"):
        ChartQATrainer(model, arguments(tmp_path), train_dataset=drawn_charts(), adapter=adapter)


def test_a_resampling_that_is_text_is_refused(tmp_path):
    model, processor = tiny()
    processor = copy.deepcopy(processor)
    processor.image_processor.resample = "bicubic"
    with pytest.raises(ValueError, match=r"image_processor\.resample is 'bicubic': set it to .*PIL\.Image"):
        ChartQATrainer(model, arguments(tmp_path), train_dataset=drawn_charts(), processing_class=processor)


def test_check_returns_what_training_raises(tmp_path):
    run = trainer(tmp_path, records=with_answers({1: "a</s>b", 3: float("inf")}), warmup_steps=50, max_steps=2)
    errors = run.check().errors
    assert {"train_dataset", "warmup_steps"} <= {finding.name for finding in errors}
    with pytest.raises(ValueError, match="2 of 6 records cannot be used") as error:
        run.train()
    assert all(finding.message in str(error.value) for finding in errors)
    assert run.state.global_step == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_records_of_a_stream_are_left_out_of_the_training_and_counted(tmp_path, workers, caplog):
    rows = with_answers({3: "a</s>b", 4: None})
    good = [row for number, row in enumerate(rows) if number not in (3, 4)]
    settings = {"max_steps": 2, "per_device_train_batch_size": 2, "dataloader_num_workers": workers}
    runs = []
    for number, records in enumerate((rows, good)):
        stream = Dataset.from_list(records).to_iterable_dataset()
        run = trainer(tmp_path / str(number), records=stream, on_bad_text="skip", **settings)
        run.train()
        runs.append(run)
    for name, weight in runs[1].model.state_dict().items():
        assert torch.equal(runs[0].model.state_dict()[name], weight), name
    assert "record 3 of train_dataset is left out: record (chart_id=" in caplog.text
    assert "2 of 6 records of train_dataset were left out" in caplog.text
    refusing = trainer(tmp_path / "raise", records=Dataset.from_list(rows).to_iterable_dataset(), **settings)
    with pytest.raises(ValueError, match="</s>"):
        refusing.train()


def test_a_stream_of_bad_records_alone_is_refused(tmp_path):
    stream = Dataset.from_list(with_answers(dict.fromkeys(range(6), "a</s>b"))).to_iterable_dataset()
    with pytest.raises(ValueError, match=r"none of the 6 records of train_dataset can be used, the last one: .*</s>"):
        trainer(tmp_path, records=stream, on_bad_text="skip").train()


def test_it_is_said_where_bad_records_cannot_be_left_out(tmp_path):
    stored = Dataset.from_list(with_answers({}))
    made, stream = stored.with_transform(lambda batch: batch), stored.to_iterable_dataset()
    for train, evaluated, said in (
        (made, stored, ["train_dataset"]),
        (stream, {"a": stream, "b": stored}, ["eval_dataset"]),
        (stored, list(stored), []),
    ):
        run = trainer(
            tmp_path, records=train, eval_dataset=evaluated, eval_strategy="steps", eval_steps=1, on_bad_text="skip"
        )
        found = [finding.name for finding in run.check("train").warnings if "on_bad_text='skip'" in str(finding)]
        assert found == said
