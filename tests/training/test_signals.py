"""SIGTERM, SIGINT and SIGUSR1 end a training after a step, with a checkpoint from which it goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import TrainerCallback

from chartqa_ft.training.checkpoints import last_checkpoint
from chartqa_ft.training.signals import StopOnSignal, outlive_signals

from ..support.common import arguments, drawn_charts, environment, tiny, trainer
from ..support.prepared import server

RUN = """
import os, subprocess, sys, time
from transformers import TrainerCallback
from tests.support.common import drawn_charts, tiny, trainer

class Send(TrainerCallback):
    def on_prediction_step(self, args, state, control, **kwargs):
        if "evaluation" in sys.argv:
            os.kill(os.getpid(), int(sys.argv[2]))

    def on_save(self, args, state, control, **kwargs):
        if "save" in sys.argv:
            os.kill(os.getpid(), int(sys.argv[2]))

    def on_substep_end(self, args, state, control, **kwargs):
        if state.global_step != 2 or "evaluation" in sys.argv or "save" in sys.argv:
            return
        if "group" not in sys.argv:
            os.kill(os.getpid(), int(sys.argv[2]))
        else:  # from outside, to the workers too: a worker takes a signal of its parent for its regular end
            subprocess.run(["/bin/sh", "-c", f"kill -{sys.argv[2]} -{os.getpgrp()}"])
            time.sleep(1)

settings = dict(max_steps=6, per_device_train_batch_size=2, gradient_accumulation_steps=2, logging_steps=1)
settings.update(save_strategy="steps", save_steps=100, eval_strategy="steps", eval_steps=3)
settings.update(enable_jit_checkpoint="jit" in sys.argv, dataloader_num_workers=2 * ("group" in sys.argv))
if "save" in sys.argv:
    settings.update(save_steps=3, eval_strategy="no")
if "evaluation" in sys.argv:
    settings.update(per_device_eval_batch_size=1, save_strategy="best", metric_for_best_model="loss")
model, _ = tiny(dropout=0.1, drop_path_rate=0.1)
charts = drawn_charts().select(range(4))
trainer(sys.argv[1], model=model, callbacks=[Send()], eval_dataset=charts, **settings).train()
print("not reached")
"""


def run(folder: Path, number: int, *how: str) -> tuple[int, str, str]:
    """The return code of that training, and what it wrote to stdout and stderr."""
    outputs = folder / "stdout", folder / "stderr"
    with open(outputs[0], "w") as stdout, open(outputs[1], "w") as stderr:
        arguments = ["-c", RUN, str(folder), str(int(number)), *how]
        code = server().start(arguments, environment=environment(), stdout=stdout, stderr=stderr).wait(300)
    return code, *(file.read_text() for file in outputs)


@pytest.fixture(autouse=True)
def heeded():
    """Heed Ctrl-C, which a shell lets the commands that it starts in the background ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def goes_on(folder: Path, resume: bool | None = None) -> None:
    """Train to step 6, without evaluations. Dropout shows whether the random state is that of an unbroken run."""
    settings = {"max_steps": 6, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    model, _ = tiny(dropout=0.1, drop_path_rate=0.1)
    run = trainer(folder, model=model, save_strategy="steps", save_steps=6, **settings)
    run.train(resume_from_checkpoint=resume)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> bytes:
    folder = tmp_path_factory.mktemp("unbroken")
    goes_on(folder)
    return (folder / "checkpoint-6" / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("number", "how"),
    [
        (signal.SIGTERM, ""),
        (signal.SIGINT, ""),
        (signal.SIGUSR1, ""),
        (signal.SIGTERM, "jit"),
        (signal.SIGTERM, "group"),
        (signal.SIGTERM, "evaluation"),
        (signal.SIGINT, "save"),
    ],
)
def test_a_signal_saves_the_step_and_ends_the_process(tmp_path, unbroken, number, how):
    code, stdout, stderr = run(tmp_path, number, how)
    assert code == -number, stderr[-3000:]
    assert "not reached" not in stdout
    folder = tmp_path / "checkpoint-3"
    line = f"{signal.Signals(number).name}: training stopped after step 3, which is saved in {folder}: go on with "
    assert stderr.count(line) == 1
    assert last_checkpoint(tmp_path) == str(folder)
    state = json.loads((folder / "trainer_state.json").read_text())
    assert not any("eval_loss" in entry for entry in state["log_history"]), "no evaluation delays the save"
    assert stderr.count("the evaluation of step 3 is left") == (how != "save")
    goes_on(tmp_path, resume=True)
    is_equal = (tmp_path / "checkpoint-6" / "model.safetensors").read_bytes() == unbroken
    assert is_equal, "the weights differ"  # pytest would take minutes to show where
    shutil.rmtree(tmp_path)


# ---------------------------------------------------------------------- in this process
class Handlers(TrainerCallback):
    """Keeps the handlers that are set during a step."""

    def on_step_begin(self, args, state, control, **kwargs):
        self.seen = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}


def test_handlers_are_set_during_training_only(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]
    handlers = Handlers()
    made = trainer(tmp_path, callbacks=[handlers], enable_jit_checkpoint=True)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)] == before
    made.train()
    assert {handler.__func__ for handler in handlers.seen.values()} == {StopOnSignal._note}
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)] == before


def test_handlers_are_restored_after_an_error(tmp_path):
    class Fail(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            raise KeyError("own")

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyError, match="own"):
        trainer(tmp_path, callbacks=[Fail()]).train()
    assert signal.getsignal(signal.SIGTERM) == before


def test_handlers_of_the_program_and_ignored_signals_are_left_alone(tmp_path):
    handlers = Handlers()
    own = lambda number, frame: None  # noqa: E731
    old = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    signal.signal(signal.SIGTERM, own)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        trainer(tmp_path, callbacks=[handlers]).train()
        assert handlers.seen[signal.SIGTERM] is own
        assert handlers.seen[signal.SIGUSR1] is signal.SIG_IGN
        assert handlers.seen[signal.SIGINT].__func__ is StopOnSignal._note
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def test_a_training_in_another_thread_has_no_handlers(tmp_path):
    handlers = Handlers()
    made = trainer(tmp_path, callbacks=[handlers])
    thread = threading.Thread(target=made.train)
    thread.start()
    thread.join()
    assert handlers.seen[signal.SIGTERM] == signal.SIG_DFL
    assert made.state.global_step == 1


def test_a_repeat_is_the_same_signal_and_a_later_one_ends_at_once(tmp_path, monkeypatch):
    killed, now = [], [100.0]
    monkeypatch.setattr("chartqa_ft.training.signals.time.monotonic", lambda: now[0])
    monkeypatch.setattr("chartqa_ft.training.signals.os.kill", lambda pid, number: killed.append((pid, number)))
    old = signal.getsignal(signal.SIGUSR1)
    stop = StopOnSignal(arguments(tmp_path), None)
    try:
        for seconds, expected in ((100.0, []), (104.9, []), (105.1, [(os.getpid(), signal.SIGUSR1)])):
            now[0] = seconds
            stop._note(signal.SIGUSR1, None)
            assert killed == expected
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGUSR1, old)
    assert stop.received == signal.SIGUSR1


def test_a_later_ctrl_c_in_a_notebook_leaves_its_kernel_alone(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("chartqa_ft.training.signals.time.monotonic", lambda: now[0])
    monkeypatch.setattr(sys, "ps1", "In : ", raising=False)
    stop = StopOnSignal(arguments(tmp_path), None)
    stop._note(signal.SIGINT, None)
    now[0] += 6
    with pytest.raises(KeyboardInterrupt):
        stop._note(signal.SIGINT, None)


def test_ctrl_c_in_an_evaluation_of_a_notebook_saves_and_interrupts(tmp_path, monkeypatch):
    """A dict of evaluation data, of which the second part is left; best metrics are not asked for."""
    monkeypatch.setattr(sys, "ps1", "In : ", raising=False)
    before = signal.getsignal(signal.SIGINT)
    seen = []

    class Send(TrainerCallback):
        def on_prediction_step(self, args, state, control, eval_dataloader=None, **kwargs):
            seen.append(len(eval_dataloader))
            if len(seen) == 3:
                os.kill(os.getpid(), signal.SIGINT)

    charts = {"a": drawn_charts().select(range(2)), "b": drawn_charts().select(range(5))}
    settings = {"max_steps": 3, "eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": 1}
    settings.update(save_strategy="steps", save_steps=1, load_best_model_at_end=True, metric_for_best_model="a_loss")
    made = trainer(tmp_path, eval_dataset=charts, callbacks=[Send()], **settings)
    with pytest.raises(KeyboardInterrupt):
        made.train()
    assert seen == [2, 2, 5]
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-1")
    assert signal.getsignal(signal.SIGINT) == before
    assert not made.is_in_train
    assert made.evaluate(charts["a"])["eval_n"] == 2, "later evaluations run to their end"
    assert len(seen) == 5
    assert made.train(resume_from_checkpoint=True).global_step == 3


def test_an_evaluation_outside_of_a_training_gets_no_handlers(tmp_path):
    made = trainer(tmp_path, eval_dataset=drawn_charts().select(range(2)), callbacks=[Handlers()])
    made.evaluate()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert not made.stop_on_signal._evaluating


def test_ranks_leave_only_evaluations_of_equally_many_batches(tmp_path, monkeypatch):
    stop = StopOnSignal(arguments(tmp_path), SimpleNamespace(device=torch.device("cpu")))
    assert stop._same_length(iter([])), "a single process waits for nobody"
    stop.args = SimpleNamespace(world_size=2)
    for mine, other, same in (([1, 2], [2, -2], True), ([1, 2], [3, -3], False), ([1, 2], [1, -1], False)):

        def reduce(most, op, other=other):
            assert op == torch.distributed.ReduceOp.MAX
            most.copy_(torch.maximum(most, torch.tensor(other)))

        monkeypatch.setattr(torch.distributed, "all_reduce", reduce)
        assert stop._same_length(mine) == same
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda most, op: None)
    assert not stop._same_length(iter([1, 2])), "the batches of a stream are not known before"


def test_a_step_and_a_save_that_take_too_long_are_warned_of_once(tmp_path, monkeypatch, caplog):
    now = [0.0]
    monkeypatch.setattr("chartqa_ft.training.signals.time.monotonic", lambda: now[0])
    stop = StopOnSignal(arguments(tmp_path), None)
    for save_seconds in (9.0, 12.0, 12.0):
        stop.on_step_begin(None, None, None)
        now[0] += 20.0
        stop.on_step_end(stop.args, SimpleNamespace(global_step=1), None)
        with stop.timed_save():
            now[0] += save_seconds
    told = [record.getMessage() for record in caplog.records if record.name == "chartqa_ft.training.signals"]
    assert ["take 32 seconds" in message for message in told] == [True]


def test_workers_outlive_signals_for_a_while(monkeypatch):
    alarms = []
    monkeypatch.setattr(signal, "alarm", alarms.append)
    old = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    try:
        outlive_signals(0)
        for number in old:
            os.kill(os.getpid(), number)
        assert alarms == [60]
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
