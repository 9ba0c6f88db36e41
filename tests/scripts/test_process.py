"""Scripts as processes: how they are named, and what a launcher is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import weakref

import pytest

from chartqa_ft.scripts import finetune_unichart
from chartqa_ft.scripts.command import command_line
from chartqa_ft.scripts.process import run_script, usage

from ..support.common import ROOT, launcher, run


@pytest.fixture
def told(tmp_path, monkeypatch):
    path = tmp_path / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(path))
    return lambda: json.loads(path.read_text())["message"]["message"]


def test_the_launcher_is_told_the_last_line(told):
    def main():
        raise SystemExit("error: there is no folder charts")

    with pytest.raises(SystemExit):
        run_script(main)
    assert told() == "error: there is no folder charts"


def test_the_launcher_is_told_mistakes_of_the_command_line_without_tokens(told, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_" + "a" * 34)
    with pytest.raises(SystemExit):
        finetune_unichart.main(["--lerning_rate", "1", "--hub_tokn=hf_" + "a" * 34])
    assert told() == (
        "error: unknown arguments: --lerning_rate (did you mean --learning_rate?), "
        "--hub_tokn (did you mean --hub_token?)"
    )


def test_what_refers_to_the_process_group_is_freed_before_it_is_destroyed(monkeypatch):
    """The last reference to a group must not go with a trainer: about one run of twenty would never end.

    DistributedDataParallel is freed with Python's lock held. The threads of the group need it to free the tensors of
    the last gathering, and hold the lock that the group is destroyed with (torch 2.13).
    """
    order = []

    class Trainer:
        pass

    def main():
        trainer = Trainer()
        trainer.own = trainer
        weakref.finalize(trainer, order.append, "trainer")

    monkeypatch.setattr("accelerate.PartialState.destroy_process_group", lambda self: order.append("group"))
    run_script(main)
    assert order == ["trainer", "group"]


def test_a_missing_folder_for_the_error_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "gone" / "error.json"))
    with pytest.raises(SystemExit, match="error: x"):
        run_script(lambda: sys.exit("error: x"))


def test_upstream_shows_what_it_was_told(tmp_path):
    """The form of the file is torch's: https://pytorch.org/docs/stable/elastic/errors.html"""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

    program = "import sys; from chartqa_ft.scripts.process import run_script; run_script(lambda: sys.exit('error: x'))"
    path = tmp_path / "error.json"
    environment = {**os.environ, "TORCHELASTIC_ERROR_FILE": str(path), "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, b"error: x\n")
    failure = ProcessFailure(local_rank=0, pid=1, exitcode=1, error_file=str(path))
    shown = str(ChildFailedError("train.py", {0: failure})).splitlines()
    assert shown[-2:] == ["  traceback : error: x", "=" * len(shown[-1])]


def test_accelerate_adds_nothing_with_quiet():
    """The message is the last line."""
    command = [*launcher(1), "--quiet", "-m", "chartqa_ft.scripts.finetune_unichart", "--lerning_rate", "1"]
    with pytest.raises(AssertionError, match="ended with 1") as failed:
        run(command, cwd="/", timeout=120)
    assert (
        str(failed.value)
        .rstrip()
        .splitlines()[-1]
        .endswith("error: unknown arguments: --lerning_rate (did you mean --learning_rate?)")
    )
    assert "Traceback" not in str(failed.value)


@pytest.mark.parametrize(
    ("started", "shown"),
    [
        ("examples/finetune_unichart.py", "accelerate launch -q examples/finetune_unichart.py"),
        ("/home/me/chartqa/examples/finetune_unichart.py", "accelerate launch -q examples/finetune_unichart.py"),
        (
            "/env/chartqa_ft/scripts/finetune_unichart.py",
            "accelerate launch -q -m chartqa_ft.scripts.finetune_unichart",
        ),
    ],
)
def test_usage_is_how_it_was_started(monkeypatch, started, shown):
    monkeypatch.setattr("sys.argv", [started])
    assert usage("finetune_unichart") == f"{shown} [config.yaml] [--ARGUMENT VALUE ...]"


@pytest.mark.parametrize(
    ("started", "shown"),
    [
        (
            "/env/chartqa_ft/scripts/finetune_own_data.py",
            "python -m chartqa_ft.scripts.finetune_own_data --seed 1",
        ),
        ("chartqa_ft/scripts/finetune_own_data.py", "python -m chartqa_ft.scripts.finetune_own_data --seed 1"),
        ("examples/finetune_own_data.py", "python examples/finetune_own_data.py --seed 1"),
        ("/mine/scripts/finetune_own_data.py", "python finetune_own_data.py --seed 1"),
    ],
)
def test_a_card_shows_a_module_as_a_module(started, shown):
    assert command_line([started, "--seed", "1"], {}) == shown
