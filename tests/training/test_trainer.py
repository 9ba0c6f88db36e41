"""Training of a whole model: it learns, keeps its best checkpoint, stops early, reads streams."""

from __future__ import annotations

import json
import logging
import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import EarlyStoppingCallback

from ..support.common import drawn_charts, scored_trainer, tiny, trainer


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


class SizedStream(torch.utils.data.IterableDataset):
    """A stream of torch that knows its length, and has no records by number."""

    def __init__(self, records):
        self.records = list(records)

    def __iter__(self):
        return iter(self.records)

    def __len__(self):
        return len(self.records)


def test_a_stream_with_a_length_is_a_stream(tmp_path):
    stream = SizedStream(drawn_charts().select(range(6)))
    run = trainer(tmp_path, records=stream, eval_dataset=stream, max_steps=2, eval_strategy="steps", eval_steps=2)
    assert run.train().global_step == 2
    assert run.scores[2].metrics["eval_n"] == 6


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


def scored(folder, scores, **changes):
    return scored_trainer(folder, scores, metric="relaxed_accuracy", **{"learning_rate": 1e-2, **changes})


def has_weights_of(run, checkpoint) -> bool:
    saved, own = load_file(checkpoint / "model.safetensors"), run.model.state_dict()
    return all(torch.equal(value, own[key]) for key, value in saved.items())


@pytest.mark.parametrize(("scores", "best"), [((0.1, 0.5, 0.9, 0.2), 3), ((0.9, 0.1, 0.2, 0.2), 1)])
def test_the_best_model_is_saved_when_it_is_found(tmp_path, scores, best):
    """Upstream saves it with the next `save_steps`, when it is another model, or not at all."""
    run = scored(tmp_path, scores, max_steps=4, save_steps=2)
    run.train()
    folder = tmp_path / f"checkpoint-{best}"
    assert run.state.best_model_checkpoint == str(folder)
    assert run.weights_step == run.state.best_global_step == best
    assert run.scores[best].metrics["eval_relaxed_accuracy"] == 0.9
    assert has_weights_of(run, folder)
    assert not has_weights_of(run, tmp_path / "checkpoint-4")


def test_the_best_model_is_there_when_a_run_stops_before_its_first_save(tmp_path):
    run = scored(tmp_path, (0.1, 0.9, 0.2, 0.2), max_steps=9, save_steps=9, callbacks=[EarlyStoppingCallback(2)])
    run.train()
    assert (run.state.global_step, run.weights_step) == (4, 2)
    assert has_weights_of(run, tmp_path / "checkpoint-2")


def test_a_best_model_that_is_not_to_be_loaded_is_not_saved(tmp_path):
    run = scored(tmp_path, (0.9, 0.1), max_steps=2, save_steps=2, load_best_model_at_end=False)
    run.train()
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-2"]
    assert run.weights_step == 2


def test_a_checkpoint_of_an_earlier_run_is_not_the_best_of_this_one(tmp_path):
    settings = {"max_steps": 2, "save_steps": 2, "load_best_model_at_end": False}
    trainer(tmp_path, max_steps=1, save_strategy="steps", save_steps=1).train()
    run = scored(tmp_path, (0.9, 0.1), metric_for_best_model="relaxed_accuracy", **settings)
    run.train()
    assert (run.state.best_global_step, run.state.best_model_checkpoint) == (1, None)
    stored = json.loads((tmp_path / "checkpoint-2" / "trainer_state.json").read_text())
    assert stored["best_model_checkpoint"] is None


def test_a_resumed_run_takes_its_best_model_from_its_own_checkpoints(tmp_path, caplog):
    """Checkpoint 1 was replaced by one of another run; the run has no best model to load, and finds a new one."""
    scored(tmp_path, (0.9, 0.1), max_steps=2, save_steps=1).train()
    trainer(tmp_path / "other", max_steps=1, save_strategy="steps", save_steps=1).train()
    shutil.rmtree(tmp_path / "checkpoint-1")
    shutil.copytree(tmp_path / "other" / "checkpoint-1", tmp_path / "checkpoint-1")
    run = scored(tmp_path, (0.3, 0.2), max_steps=4, save_steps=1)
    run.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert "the weights of the best evaluation so far (step 1) are gone" in caplog.text
    assert (run.state.best_metric, run.weights_step) == (0.3, 3)
    assert has_weights_of(run, tmp_path / "checkpoint-3")


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
