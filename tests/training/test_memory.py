"""Memory that runs out is told with what was needed, what is kept and what to lower, by an error of the same class."""

from __future__ import annotations

import pytest
import torch
from accelerate.utils.memory import should_reduce_batch_size

from chartqa_ft import ChartQATrainer, answer_questions, tiny_unichart
from chartqa_ft.metrics.predictions import read_predictions
from chartqa_ft.resources import is_out_of_memory, same_kind
from chartqa_ft.training.running_loss import last_checkpoint

from ..support.common import arguments
from ..support.families import records

CUDA = "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.10 GiB"
KINDS = {
    "cuda": (torch.OutOfMemoryError, lambda: torch.OutOfMemoryError(CUDA), "(20.00 GiB more were requested)"),
    "python": (MemoryError, MemoryError, "out of memory while training."),
    "cublas": (RuntimeError, lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), "while training."),
}


def make(folder, **changes) -> ChartQATrainer:
    model, processor = tiny_unichart("test", image_size=64, window_size=4)
    return ChartQATrainer(model, arguments(folder, **changes), records(4), records(4), processing_class=processor)


def fail(error):
    def raises(*_, **__):
        raise error()

    return raises


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_step_without_memory(tmp_path, monkeypatch, kind):
    expected, error, requested = KINDS[kind]
    made = make(tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=1)
    monkeypatch.setattr(made.model, "forward", fail(error))
    monkeypatch.setattr(made.model.encoder, "forward", fail(error))
    with pytest.raises(expected) as caught:
        made.train()
    text = str(caught.value)
    assert type(caught.value.__cause__) is expected
    assert requested in text
    assert "The last batch had 2 rows" in text
    assert "lower per_device_train_batch_size from 2 to 1 and raise gradient_accumulation_steps from 1 to 2" in text
    assert "activation_checkpointing=True" in text
    assert "lower image_size of the charts" in text
    assert should_reduce_batch_size(caught.value) is (kind == "cuda")


def test_a_real_allocation_that_no_machine_has(tmp_path, monkeypatch):
    made = make(tmp_path, per_device_train_batch_size=1)
    monkeypatch.setattr(made.model.encoder, "forward", lambda *_, **__: torch.empty(1 << 50, dtype=torch.uint8))
    with pytest.raises(RuntimeError, match=r"1,048,576\.00 GiB more were requested") as caught:
        made.train()
    assert should_reduce_batch_size(caught.value)
    assert "per_device_train_batch_size" not in str(caught.value)


def test_an_evaluation_during_training_keeps_its_step_and_its_answers(tmp_path, monkeypatch):
    made = make(
        tmp_path,
        max_steps=1,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="no",
        per_device_eval_batch_size=2,
        eval_window=1,
        generation_num_beams=2,
    )
    generate, calls = made.adapter.generate, []

    def once(*given, **settings):
        calls.append(1)
        if len(calls) > 1:
            raise torch.OutOfMemoryError(CUDA)
        return generate(*given, **settings)

    monkeypatch.setattr(made.adapter, "generate", once)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        made.train()
    text = str(caught.value)
    assert "lower generation_num_beams (now 2)" in text
    assert "lower per_device_eval_batch_size (now 2)" in text
    assert f"Step 1 is saved in {tmp_path / 'checkpoint-1'}" in text
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-1")
    answers = read_predictions(tmp_path / "predictions" / "eval-step-1.unfinished.jsonl")
    assert len(answers) in range(1, 4)
    assert f"The {len(answers)} answers so far are in" in text


def test_answers_so_far_are_in_the_error(monkeypatch):
    model, processor = tiny_unichart("test", image_size=64, window_size=4)
    monkeypatch.setattr(model, "generate", fail(MemoryError))
    rows = records(2)
    with pytest.raises(MemoryError, match="0 of 2 questions are answered") as caught:
        answer_questions(
            model, processor, [row["image"] for row in rows], [row["question"] for row in rows], max_new_tokens=2
        )
    assert caught.value.answers == ["", ""]


def test_a_chart_without_memory_is_named_and_not_called_damaged(tmp_path, monkeypatch):
    made = make(tmp_path)
    monkeypatch.setattr("chartqa_ft.adapters.base.to_rgb", fail(MemoryError))
    monkeypatch.setattr("chartqa_ft.adapters.base.open_image", fail(MemoryError))
    with pytest.raises(MemoryError, match="no memory to decode the image"):
        made.adapter.image(records(1)[0])


def test_saving_without_memory_keeps_what_was_there(tmp_path, monkeypatch):
    made = make(tmp_path)
    made.save_model()
    before = (tmp_path / "model.safetensors").read_bytes()
    monkeypatch.setattr(made.model, "save_pretrained", fail(MemoryError))
    with pytest.raises(MemoryError, match=r"out of memory while saving the model in .*What was there is unchanged"):
        made.save_model()
    assert (tmp_path / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), True),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
        (RuntimeError("mat1 and mat2 must have the same dtype"), False),
        (ValueError("the answer 'out of memory' is too long"), False),
    ],
)
def test_which_errors_are_about_memory(error, expected):
    assert is_out_of_memory(error) is expected


def test_an_error_whose_class_takes_no_message_becomes_its_base_class():
    class ArrayMemoryError(MemoryError):
        def __init__(self, shape, dtype):
            super().__init__(shape, dtype)

    assert type(same_kind(ArrayMemoryError((1,), "uint8"), "no room")) is MemoryError
