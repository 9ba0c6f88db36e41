"""Trackers stay open until the final evaluation, and get no secret of the command line."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from transformers import PrinterCallback, TrainerCallback, TrainerControl
from transformers.integrations import integration_utils
from transformers.trainer_callback import CallbackHandler

from chartqa_ft.training import sample_logging
from chartqa_ft.training.sample_logging import LogSamples
from chartqa_ft.training.trackers import KeptOpen, kept_open, public_command_line, trackers_of, without_trackers


@pytest.fixture
def kind(monkeypatch):
    """A tracker of upstream's list that needs no package and writes down its events."""

    class Tracker(TrainerCallback):
        def __init__(self):
            self.events = []

        def on_train_begin(self, args, state, control, **kwargs):
            self.events.append("begin")

        def on_log(self, args, state, control, logs=None, **kwargs):
            self.events.append(("log", logs))

        def on_train_end(self, args, state, control, **kwargs):
            self.events.append("end")

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "codecarbon", Tracker)
    return Tracker


def trainer_with(*callbacks):
    handler = CallbackHandler(list(callbacks), None, None, None, None)
    return SimpleNamespace(
        callback_handler=handler,
        stop_on_signal=SimpleNamespace(received=0, agreed=0),
        add_callback=handler.add_callback,
        remove_callback=handler.remove_callback,
    )


def train(run):
    control = TrainerControl()
    run.callback_handler.on_train_begin(None, None, control)
    run.callback_handler.on_train_end(None, None, control)


def fail_within(run, *before):
    with kept_open(run):
        for call in before:
            call(run)
        raise RuntimeError


def test_the_end_comes_after_the_last_log_of_the_block(kind):
    tracker, printer = kind(), PrinterCallback()
    run = trainer_with(tracker, printer)
    with kept_open(run):
        assert trackers_of(run.callback_handler.callbacks) == [tracker]
        train(run)
        for callback in run.callback_handler.callbacks:
            if isinstance(callback, KeptOpen):
                callback.on_log(None, None, None, logs={"final_loss": 1.0})
    assert tracker.events == ["begin", ("log", {"final_loss": 1.0}), "end"]
    assert run.callback_handler.callbacks == [printer, tracker]


def test_a_process_that_is_about_to_end_and_an_error_close_them(kind):
    tracker = kind()
    run = trainer_with(tracker)
    run.stop_on_signal.received = 15
    with kept_open(run):
        train(run)
        assert tracker.events == ["begin", "end"]
    assert tracker.events == ["begin", "end"]
    again = kind()
    run = trainer_with(again)
    with pytest.raises(RuntimeError):
        fail_within(run, train)
    assert again.events == ["begin", "end"]
    never = kind()
    run = trainer_with(never)
    with pytest.raises(RuntimeError):
        fail_within(run)  # before the training ended
    assert never.events == []


def test_an_evaluation_before_the_training_begins_no_run(kind):
    tracker, printer = kind(), PrinterCallback()
    run = trainer_with(tracker, printer)
    with without_trackers(run):
        run.callback_handler.on_log(None, SimpleNamespace(is_local_process_zero=False), TrainerControl(), logs={})
    assert tracker.events == []
    assert run.callback_handler.callbacks == [printer, tracker]


def test_without_trackers_nothing_changes():
    run = trainer_with(PrinterCallback())
    with kept_open(run):
        assert [type(callback) for callback in run.callback_handler.callbacks] == [PrinterCallback]


def test_every_event_of_upstream_is_handed_on():
    names = [name for name in dir(TrainerCallback) if name.startswith("on_")]
    assert all(name in vars(KeptOpen) for name in names)


def test_secrets_are_out_of_the_command_line_only_within(monkeypatch):
    given = ["/x/train.py", "--hub_token", "abc", "--api_key=def", "--seed", "1", "hf_" + "a" * 34]
    monkeypatch.setattr(sys, "argv", given)
    with public_command_line():
        assert sys.argv == ["/x/train.py", "--seed", "1", "TOKEN_REMOVED"]
    assert sys.argv is given


# ------------------------------------------------------------------ samples
def rows(numbers):
    return [
        {"index": number, "question": f"q{number}", "answer": "1", "prediction": "2", "correct": 0.0}
        for number in numbers
    ]


def state(first=True):
    return SimpleNamespace(is_world_process_zero=first, global_step=7)


def metrics(prefix="eval"):
    return {f"{prefix}_runtime": 1.0}


def test_the_same_questions_are_shown_every_time_and_on_the_first_process_alone(kind, monkeypatch):
    shown = []
    monkeypatch.setitem(
        sample_logging._TAKING,
        "codecarbon",
        lambda tracker, name, samples, step: shown.append((name, [sample["question"] for sample in samples], step)),
    )
    evaluator = SimpleNamespace(table=rows(range(10)), records=None)
    callback = LogSamples(evaluator, lambda: [KeptOpen([kind()])], samples=3)
    callback.on_evaluate(None, state(), None, metrics=metrics())
    evaluator.table = rows(range(0, 20))  # the whole split, at the end
    callback.on_evaluate(None, state(), None, metrics=metrics("final"))
    callback.on_evaluate(None, state(), None, metrics=metrics("eval_hard"))
    callback.on_evaluate(None, state(), None, metrics=metrics("final_hard"))
    callback.on_evaluate(None, state(first=False), None, metrics=metrics())
    callback.on_evaluate(None, state(), None, metrics={})
    evaluator.table = []
    callback.on_evaluate(None, state(), None, metrics=metrics())
    same, hard = ["q0", "q3", "q6"], ["q0", "q6", "q13"]
    assert shown == [
        ("eval/samples", same, 7),
        ("eval/final/samples", same, 7),
        ("eval/hard/samples", hard, 7),
        ("eval/final_hard/samples", hard, 7),
    ]


def test_a_tracker_that_fails_does_not_stop_the_training_and_is_told_of_once(kind, monkeypatch, caplog):
    def fails(*args):
        raise OSError("no space left\n\x1b[31m")

    taking = sample_logging._TAKING
    monkeypatch.setitem(taking, "codecarbon", fails)
    callback = LogSamples(SimpleNamespace(table=rows([0]), records=None), lambda: [kind()])
    for _ in range(2):
        callback.on_evaluate(None, state(), None, metrics=metrics())
    (message,) = caplog.messages
    assert message.startswith("Tracker could not log sample predictions (OSError: no space left")
    assert "\x1b" not in message
