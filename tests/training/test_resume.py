"""A run that was killed and resumed ends as an unbroken one: weights to the last bit, losses, scores and rows."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import EarlyStoppingCallback

from ..support.common import drawn_charts, tiny, trainer
from ..support.launching import (
    FINETUNE,
    answers,
    as_command_line,
    example,
    last_step,
    report,
    rows_by_step,
    save_tiny,
    start_and_kill,
    start_prepared,
    start_python,
    without_times,
    write_original_layout,
)

# Where anything is forgotten, this shows it: dropout, drop path, random padding, accumulation, workers.
SETTINGS = {
    "train_split": "train",
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "learning_rate": 3e-3,
    "warmup_steps": 3,
    "generation_num_beams": 1,
    "generation_max_new_tokens": 4,
    "random_padding": True,
    "dataloader_num_workers": 2,
    "logging_steps": 3,
    "eval_steps": 2,
    "save_steps": 2,
    "log_level": "debug",
    "load_best_model_at_end": False,
    "disable_tqdm": True,
    "use_cpu": True,
}
DROPOUT = {"dropout": 0.1, "drop_path_rate": 0.1}


def check_resumed(unbroken: Path, resumed: Path) -> None:
    """Weights, optimizer, losses and answers of two finished runs are the same."""
    assert (resumed / "model.safetensors").read_bytes() == (unbroken / "model.safetensors").read_bytes()
    last = last_step(unbroken).name
    histories = []
    for folder in (unbroken, resumed):
        state = json.loads((folder / last / "trainer_state.json").read_text())
        histories.append([without_times(entry) for entry in state["log_history"]])
    assert histories[0] == histories[1]
    assert any("loss" in entry for entry in histories[0])
    assert any("eval_loss" in entry for entry in histories[0])
    assert (resumed / last / "model.safetensors").read_bytes() == (unbroken / last / "model.safetensors").read_bytes()
    moments = [
        torch.load(folder / last / "optimizer.pt", weights_only=True)["state"] for folder in (unbroken, resumed)
    ]
    for parameter, state in moments[0].items():
        assert all(torch.equal(value, moments[1][parameter][name]) for name, value in state.items())
    metrics = [without_times(report(folder)) for folder in (unbroken, resumed)]
    for entry in metrics:
        entry["best_checkpoint"] = Path(entry["best_checkpoint"] or "none").name
    assert metrics[0] == metrics[1]
    assert answers(unbroken) == answers(resumed)


def kill_and_resume(folder: Path, settings: dict[str, Any], processes: int, steps_per_epoch: int) -> int:
    """Run a training unbroken, and again with a kill in its second epoch; returns the step it was resumed from."""
    unbroken, broken = folder / "unbroken", folder / "broken"
    wanted = rows_by_step(start_prepared(FINETUNE, {**settings, "output_dir": unbroken}, processes).stderr)
    assert {rank for _, rank in wanted} == set(range(processes))
    final = max(step for step, _ in wanted)
    assert final + 1 == steps_per_epoch * settings["num_train_epochs"]
    assert wanted[0, 0] != wanted[steps_per_epoch, 0], "every epoch has its own order"

    broken_settings = {**settings, "output_dir": broken}
    text, step = start_and_kill(
        FINETUNE, broken_settings, processes, after_step=steps_per_epoch, log=folder / "killed.log"
    )
    assert steps_per_epoch < step < 2 * steps_per_epoch
    assert not (broken / "model.safetensors").exists()
    broken_settings["resume_from_checkpoint"] = "last"
    if processes > 1:
        again = start_prepared(FINETUNE, broken_settings, processes)
    else:  # strings have other hashes in a Python of its own
        again = start_python(FINETUNE, broken_settings)
    resumed = rows_by_step(again.stderr)
    assert resumed == {key: rows for key, rows in wanted.items() if key[0] >= step}
    before = {key: rows for key, rows in rows_by_step(text).items() if key[0] < step}
    assert before == {key: rows for key, rows in wanted.items() if key[0] < step}
    check_resumed(unbroken, broken)
    return step


@pytest.mark.long
def test_killed_and_resumed_on_two_processes(tmp_path):
    records = drawn_charts(16)
    settings = {
        **SETTINGS,
        "model_name_or_path": save_tiny(tmp_path / "tiny", **DROPOUT),
        "dataset_name": write_original_layout(tmp_path / "data", train=records, val=records.select(range(5))),
        "num_train_epochs": 3,
    }
    kill_and_resume(tmp_path, settings, processes=2, steps_per_epoch=len(records) // 8)


@pytest.mark.long
def test_killed_and_resumed_on_real_charts(tmp_path, shared):
    settings = {
        **SETTINGS,
        "model_name_or_path": save_tiny(tmp_path / "tiny", **DROPOUT),
        "dataset_name": shared / "chartqa",
        "train_split": "train[:20]",
        "eval_split": "test[:7]",
        "num_train_epochs": 3,
    }
    kill_and_resume(tmp_path, settings, processes=1, steps_per_epoch=5)


# ---------------------------------------------------------------------- in this process: every kind of run
STEPS = 9
CASES = {
    "plain": {},
    "one row per chart": {"group_by_chart": False},
    "no padding": {"random_padding": False},
    "two workers": {"dataloader_num_workers": 2, "dataloader_persistent_workers": True},
    "in order": {"train_sampling_strategy": "sequential"},
    "another order": {"data_seed": 7, "dataloader_drop_last": True},
    "stream": {"stream": True},
    "stream with workers": {"stream": True, "dataloader_num_workers": 2, "dataloader_persistent_workers": True},
    "shuffled stream": {"stream": "shuffled", "dataloader_drop_last": True},
}


def train(
    folder: Path, resume: str | bool | None = None, *, dropout: bool = True, stream: Any = False, **changes: Any
):
    """Train for 9 steps of 4 rows, two batches each, on 20 questions; a checkpoint every second step."""
    settings = {
        "max_steps": STEPS,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "save_strategy": "steps",
        "save_steps": 2,
        "logging_steps": 3,
        "eval_strategy": "steps",
        "eval_steps": 4,
        "random_padding": True,
    }
    records = drawn_charts().to_iterable_dataset(num_shards=2) if stream else drawn_charts()
    run = trainer(
        folder,
        model=tiny(**DROPOUT if dropout else {})[0],
        records=records.shuffle(seed=3, buffer_size=7) if stream == "shuffled" else records,
        eval_dataset=drawn_charts().select(range(3)),
        **{**settings, **changes},
    )
    output = run.train(resume_from_checkpoint=resume)
    return run, output


def assert_same(resumed: tuple, unbroken: tuple) -> None:
    weights = [run.model.state_dict() for run, _ in (resumed, unbroken)]
    for name, weight in weights[1].items():
        assert torch.equal(weights[0][name], weight), name
    histories = [[without_times(entry) for entry in run.state.log_history] for run, _ in (resumed, unbroken)]
    assert histories[0] == histories[1]
    assert resumed[1].training_loss == unbroken[1].training_loss
    assert resumed[0].state.global_step == STEPS


@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_run_resumes_to_the_same_bits(tmp_path, case):
    unbroken = train(tmp_path / "unbroken", **CASES[case])
    shutil.copytree(tmp_path / "unbroken" / "checkpoint-6", tmp_path / "broken" / "checkpoint-6")
    assert_same(train(tmp_path / "broken", resume=True, **CASES[case]), unbroken)


@pytest.mark.parametrize(("dropout", "stream"), [(False, False), (True, False), (True, True)])
def test_every_checkpoint_resumes_to_the_same_bits(tmp_path, dropout, stream):
    """Within the first epoch, at its end, at the start of the second, and when there is nothing left to do."""
    settings = {"dropout": dropout, "stream": stream, "save_steps": 1}
    unbroken = train(tmp_path, **settings)
    for step in (2, 5, 6, STEPS):
        assert_same(train(tmp_path, str(tmp_path / f"checkpoint-{step}"), **settings), unbroken)


@pytest.mark.parametrize("stop", [2, 4, 5, 7])
def test_a_stream_that_stops_within_an_epoch_is_read_on(tmp_path, caplog, stop):
    """At max_steps, upstream calls the end of the epoch also where the stream goes on: 5 steps are one epoch."""
    settings = {"stream": True, "save_strategy": "epoch", "eval_strategy": "no"}

    def rows(folder: Path, resume: bool | None = None, **changes: Any) -> dict:
        caplog.clear()
        with caplog.at_level(logging.DEBUG, logger="chartqa_ft.training.trainer"):
            train(folder, resume, **{**settings, **changes})
        return rows_by_step(caplog.text)

    wanted = rows(tmp_path / "unbroken")
    rows(tmp_path / "broken", max_steps=stop)
    resumed = rows(tmp_path / "broken", resume=True)
    assert resumed == {key: found for key, found in wanted.items() if key[0] >= stop}


def test_early_stopping_counts_on_after_a_resume_and_may_be_added_to_it(tmp_path):
    """With a learning rate of 0 no evaluation is better than the first: a patience of 3 ends a run at step 4."""
    settings = {"max_steps": STEPS, "learning_rate": 0.0, "metric_for_best_model": "loss"}
    settings |= {"save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps", "eval_steps": 1}

    def steps(folder: str, resume: str | None = None, *, callbacks: tuple = (), **changes: Any) -> int:
        records = drawn_charts().select(range(2))
        run = trainer(tmp_path / folder, eval_dataset=records, callbacks=list(callbacks), **{**settings, **changes})
        run.train(resume_from_checkpoint=None if resume is None else str(tmp_path / resume))
        return run.state.global_step

    assert steps("whole", callbacks=(EarlyStoppingCallback(3),)) == 4
    assert steps("again", "whole/checkpoint-2", callbacks=(EarlyStoppingCallback(3),)) == 4
    assert steps("without", max_steps=2) == 2
    assert steps("added", "without/checkpoint-2", callbacks=(EarlyStoppingCallback(3),)) == 5


# ---------------------------------------------------------------------- checkpoints that were cut off
def cut_off(checkpoint: Path) -> None:
    """What a process leaves that is killed while it saves: a torn file, and no mark that all was written."""
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    (checkpoint / "chartqa_state.json").unlink()
    (checkpoint / "trainer_state.json").unlink()


def test_a_checkpoint_that_was_cut_off_is_passed_over(tmp_path, caplog):
    unbroken = train(tmp_path)
    shutil.rmtree(tmp_path / "checkpoint-9")
    cut_off(tmp_path / "checkpoint-8")
    with caplog.at_level(logging.DEBUG, logger="chartqa_ft"):
        resumed = train(tmp_path, resume=True)
    assert f"{tmp_path / 'checkpoint-8'} was not written to its end" in caplog.text
    assert min(step for step, _ in rows_by_step(caplog.text)) == 6
    assert_same(resumed, unbroken)
    assert load_file(tmp_path / "checkpoint-8" / "model.safetensors")


def test_without_a_complete_checkpoint_the_script_says_so_and_starts(tmp_path, caplog):
    model = save_tiny(tmp_path / "tiny")
    records = drawn_charts().select(range(4))
    data = write_original_layout(tmp_path / "data", train=records)
    output = tmp_path / "out"
    (output / "checkpoint-8").mkdir(parents=True)
    settings = {
        **SETTINGS,
        "model_name_or_path": model,
        "dataset_name": data,
        "eval_split": "train",
        "output_dir": output,
    }
    one_step = {"max_steps": 1, "warmup_steps": 0, "eval_steps": 1, "dataloader_num_workers": 0, "log_level": "info"}
    line = as_command_line({**settings, **one_step})
    example(FINETUNE).main([*line, "--resume_from_checkpoint", "last"])
    assert f"{output / 'checkpoint-8'} was not written to its end" in caplog.text
    assert f"{output} contains no complete checkpoint: training starts at step 0" in caplog.text
    assert len(answers(output)) == 4
    with pytest.raises(ValueError, match=r"no complete checkpoint in .*: start without resuming"):
        train(tmp_path / "empty", resume=True)
