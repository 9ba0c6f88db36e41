"""Dropped records are reported once, and a split without records is an error."""

from __future__ import annotations

import logging

import pytest

from chartqa_ft.data import RecordError
from chartqa_ft.data.load import load_chartqa

from ..support.chart_records import (
    RECORDS,
    write_records,
)


def test_one_warning_for_all_splits_and_reasons(folder, caplog):
    write_records(folder / "train.jsonl", [*RECORDS, {**RECORDS[0], "label": ""}, {**RECORDS[0], "imgname": "no.png"}])
    write_records(
        folder / "test.jsonl", [RECORDS[0], *[{**RECORDS[0], "query": ""}] * 2, *[{**RECORDS[0], "label": ""}]]
    )
    with caplog.at_level(logging.WARNING):
        loaded = load_chartqa(folder, on_error="skip")
    assert {name: len(part) for name, part in loaded.items()} == {"test": 1, "train": 3}
    (warning,) = caplog.messages
    assert warning.startswith(
        "Dropped 3 of 4 records of split 'test' (2 empty question, 1 no answer); "
        "2 of 5 records of split 'train' (1 no answer, 1 no image file). The first: record 1 of split 'test' (a.png): "
    )


def test_nothing_is_said_when_nothing_is_dropped(folder, caplog):
    path = write_records(folder / "charts.json", RECORDS)
    with caplog.at_level(logging.WARNING):
        load_chartqa(path, on_error="skip")
    assert caplog.messages == []


def test_a_split_of_which_nothing_is_left_is_an_error_even_when_skipping(folder, tmp_path):
    path = write_records(folder / "charts.json", RECORDS)
    (tmp_path / "wrong").mkdir()
    with pytest.raises(RecordError, match="no image file"):
        load_chartqa(path, image_dir=tmp_path / "wrong", on_error="skip")
