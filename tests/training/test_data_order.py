"""A resumed run trains on the rows that were left, or is refused: order, size and division of the data."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from ..support.common import drawn_charts, trainer
from .test_resume import rows_by_step

SETTINGS = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "random_padding": True}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """The checkpoint of step 2 of a run of four steps with 4 rows each."""
    folder = tmp_path_factory.mktemp("first")
    trainer(folder, **SETTINGS).train()
    return folder / "checkpoint-2"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 7}, r"the seed of the order .* was 42 and is 7; the seed of random_padding was 42 and is 7"),
        ({"data_seed": 7}, r"the seed of the order .* was 42 and is 7"),
        ({"group_by_chart": False}, r"the number of groups of questions .* was 8 and is 20"),
        ({"train_sampling_strategy": "sequential"}, r"train_sampling_strategy='random' was True and is False"),
        ({"gradient_accumulation_steps": 2}, r"the number of rows of a step .* was 4 and is 8"),
        ({"per_device_train_batch_size": 2}, r"the number of rows of a step .* was 4 and is 2"),
        ({"dataloader_drop_last": True}, "dataloader_drop_last was False and is True"),
        ({"records": drawn_charts().select(range(12))}, "the number of records in train_dataset was 20 and is 12"),
        ({"records": drawn_charts().to_iterable_dataset()}, "train_dataset was a data set with a length and is a str"),
    ],
)
def test_other_rows_than_those_that_were_left_are_refused(checkpoint, tmp_path, changes, said, caplog):
    run = trainer(tmp_path, **{**SETTINGS, **changes})
    with pytest.raises(ValueError, match=rf"checkpoint-2 cannot be resumed exactly: .*{said}.*allow_inexact_resume"):
        run.train(resume_from_checkpoint=str(checkpoint))
    assert run.state.global_step == 0
    assert not (tmp_path / "chartqa_run.json").exists(), "a run that does not begin leaves no note"
    inexact = trainer(tmp_path, **{**SETTINGS, **changes, "allow_inexact_resume": True})
    assert inexact.train(resume_from_checkpoint=str(checkpoint)).global_step == 4
    assert "Some records are read twice or not at all (allow_inexact_resume=True)" in caplog.text


@pytest.mark.parametrize(
    "changes",
    [
        {"max_steps": 6},
        {"max_steps": -1, "num_train_epochs": 2.0},
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
        {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4},
        {"learning_rate": 1e-4, "logging_steps": 2, "dataloader_num_workers": 1},
        {"seed": 7, "ignore_data_skip": True},
    ],
)
def test_what_changes_no_row_may_change(checkpoint, tmp_path, changes):
    run = trainer(tmp_path, **{**SETTINGS, **changes})
    assert run.train(resume_from_checkpoint=str(checkpoint)).global_step >= 4


def test_the_rows_of_a_step_are_divided_anew(checkpoint, tmp_path, caplog):
    found = []
    for batch in (4, 2):
        caplog.clear()
        changes = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": 4 // batch}
        run = trainer(tmp_path / str(batch), **{**SETTINGS, **changes})
        with caplog.at_level(logging.DEBUG, logger="chartqa_ft.training.trainer"):
            run.train(resume_from_checkpoint=str(checkpoint))
        by_step = rows_by_step(caplog.text).items()
        found.append({step: sorted(map(int, ", ".join(rows).split(", "))) for (step, _), rows in by_step})
    assert found[0] == found[1]
    assert sorted(found[0]) == [2, 3]


def test_a_checkpoint_that_does_not_say_its_order_is_resumed(checkpoint, tmp_path):
    """Those of earlier releases."""
    mark = json.loads((checkpoint / "chartqa_state.json").read_text())
    assert mark["order"] == {
        "rows_per_step": 4,
        "drop_last": False,
        "records": 20,
        "charts": 8,
        "shuffle": True,
        "seed": 42,
        "padding_seed": 42,
    }
    run = trainer(tmp_path, **{**SETTINGS, "seed": 7})
    run.running_loss.restore(checkpoint)
    run.running_loss.order = None
    run.get_train_dataloader()
    assert run.running_loss.order["seed"] == 7


def test_records_that_are_left_out_do_not_count(tmp_path):
    """The number is that after on_bad_text="skip", in a new trainer and in one that trains again."""
    rows = [dict(record) for record in drawn_charts()]
    rows[9]["answer"] = "a</s>b"
    first = trainer(tmp_path, records=rows, on_bad_text="skip", **SETTINGS)
    first.train()
    for run in (trainer(tmp_path, records=rows, on_bad_text="skip", **{**SETTINGS, "max_steps": 5}), first):
        assert run.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2")).global_step >= 4
