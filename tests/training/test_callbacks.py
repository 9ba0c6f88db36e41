"""What callbacks of the trainer write into checkpoints and find in them, and when."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from transformers import EarlyStoppingCallback, TrainerControl, TrainerState

from chartqa_ft.batching.records import as_records
from chartqa_ft.batching.streams import StreamSampler
from chartqa_ft.training.callbacks import CheckUnusedLora, FindBestCheckpoint, SetEpoch, resume_states

from ..support.common import drawn_charts


def test_the_best_checkpoint_is_found_only_where_it_is(tmp_path):
    args = SimpleNamespace(output_dir=str(tmp_path), load_best_model_at_end=False)
    for known, step, found in (
        (None, 3, None),  # was deleted
        (None, 2, str(tmp_path / "checkpoint-2")),
        ("elsewhere", 2, "elsewhere"),
        (None, None, None),
    ):
        (tmp_path / "checkpoint-2").mkdir(exist_ok=True)
        state = SimpleNamespace(best_model_checkpoint=known, best_global_step=step)
        FindBestCheckpoint().on_train_begin(args, state, None)
        assert state.best_model_checkpoint == found


def test_the_sampler_gets_the_epoch_that_begins():
    callback, epochs = SetEpoch(), []
    callback.on_epoch_begin(None, SimpleNamespace(epoch=1.0), None)
    callback.source = SimpleNamespace(set_epoch=epochs.append)
    for epoch in (None, 1.0, 2.5):
        callback.on_epoch_begin(None, SimpleNamespace(epoch=epoch), None)
    assert epochs == [0, 1, 2]


def test_a_stream_gets_the_number_of_its_pass():
    """Its epochs have no length: two passes of five steps are 1.11 epochs of a run of nine."""
    records = as_records(drawn_charts().to_iterable_dataset())
    passes = [0, 1]
    callback = SetEpoch(lambda: passes[-1])
    callback.source = StreamSampler(records, batch_size=2)
    callback.on_epoch_begin(None, SimpleNamespace(epoch=5 / 9), None)
    assert callback.source.epoch == records.data.epoch == 1


def test_a_callback_goes_on_where_the_checkpoint_left_it_with_its_own_settings():
    old = EarlyStoppingCallback(early_stopping_patience=2)
    old.early_stopping_patience_counter = 1
    for restore, count in ((True, 1), (False, 0)):
        new = EarlyStoppingCallback(early_stopping_patience=5)
        state, control = TrainerState(stateful_callbacks=[old]), TrainerControl()
        resume_states([new, SetEpoch()], control, state, restore=restore)
        assert (new.early_stopping_patience, new.early_stopping_patience_counter) == (5, count)
        assert state.stateful_callbacks == {"EarlyStoppingCallback": old.state(), "TrainerControl": control.state()}


def test_several_callbacks_of_a_class_get_their_last_states_and_no_other_attributes():
    attributes = [{"early_stopping_patience_counter": count, "on_evaluate": 5} for count in (0, 0, 3, 4)]
    stored = [{"args": {}, "attributes": each} for each in attributes]
    both = [EarlyStoppingCallback(), EarlyStoppingCallback()]
    state = TrainerState(stateful_callbacks={"EarlyStoppingCallback": stored})
    resume_states(both, TrainerControl(), state, restore=True)
    assert [callback.early_stopping_patience_counter for callback in both] == [3, 4]
    assert callable(both[0].on_evaluate)


def test_gradients_that_are_gone_are_not_checked():
    """Those of a step that max_bad_steps skips: the next step is checked."""
    args = SimpleNamespace(uses_deepspeed=False, uses_fsdp=False, world_size=1, ddp_find_unused_parameters=None)
    check, model = CheckUnusedLora(), torch.nn.Linear(1, 1)
    check.on_pre_optimizer_step(args, None, None, model=model)
    assert not check.checked
    model(torch.ones(1, 1)).backward()
    check.on_pre_optimizer_step(args, None, None, model=model)
    assert check.checked
