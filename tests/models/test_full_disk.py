"""A disk that is full says so in plain words, whichever library writes, and what to do about it."""

from __future__ import annotations

import errno
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch

from chartqa_ft import ChartQATrainer
from chartqa_ft.evaluation.results import EvaluationResult, write_scores
from chartqa_ft.files import write_json
from chartqa_ft.metrics.predictions import FIELDS, read_predictions, write_predictions
from chartqa_ft.models.chartqa_config import save_settings
from chartqa_ft.models.saving import naming_a_full_disk
from chartqa_ft.report import draw_answers
from chartqa_ft.resources import is_full_disk
from chartqa_ft.training.running_loss import last_checkpoint

from ..support.families import records


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes, which libraries meet as a full disk."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture
def trainer(base_trainer):
    return partial(base_trainer, train_dataset=records(4))


def test_states_of_the_optimizer_that_do_not_fit(tmp_path, trainer):
    made = trainer(tmp_path, save_strategy="steps", save_steps=1, max_steps=2)
    made.train()
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
    sizes = [(tmp_path / "checkpoint-2" / name).stat().st_size for name in ("model.safetensors", "optimizer.pt")]
    made = trainer(tmp_path, save_strategy="steps", save_steps=3, max_steps=3)
    with room_for(sum(sizes) // 2), pytest.raises(OSError) as caught:
        made.train(resume_from_checkpoint=True)
    assert caught.value.errno == errno.ENOSPC
    third = tmp_path / "checkpoint-3"
    told = f"the disk is full: {third} is incomplete, and training stops. Earlier checkpoints are untouched"
    assert caught.value.strerror.startswith(told)
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
    made = trainer(tmp_path, save_strategy="steps", save_steps=3, max_steps=3)
    assert made.train(resume_from_checkpoint=True).global_step == 3
    assert last_checkpoint(tmp_path) == str(third)


def test_a_model_of_a_checkpoint_that_does_not_fit_is_told_once(tmp_path, trainer):
    made = trainer(tmp_path, save_strategy="steps", save_steps=1)
    with room_for(50_000), pytest.raises(OSError) as caught:
        made.train()
    folder = tmp_path / "checkpoint-1"
    assert caught.value.strerror.startswith(f"the disk is full: the model could not be saved in {folder}. ")
    assert "trainer.save_model()" in caught.value.strerror


def test_a_merged_model_that_does_not_fit_names_what_repeats_it(tmp_path, trainer):
    made = trainer(tmp_path, lora=True)
    made.save_model()
    with room_for(50_000), pytest.raises(OSError) as caught:
        made.save_merged()
    assert caught.value.errno == errno.ENOSPC
    assert f"could not be saved in {tmp_path / 'merged'}. " in caught.value.strerror
    assert caught.value.strerror.endswith("then save again: trainer.save_merged()")
    made.save_merged()
    assert (tmp_path / "merged" / "model.safetensors").is_file()


def test_other_errors_are_left_alone(tmp_path):
    with pytest.raises(RuntimeError, match="nowhere"), naming_a_full_disk("nothing"):
        torch.save({}, tmp_path / "nowhere" / "file.pt")
    with pytest.raises(FileNotFoundError), naming_a_full_disk("nothing"):
        (tmp_path / "none").read_bytes()


ROWS = [dict(zip(FIELDS, (0, "c1.png", "How many bars?", "3", "3", 1.0, "human"), strict=True))]
SCORED = EvaluationResult(step=1, prefix="eval_", metrics={"eval_relaxed_accuracy": 0.5}, decoding={})

MODEL_WRITES: dict[str, Callable[[ChartQATrainer], object]] = {
    "the weights": lambda made: made.save_model(),
    "a checkpoint": lambda made: made.train(),
    "the predictions of an evaluation": lambda made: made.evaluate(records(4)),
    "settings": lambda made: save_settings(made.adapter, made.args.output_dir),
    "arguments": lambda made: made.args.save_json(f"{made.args.output_dir}/training_args.json"),
}
FILE_WRITES: dict[str, Callable[[Path], object]] = {
    "predictions": lambda folder: write_predictions(ROWS, folder / "predictions.jsonl"),
    "metrics.json": lambda folder: write_json(folder / "metrics.json", {"n": 1}),
    "scores": lambda folder: write_scores({1: SCORED}, folder, folder),
    "a picture": lambda folder: draw_answers(
        [{**row, "prediction": "1", "correct": 1.0} for row in records(1)], folder / "answers.png"
    ),
}


def check_full(folder: Path, write: Callable[[], object]) -> None:
    with room_for(0), pytest.raises(OSError, match="the disk is full: ") as caught:
        write()
    assert str(folder) in str(caught.value)
    assert caught.value.errno in (errno.ENOSPC, errno.EFBIG)
    assert is_full_disk(caught.value.__cause__)
    assert [path for path in folder.rglob("*") if path.name.endswith((".part", "predictions.jsonl"))] == []


@pytest.mark.parametrize("lora", [False, True], ids=["full", "LoRA"])
@pytest.mark.parametrize("what", MODEL_WRITES)
def test_every_write_of_a_trainer_says_that_the_disk_is_full_and_where(tmp_path, trainer, what, lora):
    made = trainer(
        tmp_path / "out", lora=lora, save_strategy="steps", save_steps=1, max_steps=1, logging_strategy="no"
    )
    check_full(tmp_path / "out", partial(MODEL_WRITES[what], made))


@pytest.mark.parametrize("what", FILE_WRITES)
def test_every_write_of_a_file_says_that_the_disk_is_full_and_where(tmp_path, what):
    check_full(tmp_path / "out", partial(FILE_WRITES[what], tmp_path / "out"))


def test_a_full_temporary_folder_is_named(tmp_path, trainer):
    with room_for(0), pytest.raises(OSError, match=r"the disk is full: .* set TMPDIR to another folder"):
        trainer(tmp_path)


def test_answers_that_cannot_be_written_stay_in_memory(tmp_path, trainer):
    made = trainer(tmp_path)
    with room_for(0), pytest.raises(OSError, match=r"The evaluation is complete \(eval_relaxed_accuracy ") as caught:
        made.evaluate(records(4))
    assert str(tmp_path / "predictions" / "eval-step-0.jsonl") in str(caught.value)
    path = write_predictions(made.evaluator.rows, tmp_path / "later.jsonl")
    assert [row["index"] for row in read_predictions(path)] == [0, 1, 2, 3]


def test_a_quota_and_a_full_disk_keep_their_numbers(tmp_path):
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        with pytest.raises(OSError, match="the disk is full: ") as caught, naming_a_full_disk("nothing is lost"):
            raise OSError(number, "any text")
        assert caught.value.errno == number


def test_a_log_that_cannot_be_written_names_its_step(tmp_path, trainer, monkeypatch):
    made = trainer(tmp_path, max_steps=1, logging_steps=1)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(made.callback_handler, "on_log", full)
    with pytest.raises(
        OSError, match=r"the disk is full: the log of step 1 could not be written \(standard output, or report_to="
    ):
        made.train()
