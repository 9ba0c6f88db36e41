"""Training and evaluation of several tasks in one run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from chartqa_ft.adapters import adapter_for, add_prompt_tokens
from chartqa_ft.evaluation.scoring import score_rows
from chartqa_ft.metrics.predictions import read_predictions
from chartqa_ft.training.trainer import ChartQATrainer

from ..support.common import Gradients, arguments, drawn_charts, relative_l2, tiny

WILD = 0.3
"""Standard deviation of weights with which an untrained model writes long answers of many kinds."""
TABLE = "Color,Height\nred,7\ngreen,2"


def mixed() -> list[dict]:
    rows = [dict(row) for row in drawn_charts(4)][:8]
    for row in rows[::3]:
        row.update(task="table", answer=TABLE, question="")
    rows[1].update(task="summary", answer="Red is tall.", question="")
    return rows


def models(**sizes: Any):
    model, processor = tiny(**sizes)
    add_prompt_tokens(model, processor, tasks=["table", "summary"])
    return model, processor


def trained(folder: Path, rows: list[dict], **changes):
    sizes = {"init_std": changes.pop("init_std")} if "init_std" in changes else {}
    model, processor = models(**sizes)
    args = arguments(folder, **{"per_device_train_batch_size": 8, **changes})
    return ChartQATrainer(model, args, train_dataset=rows, eval_dataset=rows, processing_class=processor)


def gradient(folder: Path, size: int, accumulation: int, rows=None, **changes):
    capture = Gradients()
    run = trained(
        folder,
        rows or mixed(),
        per_device_train_batch_size=size,
        gradient_accumulation_steps=accumulation,
        **changes,
    )
    run.add_callback(capture)
    run.train()
    return capture.vector, run.state.log_history[0]["loss"]


@pytest.mark.parametrize(("size", "accumulation"), [(8, 1), (4, 2), (1, 8)])
def test_weights_of_tasks_are_exact_however_a_step_is_split(tmp_path, size, accumulation):
    found, loss = gradient(tmp_path, size, accumulation, task_weights={"table": 0.25, "qa": 2.0})
    model, _ = models()
    trainer = trained(tmp_path / "reference", mixed())
    batch = trainer.adapter.encode(mixed())
    logits = model.train()(pixel_values=batch["pixel_values"], decoder_input_ids=batch["decoder_input_ids"]).logits
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), batch["labels"].flatten(), ignore_index=-100, reduction="none"
    ).view(8, -1)
    weights = torch.tensor([{"table": 0.25, None: 2.0}.get(row.get("task"), 1.0) for row in mixed()])
    expected = (losses * weights[:, None]).sum() / (batch["labels"] != -100).sum()
    expected.backward()
    vector = torch.cat([p.grad.double().flatten() for p in model.parameters() if p.grad is not None])
    assert relative_l2(found, vector) <= 1e-6
    assert loss == pytest.approx(expected.item(), rel=1e-6)


def test_a_run_of_qa_alone_has_the_same_bits_with_and_without_the_column(tmp_path):
    rows = [dict(row) for row in drawn_charts(4)][:8]
    plain, loss = gradient(tmp_path / "a", 8, 1, rows)
    named, same = gradient(tmp_path / "b", 8, 1, [{**row, "task": "qa"} for row in rows])
    assert torch.equal(plain, named)
    assert loss == same
    without = trained(tmp_path / "c", rows).evaluate()
    keys = [key for key in without if not key.endswith(("runtime", "per_second", "time"))]
    found = trained(tmp_path / "d", [{**row, "task": "qa"} for row in rows]).evaluate()
    assert {key: found[key] for key in keys} == {key: without[key] for key in keys}
    files = [next((tmp_path / run / "predictions").glob("*.jsonl")).read_bytes() for run in "cd"]
    assert files[0] == files[1]
    assert b'"task"' not in files[0]


def test_one_evaluation_scores_each_task_with_its_own_metrics_and_lengths(tmp_path):
    lengths = {"table": 9, "summary": 3}
    run = trained(tmp_path, mixed(), task_max_new_tokens=lengths, init_std=WILD)
    metrics = run.evaluate()
    assert metrics["eval_n"] == 4
    assert metrics["eval_table_n"] == 3
    assert metrics["eval_summary_n"] == 1
    assert {"eval_relaxed_accuracy", "eval_table_rms_f1", "eval_table_rnss", "eval_table_loss"} <= metrics.keys()
    rows = read_predictions(next((tmp_path / "predictions").glob("*.jsonl")))
    assert [row["task"] for row in rows] == ["table", "summary", "qa", "table", "qa", "qa", "table", "qa"]
    own = {**lengths, "qa": 6}
    assert len({row["prediction"] for row in rows}) > 4
    for row in rows:
        record = {**mixed()[row["index"]], "task": row["task"]}
        batch = run.adapter.encode([record], with_answers=False)
        ids = run.adapter.generate(run.model, batch, max_new_tokens=own[row["task"]])
        assert row["prediction"] == run.adapter.decode(ids)[0]
    assert run.scores[0].metrics["eval_table_n"] == 3


@pytest.mark.parametrize(("beams", "window"), [(1, 1), (2, 1), (2, 16)])
def test_lengths_of_tasks_hold_in_mixed_batches_of_any_kind(tmp_path, beams, window):
    changes = {"generation_num_beams": beams, "eval_window": window, "init_std": WILD}
    lengths = {"table": 9, "summary": 3}
    run = trained(tmp_path, mixed(), task_max_new_tokens=lengths, per_device_eval_batch_size=8, **changes)
    run.evaluate()
    answers = [row["prediction"] for row in run.evaluator.answered]
    single = trained(
        tmp_path / "single",
        mixed(),
        task_max_new_tokens=lengths,
        per_device_eval_batch_size=1,
        group_by_chart=False,
        **changes,
    )
    single.evaluate()
    assert answers == [row["prediction"] for row in single.evaluator.answered]


def test_settings_of_one_evaluation_precede_those_of_tasks(tmp_path):
    run = trained(tmp_path, mixed(), task_max_new_tokens={"table": 9})
    with run.evaluator.using({"max_new_tokens": 2}):
        assert run.evaluator.decoding_of_tasks()["table"]["max_new_tokens"] == 2
    assert run.evaluator.decoding_of_tasks()["table"]["max_new_tokens"] == 9
    assert run.evaluator.decoding_of_tasks()["summary"]["max_new_tokens"] == 256


def test_the_best_model_may_be_chosen_by_any_metric_of_a_task(tmp_path):
    changes = {"eval_strategy": "steps", "eval_steps": 1, "save_steps": 1, "save_strategy": "steps", "max_steps": 1}
    run = trained(tmp_path, mixed(), load_best_model_at_end=True, metric_for_best_model="table_rnss", **changes)
    run.train()
    assert run.state.best_metric == run.scores[1].metrics["eval_table_rnss"]


@pytest.mark.parametrize("metric", ["table_rms_f2", "open_qa_exact_match", "summary_rms_f1"])
def test_a_metric_that_no_task_of_the_records_has_is_refused_before_the_first_step(tmp_path, metric):
    changes = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "no"}
    run = trained(tmp_path, mixed(), metric_for_best_model=metric, **changes)
    with pytest.raises(ValueError, match=rf"metric_for_best_model='{metric}'.*table_rms_f1"):
        run.train()
    assert run.state.global_step == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task_weights": {"table": -1}}, r"task_weights\['table'\] must be a number of at least 0"),
        ({"task_weights": {"table": float("nan")}}, "must be a number"),
        ({"task_max_new_tokens": {"table": 0}}, "must be a whole number of at least 1"),
        ({"task_max_new_tokens": {"qa": 9}}, "set generation_max_new_tokens"),
        ({"task_weights": "table"}, "must be a dict, or JSON"),
    ],
)
def test_wrong_arguments_of_tasks_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        arguments(tmp_path, **changes)


def test_arguments_may_be_json(tmp_path):
    assert arguments(tmp_path, task_weights='{"table": 0.5}').task_weights == {"table": 0.5}


@pytest.mark.parametrize("name", ["task_weights", "task_max_new_tokens"])
def test_an_argument_of_an_unknown_task_is_refused_before_the_first_step(tmp_path, name):
    with pytest.raises(ValueError, match=f"{name} has 'tabel', and the tasks are qa, "):
        trained(tmp_path, mixed(), **{name: {"tabel": 2}}).train()


def test_a_task_that_the_model_cannot_be_asked_for_is_refused_before_the_first_step(tmp_path):
    model, processor = tiny()
    run = ChartQATrainer(model, arguments(tmp_path), train_dataset=mixed(), processing_class=processor)
    with pytest.raises(ValueError, match=r"extract_data_table.*add_prompt_tokens"):
        run.train()


def test_rows_without_answers_are_not_scored():
    rows = [
        {"task": "table", "answer": TABLE, "prediction": "Color | Height & red | 7 & green | 2", "source": None},
        {"task": "table", "answer": None, "prediction": "a | b", "source": None},
    ]
    metrics = score_rows(rows, variant="pix2struct")
    assert metrics["table_rms_f1"] == 1.0
    assert metrics["table_n"] == 1
    assert [row["correct"] for row in rows] == [1.0, None]


def test_records_without_a_task_for_a_checkpoint_of_another_are_pointed_out(tmp_path):
    model, processor = models()
    adapter = adapter_for(model, processor, task="summary")
    rows = [{key: row[key] for key in ("image", "question", "answer")} for row in mixed()]
    run = ChartQATrainer(model, arguments(tmp_path), train_dataset=rows, adapter=adapter, processing_class=processor)
    assert [str(found) for found in run.check("train").warnings] == [
        "the records name no task, and are taken for 'summary', the task of this checkpoint: for short answers load "
        "them with load_chartqa(..., task='qa'), or the model with task='qa'"
    ]


def test_an_own_loss_would_ignore_the_weights(tmp_path):
    class Own(ChartQATrainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            return model(**inputs).loss

    model, processor = models()
    run = Own(model, arguments(tmp_path, task_weights={"table": 2}), train_dataset=mixed(), processing_class=processor)
    with pytest.raises(ValueError, match="task_weights would not be used by the own compute_loss"):
        run.train()


def test_packed_questions_have_no_rows_to_weight(tmp_path):
    from ..support.families import build, records

    model, processor = build("llava")
    rows = [{**row, "task": "summary" if i else "qa"} for i, row in enumerate(records(2))]
    args = arguments(tmp_path, task_weights={"summary": 0.5}, pack_questions=True)
    with pytest.raises(ValueError, match="pack_questions=True is not possible: task_weights needs a row per question"):
        ChartQATrainer(model, args, train_dataset=rows, processing_class=processor)
