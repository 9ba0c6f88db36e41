"""What callbacks of the trainer write into checkpoints and find in them, and when."""

from __future__ import annotations

from types import SimpleNamespace

from chartqa_ft.batching.records import as_records
from chartqa_ft.batching.streams import StreamSampler
from chartqa_ft.training.callbacks import FindBestCheckpoint, SetEpoch

from ..support.common import drawn_charts


def test_the_best_checkpoint_is_found_only_where_it_is(tmp_path):
    args = SimpleNamespace(output_dir=str(tmp_path))
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
