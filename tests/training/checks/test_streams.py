"""Streams whose order is another one in every process are told or refused."""

from __future__ import annotations

import json
import logging

import datasets
import numpy as np
import pytest

from chartqa_ft import load_chartqa

from ...support.common import drawn_charts, trainer


def plain() -> datasets.IterableDataset:
    return drawn_charts().to_iterable_dataset(num_shards=2)


def mixed(**seed) -> datasets.IterableDataset:
    return datasets.interleave_datasets([plain(), plain()], probabilities=[0.5, 0.5], **seed)


STREAMS = {
    "plain": (plain, None),
    "concatenated": (lambda: datasets.concatenate_datasets([plain(), plain()]), None),
    "seed": (lambda: plain().shuffle(seed=1, buffer_size=4), "info"),
    "large seed": (lambda: plain().shuffle(seed=2**63 - 1), "info"),
    "generator": (lambda: plain().shuffle(generator=np.random.default_rng(0)), "info"),
    "interleaved by a seed": (lambda: mixed(seed=3), "info"),
    "loaded after it was shuffled": (lambda: load_chartqa(plain().shuffle(seed=1), streaming=True), "info"),
    "no seed": (lambda: plain().shuffle(buffer_size=4), "warning"),
    "no seed, further on": (lambda: plain().shuffle().filter(bool).skip(1).take(9).repeat(2), "warning"),
    "generator of the system": (lambda: plain().shuffle(generator=np.random.default_rng()), "warning"),
    "interleaved without a seed": (mixed, "warning"),
    "a part without a seed": (lambda: datasets.concatenate_datasets([plain(), plain().shuffle()]), "warning"),
    "loaded after a shuffle without a seed": (lambda: load_chartqa(plain().shuffle(), streaming=True), "warning"),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trainer(tmp_path_factory.mktemp("run"), records=plain(), save_strategy="steps", save_steps=1)


@pytest.mark.parametrize("name", STREAMS)
def test_what_a_shuffle_means_for_a_resume_is_told(run, name):
    make, level = STREAMS[name]
    found = [finding for finding in run.check("train", make()).findings if "is shuffled" in finding.message]
    assert [finding.level for finding in found] == ([] if level is None else [level])
    assert all(finding.message.startswith("train_dataset is shuffled") for finding in found)
    assert all(("seed=42" in finding.advice) == (level == "warning") for finding in found)


@pytest.mark.parametrize(
    ("make", "decodes"),
    [
        (plain, False),
        (lambda: plain().shuffle(seed=1).take(9), False),
        (lambda: plain().filter(bool), True),
        (lambda: plain().map(dict).skip(1), True),
        (lambda: datasets.concatenate_datasets([plain(), plain().filter(bool)]), True),
        (lambda: plain().decode(False).filter(bool).map(dict), False),
        (lambda: load_chartqa(plain(), streaming=True).filter(bool), True),
    ],
)
def test_images_that_every_process_decodes_are_told(run, make, decodes, monkeypatch):
    assert not run.check("train", make()).warnings
    monkeypatch.setattr(run.args, "dataloader_num_workers", 2)
    for call in ("train", "evaluate"):
        found = [finding for finding in run.check(call, make()).warnings if "decodes every image" in finding.message]
        assert len(found) == decodes
        assert all("stream.decode(False) before map and filter" in finding.advice for finding in found)


def test_it_matters_only_where_checkpoints_are_saved_and_data_are_trained_on(run, tmp_path):
    stream = plain().shuffle()
    assert not run.check("evaluate", {"val": stream}).findings
    assert not trainer(tmp_path, records=stream).check("train").findings


def test_a_stream_in_another_order_is_not_resumed(tmp_path, caplog):
    def train(name, resume=None, **changes):
        settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, **changes}
        run = trainer(tmp_path / name, records=plain().shuffle(buffer_size=20), **settings)
        run.train(resume_from_checkpoint=resume)
        return run

    with caplog.at_level(logging.INFO, logger="chartqa_ft"):
        train("first")
    assert caplog.text.count("train_dataset is shuffled without a seed") == 1
    checkpoint = str(tmp_path / "first" / "checkpoint-2")
    with pytest.raises(ValueError, match=r"train_dataset gives other records than before .* first 8 of epoch 0"):
        train("second", checkpoint)
    caplog.clear()
    run = train("third", checkpoint, allow_inexact_resume=True)
    assert run.state.global_step == 4
    assert caplog.text.count("gives other records than before the checkpoint") == 1
    # From the beginning of the epoch there is nothing to compare.
    assert train("fourth", checkpoint, ignore_data_skip=True).state.global_step == 4


def test_a_stream_is_not_resumed_with_batches_of_another_size(tmp_path, caplog):
    def train(name, resume=None, **changes):
        settings = {"max_steps": 3, "save_strategy": "steps", "save_steps": 2, **changes}
        trainer(tmp_path / name, records=plain(), **settings).train(resume_from_checkpoint=resume)

    train("first")
    checkpoint = tmp_path / "first" / "checkpoint-2"
    with pytest.raises(ValueError, match=r"after 8 records of epoch 0, which are not 2 batches of 3.*keep per_device"):
        train("second", str(checkpoint), per_device_train_batch_size=3)
    train("third", str(checkpoint), per_device_train_batch_size=3, allow_inexact_resume=True)
    assert "after 8 records of epoch 0, which are not 2 batches of 3" in caplog.text
    state = json.loads((checkpoint / "chartqa_state.json").read_text())
    assert state["stream"][0] == 8
    state = {key: value for key, value in state.items() if key != "checksum"}  # format 2 has none
    (checkpoint / "chartqa_state.json").write_text(json.dumps({**state, "format": 2, "stream": [8]}))
    with pytest.raises(ValueError, match=r"chartqa_state.json is damaged \(its place in the stream is \[8\]\)"):
        train("fourth", str(checkpoint))
