"""The steps of a training script: errors in one line, resuming, the model card, trainable parameters."""

from __future__ import annotations

from types import SimpleNamespace

import peft
import pytest
import torch

from chartqa_ft import ChartQATrainingArguments, default_lora_config
from chartqa_ft.scripts import DataArguments, ModelArguments
from chartqa_ft.scripts.running import (
    card_facts,
    checkpoint_to_resume,
    one_line_errors,
    set_up_logging,
    trainable_share,
)

from ..support.families import build
from ..support.fork_server import of_others
from ..support.prepared import run_prepared


def test_errors_of_users_become_one_line_and_others_stay():
    with pytest.raises(SystemExit) as stopped, one_line_errors():
        raise ConnectionError("no network\n\n  try later")
    assert stopped.value.code == "error: no network try later"
    with pytest.raises(SystemExit, match="error: FileNotFoundError"), one_line_errors():
        raise FileNotFoundError
    with pytest.raises(RuntimeError, match="a mistake of ours"), one_line_errors():
        raise RuntimeError("a mistake of ours")
    with pytest.raises(SystemExit, match="error: no GPU"), one_line_errors(RuntimeError):
        raise RuntimeError("no GPU")


@pytest.mark.parametrize(
    ("use_cpu", "device", "is_told"), [(False, "cpu", True), (True, "cpu", False), (False, "cuda", False)]
)
def test_a_missing_gpu_is_told_unless_the_cpu_was_asked_for(caplog, use_cpu, device, is_told):
    caplog.set_level("INFO", logger="chartqa_ft")  # and back to the level from before
    set_up_logging(SimpleNamespace(use_cpu=use_cpu, device=torch.device(device), should_log=True, log_level="passive"))
    assert caplog.messages == ["no GPU was found: this runs on the CPU"] * is_told


def test_trainable_share_counts_what_is_trained():
    model, _ = build("llava")
    total = sum(weight.numel() for weight in model.parameters())
    assert trainable_share(model) == f"{total:,} of {total:,} parameters are trained (100 %)"
    wrapped = peft.get_peft_model(model, default_lora_config(model, r=2))
    trained = sum(weight.numel() for weight in wrapped.parameters() if weight.requires_grad)
    share = 100 * trained / (total + trained)
    assert trainable_share(wrapped) == f"{trained:,} of {total + trained:,} parameters are trained ({share:.3g} %)"


def test_what_to_resume_from(tmp_path, caplog):
    def resume(value: str | None, check: str = "auto") -> str | None:
        args = ChartQATrainingArguments(output_dir=str(tmp_path), use_cpu=True, resume_from_checkpoint=value)
        return checkpoint_to_resume(args, check)

    assert resume(None) is None
    assert resume("last") is None
    assert caplog.messages == [f"{tmp_path} contains no complete checkpoint: training starts at step 0"]
    for step in (5, 20):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "chartqa_state.json").write_text("{}")
    for value in ("last", "True", "yes", "on"):  # as a YAML file may have it
        assert resume(value) == str(tmp_path / "checkpoint-20")
    with pytest.raises(SystemExit, match="checkpoint-20 exists"):
        resume("no")
    assert resume("elsewhere/checkpoint-5") == "elsewhere/checkpoint-5"
    with pytest.raises(SystemExit, match="checkpoint-20 exists: resume with --resume_from_checkpoint last"):
        resume(None)
    assert resume(None, check="True") is None
    (tmp_path / "model.safetensors").touch()
    assert resume("last") == str(tmp_path / "checkpoint-20")


@pytest.mark.parametrize("name", ["model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors"])
def test_a_finished_training_is_not_replaced_by_a_new_one(tmp_path, name):
    (tmp_path / name).touch()
    for value in (None, "last"):
        args = ChartQATrainingArguments(output_dir=str(tmp_path), use_cpu=True, resume_from_checkpoint=value)
        with pytest.raises(SystemExit, match=f"{name} is the model of a finished training: choose another --output"):
            checkpoint_to_resume(args)
        assert checkpoint_to_resume(args, "True") is None
    args = ChartQATrainingArguments(output_dir=str(tmp_path), use_cpu=True, resume_from_checkpoint="a/checkpoint-5")
    assert checkpoint_to_resume(args) == "a/checkpoint-5"


def test_card_facts_hold_what_the_script_knows(monkeypatch):
    monkeypatch.setattr("sys.argv", ["examples/a.py", "--hub_token", "hf_secret", "--output_dir", "/home/me/out"])
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    command = {"command": "python examples/a.py --output_dir out"}
    assert card_facts(ModelArguments()) == command
    data = {"dataset": "HuggingFaceM4/ChartQA", "train_split": "train[:9]", "eval_split": "val"}
    assert card_facts(DataArguments(train_split="train[:9]")) == {**data, **command}
    assert card_facts(DataArguments(dataset_revision="v1"))["dataset_revision"] == "v1"


_THREADS_AT_EXIT = """
import os
from pathlib import Path

from accelerate import PartialState
from torch import nn

from chartqa_ft.scripts import run_script

os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}


def gloo():
    return sum("gloo" in (task / "comm").read_text() for task in Path("/proc/self/task").iterdir())


def main():
    import torch

    torch.distributed.init_process_group("gloo")
    PartialState(cpu=True)
    trainer = [nn.parallel.DistributedDataParallel(nn.Linear(1, 1))]
    trainer.append(trainer)
    assert gloo() > 0


run_script(main)
print(gloo(), "threads")
"""


def test_no_thread_of_the_process_group_is_left_at_exit():
    """One that still holds a tensor when Python ends aborts the process (pytorch/pytorch#179291)."""
    assert run_prepared(["-c", _THREADS_AT_EXIT], by=of_others()).stdout == "0 threads\n"
