"""What a training prints: each line once, a bar with loss, accuracy and time, and nothing on other processes."""

from __future__ import annotations

import re
from collections import Counter
from types import SimpleNamespace

import pytest
from transformers import TrainerCallback

from chartqa_ft.training import progress
from chartqa_ft.training.progress import ShortPrinter, ShortProgress
from chartqa_ft.training.summary import summary

from ..support.common import drawn_charts, tiny, trainer

ACCURACY = {"eval_relaxed_accuracy": 0.25, "eval_n": 4, "eval_runtime": 1.0}


def state(step=1, *, first=True, steps=100, history=()):
    return SimpleNamespace(
        global_step=step,
        max_steps=steps,
        is_world_process_zero=first,
        is_local_process_zero=first,
        log_history=[*history, {}],
    )


def lines(text: str) -> list[str]:
    """What stands on the lines of a terminal's log that are no bar, without control codes."""
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
    return [
        line.strip()
        for line in re.split(r"[\r\n]+", plain)
        if line.strip() and not re.search(r"\d+/\d+ \[|\?it/s", line)
    ]


@pytest.mark.filterwarnings("error:.*pin_memory")
def test_memory_is_pinned_for_a_gpu_alone(tmp_path):
    run = trainer(tmp_path, eval_dataset=drawn_charts(), use_cpu=False)
    assert run.args.dataloader_pin_memory
    for loader in (run.get_train_dataloader(), run.get_eval_dataloader()):
        assert loader.pin_memory is (run.args.device.type == "cuda")


@pytest.mark.parametrize("quiet", [True, False])
def test_no_line_of_a_real_run_is_printed_twice(tmp_path, capfd, caplog, quiet):
    model, _ = tiny()
    model.generation_config.max_length = 20  # as in most checkpoints
    run = trainer(
        tmp_path,
        model,
        eval_dataset=drawn_charts().select(range(6)),
        max_steps=3,
        eval_strategy="steps",
        eval_steps=1,
        disable_tqdm=quiet,
        generation_num_beams=2,
    )
    with caplog.at_level("INFO", logger="chartqa_ft"):
        run.train()
    out, errors = capfd.readouterr()
    told = [*lines(out), *lines(errors), *caplog.messages]
    assert [line for line, count in Counter(told).items() if count > 1] == []
    assert not [line for line in told if "max_length" in line or "max_new_tokens" in line]
    assert [line for line in told if line.startswith("step 2, all: ")] == [
        line for line in told if re.match(r"step 2, all: [\d.]+ % \([+-][\d.]+\) of 6 questions; loss ", line)
    ]
    parts = [line.split(":")[0] for line in told if line.startswith("step 3, ")]
    assert parts == ["step 3, human", "step 3, augmented", "step 3, all"]
    for line in summary(run):
        assert told.count(line) == 1
    assert "a chart takes 36 image tokens (the first 4 records); image_size can change that" in told
    assert f"results go to {tmp_path} (answers in predictions/)" in told
    losses = [line for line in told if re.match(r"step \d of 3: loss [\d.]+, learning rate ", line)]
    assert len(losses) == (3 if quiet else 0)
    if not quiet:
        assert re.search(r"3/3 \[[\d:]+, 00:00 left, loss [\d.]+, accuracy [\d.]+ %\]", errors)


def test_the_bar_goes_on_where_a_resumed_run_does(capsys):
    bar = ShortProgress()
    bar.on_train_begin(None, state(step=40), None)
    assert (bar.training_bar.n, bar.training_bar.initial) == (40, 40)
    bar.on_step_end(None, state(step=41), None)
    assert bar.training_bar.n == 41
    bar.on_log(None, state(step=41), None, logs={"loss": 1.25})
    bar.on_log(None, state(step=41), None, logs=ACCURACY)
    assert bar.training_bar.postfix == "loss 1.25, accuracy 25.0 %"
    bar.on_log(None, state(step=41), None, logs={"eval_hard_relaxed_accuracy": 0.5, **_named("eval_hard")})
    assert bar.training_bar.postfix == "loss 1.25, accuracy 25.0 %, hard 50.0 %"
    bar.on_train_end(None, state(step=41), None)
    assert "step 41, hard, all: 50.00 % of 4 questions" in capsys.readouterr().out


def _named(prefix):
    return {f"{prefix}_n": 4, f"{prefix}_runtime": 1.0}


def test_changes_are_against_the_last_evaluation_also_of_a_resumed_run(capsys):
    printer = ShortPrinter()
    printer.on_train_begin(None, state(), None)
    before = {**ACCURACY, "eval_relaxed_accuracy": 0.75, "step": 1}
    printer.on_log(None, state(step=2, history=[before, {"loss": 1.0}]), None, logs=ACCURACY)
    assert capsys.readouterr().out == "step 2, all: 25.00 % (-50.00) of 4 questions\n"


def test_the_end_is_estimated_once_from_the_first_steps_without_what_stands_between(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    printer = ShortPrinter()
    printer.on_train_begin(None, state(step=0), None)
    for step in range(1, 20):
        clock[0] += 50.0 if step == 1 else 2.0
        printer.on_step_end(None, state(step=step), None)
        if step == 3:
            clock[0] += 1000.0
            printer.on_evaluate(None, state(step=step), None)
            printer.on_save(None, state(step=step), None)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("a step takes 2 s: 94 more steps take about 3.1 minutes, until ")
    short = ShortPrinter()
    short.on_train_begin(None, state(step=0, steps=12), None)
    for step in range(1, 13):
        short.on_step_end(None, state(step=step, steps=12), None)
    assert capsys.readouterr().out == ""


def test_the_end_of_a_training_is_told_once(capsys):
    """Logs of steps have a runtime too where tokens are counted (include_num_input_tokens_seen)."""
    printer = ShortPrinter()
    printer.on_train_begin(None, state(), None)
    printer.on_log(None, state(step=1), None, logs={"loss": 1.5, "train_runtime": 4.0})
    printer.on_log(None, state(step=2), None, logs={"train_loss": 1.25, "train_runtime": 9.0})
    assert capsys.readouterr().out.splitlines() == [
        "step 1 of 100: loss 1.5",
        "step 2: the training took 9 seconds, with a mean loss of 1.25",
    ]
    assert printer.latest() == "loss 1.5"


@pytest.mark.parametrize("kind", [ShortProgress, ShortPrinter])
def test_other_processes_print_nothing(kind, capfd):
    callback: TrainerCallback = kind()
    other = state(step=30, first=False)
    callback.on_train_begin(None, other, None)
    for _ in range(9):
        callback.on_step_end(None, other, None)
    for logs in ({"loss": 1.0}, ACCURACY, {"train_runtime": 1.0, "train_loss": 2.0}):
        callback.on_log(None, other, None, logs=logs)
    callback.on_evaluate(None, other, None)
    callback.on_train_end(None, other, None)
    assert capfd.readouterr() == ("", "")


def test_evaluations_outside_a_training_are_not_told(capsys):
    printer = ShortPrinter()
    printer.on_log(None, state(), None, logs=ACCURACY)
    assert capsys.readouterr().out == ""


def test_a_summary_after_a_check_does_not_repeat_it(tmp_path):
    run = trainer(tmp_path)
    whole, rest = summary(run), summary(run, checked=True)
    assert whole[-2:] == rest
    assert rest[0].startswith("2.5 questions per chart; ")
    assert rest[0].endswith(" parameters are trained (100 %)")
    assert rest[1] == f"results go to {tmp_path}"
    run.args.report_to = ["wandb", "trackio"]
    assert summary(run)[-1] == f"results go to {tmp_path}; metrics also go to wandb, trackio"
    run.train_dataset = drawn_charts().to_iterable_dataset()
    assert summary(run, checked=True)[0].endswith(" parameters are trained (100 %)")
