"""A disk that is full says so in plain words, whichever library writes, and what to do about it."""

from __future__ import annotations

import errno
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import torch

from chartqa_ft.models.saving import naming_a_full_disk
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
