"""Warm-up, evaluations and batches that never come are refused before the first step."""

from __future__ import annotations

import pytest
from transformers import EarlyStoppingCallback

from chartqa_ft.training.resuming import as_choice
from chartqa_ft.training.schedule import steps_of_run

from ...support.common import arguments, drawn_charts, trainer

ROWS = len(drawn_charts())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"warmup_steps": 11, "max_steps": 10}, "warmup_steps=11 does not end within the 10 steps"),
        ({"warmup_steps": 100, "max_steps": 10}, "warmup_steps=100 does not end within the 10 steps"),
        ({"warmup_steps": 50, "max_steps": -1, "num_train_epochs": 2}, r"warmup_steps=50 does not end within the \d+"),
        (
            {"dataloader_drop_last": True, "per_device_train_batch_size": ROWS + 1},
            "dataloader_drop_last=True leaves no",
        ),
        (
            {"eval_strategy": "steps", "eval_steps": 4, "eval_delay": 11, "max_steps": 10},
            "eval_delay=11 .*after 10 steps",
        ),
        (
            {"eval_strategy": "epoch", "eval_delay": 3, "max_steps": -1, "num_train_epochs": 2},
            "eval_delay=3 .*2 epochs",
        ),
        ({"callbacks": [EarlyStoppingCallback()]}, "EarlyStoppingCallback needs evaluations"),
        ({"callbacks": [EarlyStoppingCallback]}, "EarlyStoppingCallback needs evaluations"),
        ({"eval_on_start": True, "eval_dataset": None}, "need an eval_dataset"),
        ({"records": []}, "train_dataset is empty"),
        (
            {"eval_strategy": "epoch", "eval_dataset": {"val": drawn_charts(), "x": []}},
            "evaluation data set 'x' is empty",
        ),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(tmp_path, changes, message):
    learning = trainer(tmp_path, **{"eval_dataset": drawn_charts().select(range(4)), **changes})
    with pytest.raises(ValueError, match=message):
        learning.train()
    assert learning.state.global_step == 0
    assert not learning.check("train").ok


def test_all_errors_come_at_once(tmp_path):
    learning = trainer(
        tmp_path,
        eval_dataset=drawn_charts(),
        eval_strategy="steps",
        eval_steps=1,
        eval_delay=9,
        warmup_steps=9,
        max_steps=4,
    )
    with pytest.raises(ValueError, match=r"2 things to change:\n- warmup_steps=9 .*\n- eval_delay=9"):
        learning.train()
    assert [finding.name for finding in learning.check().errors] == ["warmup_steps", "eval_delay"]


@pytest.mark.parametrize(
    "changes",
    [
        {"warmup_steps": 10, "max_steps": 10},
        {"warmup_steps": None, "max_steps": 10},
        {"eval_strategy": "steps", "eval_steps": 10, "eval_delay": 10, "max_steps": 10},
        {"eval_strategy": "steps", "eval_steps": 0.5, "max_steps": 10},
        {"eval_strategy": "epoch", "max_steps": 1},
        {"dataloader_drop_last": True, "per_device_train_batch_size": ROWS},
    ],
)
def test_a_schedule_that_just_fits_is_fine(tmp_path, changes):
    result = trainer(tmp_path, eval_dataset=drawn_charts(), **changes).check("train")
    assert str(result) == "nothing found"


def test_steps_that_a_strategy_does_not_read_are_warned_of(tmp_path):
    learning = trainer(tmp_path, eval_steps=5, save_steps=7, learning_rate=0.0)
    names = [finding.name for finding in learning.check("train").warnings]
    assert names == ["learning_rate", "eval_steps", "save_steps"]


def test_an_unset_warmup_is_a_tenth_of_few_epochs(tmp_path):
    settings = {"warmup_steps": None, "max_steps": -1, "num_train_epochs": 10, "per_device_train_batch_size": 8}
    learning = trainer(tmp_path, **settings, eval_strategy="no")
    _, total = steps_of_run(drawn_charts(), learning.args, 1)
    assert total == 30 == -(-ROWS // 8) * 10
    assert learning.args.warmup_steps == 100
    learning.args.num_train_epochs = 0.4
    learning.train()
    assert learning.args.warmup_steps == 0
    assert learning.state.global_step == 2


def test_steps_of_a_stream_are_known_only_from_max_steps(tmp_path):
    stream = drawn_charts().to_iterable_dataset()
    assert steps_of_run(stream, arguments(tmp_path, max_steps=7), 1) == (None, 7)
    assert steps_of_run(stream, arguments(tmp_path, max_steps=-1, num_train_epochs=2), 1) == (None, None)


def test_resume_from_checkpoint_of_the_arguments_is_used(tmp_path):
    first = trainer(tmp_path, max_steps=2, save_strategy="steps", save_steps=1, save_total_limit=None)
    first.train()
    resumed = trainer(tmp_path, max_steps=3, resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    resumed.train()
    assert [entry["step"] for entry in resumed.state.log_history if "loss" in entry] == [1, 2, 3]
    with pytest.raises(ValueError, match="no complete checkpoint"):
        trainer(tmp_path / "new", resume_from_checkpoint="last").train()
    assert [as_choice(value) for value in ("True", "none", None, True)] == [True, None, None, True]


def test_ignore_data_skip_also_holds_for_streams(tmp_path):
    stream = drawn_charts().to_iterable_dataset()
    trainer(tmp_path, records=stream, max_steps=2, save_strategy="steps", save_steps=2).train()
    places = []
    for skip in (False, True):
        resumed = trainer(tmp_path / str(skip), records=stream, max_steps=3, ignore_data_skip=skip)
        original = resumed._init_training_state
        resumed._init_training_state = lambda *a, _=original, **k: places.append(_(*a, **k)) or places[-1]
        resumed.train(str(tmp_path / "checkpoint-2"))
    assert places == [(0, 2), (0, 0)]


@pytest.mark.parametrize(
    ("changes", "steps", "warned"),
    [
        ({"eval_steps": 9}, [3], True),
        ({"logging_steps": 50}, [3], True),
        ({"eval_steps": 3}, [3], False),
        ({"eval_steps": 2, "eval_delay": 3}, [3], False),
        ({"eval_steps": 0.5}, [2, 3], False),
    ],
)
def test_the_last_step_is_evaluated_whatever_the_steps_between(tmp_path, changes, steps, warned):
    settings = {"eval_strategy": "steps", "max_steps": 3, "predict_with_generate": False}
    short = trainer(tmp_path, eval_dataset=drawn_charts().select(range(2)), **settings, **changes)
    said = [finding.message for finding in short.check("train").warnings if finding.name == "eval_steps"]
    assert ["evaluates only after the last of the 3 steps" in message for message in said] == [True] * warned
    short.train()
    assert [entry["step"] for entry in short.state.log_history if "eval_loss" in entry] == steps
