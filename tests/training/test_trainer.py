"""Training of a whole model: it learns, keeps its best checkpoint, stops early, reads streams."""

from __future__ import annotations

import logging

import pytest
import torch
from safetensors.torch import load_file
from transformers import EarlyStoppingCallback

from ..support.common import drawn_charts, tiny, trainer


def test_streams_train_and_evaluate_as_their_data_set(tmp_path):
    records = drawn_charts().select(range(10))
    stream = records.to_iterable_dataset()
    plain = trainer(tmp_path / "a", eval_dataset=records, per_device_eval_batch_size=4)
    streamed = trainer(
        tmp_path / "b", records=stream, eval_dataset=stream, per_device_eval_batch_size=4, dataloader_num_workers=2
    )
    wanted, metrics = plain.evaluate(), streamed.evaluate()
    assert metrics["eval_n"] == 10
    same = [key for key in wanted if not key.endswith(("_time", "runtime", "second", "eval_loss"))]
    assert {key: metrics[key] for key in same} == {key: wanted[key] for key in same}
    assert metrics["eval_loss"] == pytest.approx(wanted["eval_loss"], rel=1e-6)
    assert streamed.train().training_loss > 0


@pytest.mark.parametrize("workers", [0, 2])
def test_the_last_step_of_a_stream_is_whole(tmp_path, workers):
    """`Trainer` does not know where a stream ends, and added three left-over batches to the next step of four."""
    records = drawn_charts().select(range(7))
    settings = {
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 4,
        "max_steps": 5,
        "optim": "sgd",
        "learning_rate": 0.5,
        "train_sampling_strategy": "sequential",
    }
    plain = trainer(tmp_path / "a", records=records, group_by_chart=False, **settings)
    streamed = trainer(
        tmp_path / "b", records=records.to_iterable_dataset(), dataloader_num_workers=workers, **settings
    )
    losses = [one.train().training_loss for one in (plain, streamed)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    for name, weight in plain.model.state_dict().items():
        torch.testing.assert_close(streamed.model.state_dict()[name], weight, rtol=1e-5, atol=1e-7, msg=name)


def test_training_learns_and_moves_every_parameter(tmp_path):
    model, _ = tiny()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    learning = trainer(
        tmp_path,
        model=model,
        eval_dataset=drawn_charts().select(range(6)),
        max_steps=30,
        learning_rate=3e-3,
        per_device_train_batch_size=8,
        random_padding=True,
    )
    start = learning.evaluate()["eval_loss"]
    learning.train()
    assert learning.evaluate()["eval_loss"] < start - 1
    still = [name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])]
    assert still == []


def test_best_checkpoint_is_that_of_relaxed_accuracy(tmp_path):
    scores = iter([0.2, 0.6, 0.4, 0.1])
    learning = trainer(
        tmp_path,
        eval_dataset=drawn_charts().select(range(4)),
        max_steps=4,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        save_total_limit=2,
        load_best_model_at_end=True,
        compute_metrics=lambda prediction: {"relaxed_accuracy": next(scores)},
    )
    learning.train()
    assert learning.args.metric_for_best_model == "relaxed_accuracy"
    assert learning.args.greater_is_better is True
    assert learning.state.best_metric == 0.6
    assert learning.state.best_model_checkpoint.endswith("checkpoint-2")
    best = load_file(tmp_path / "checkpoint-2" / "model.safetensors")
    assert all(torch.equal(value, learning.model.state_dict()[key]) for key, value in best.items())


def test_early_stopping(tmp_path):
    scores = iter([0.5, 0.4, 0.3, 0.2, 0.1, 0.0])
    learning = trainer(
        tmp_path,
        eval_dataset=drawn_charts().select(range(4)),
        max_steps=6,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        load_best_model_at_end=True,
        compute_metrics=lambda prediction: {"relaxed_accuracy": next(scores)},
        callbacks=[EarlyStoppingCallback(early_stopping_patience=2)],
    )
    learning.train()
    assert learning.state.global_step == 3


def test_bfloat16_on_the_cpu_trains(tmp_path):
    learning = trainer(tmp_path, bf16=True, max_steps=2, eval_dataset=drawn_charts().select(range(4)))
    assert learning.args.precision == "bf16"
    exact = trainer(tmp_path / "b", max_steps=2)
    assert learning.train().training_loss == pytest.approx(exact.train().training_loss, rel=2e-2)
    assert learning.evaluate()["eval_n"] == 4


def test_rows_of_every_step_are_logged_at_debug_level(tmp_path, caplog):
    with caplog.at_level(logging.DEBUG, logger="chartqa_ft.training.trainer"):
        trainer(tmp_path, max_steps=2, per_device_train_batch_size=2).train()
    lines = [record.getMessage() for record in caplog.records if " rows " in record.getMessage()]
    assert len(lines) == 2
    assert lines[0].startswith("step 0 rank 0 rows [")
