"""The fields of a collator and its records: other types are named."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from chartqa_ft import ChartQACollator
from chartqa_ft.data.chart_groups import chart_groups


def records(*chart_ids):
    chart = Image.new("RGB", (40, 30), "white")
    return [{"image": chart, "question": "How much?", "answer": "7", "chart_id": chart_id} for chart_id in chart_ids]


def test_adapters_that_are_something_else(adapter):
    for wrong, words in [
        (adapter.processor, "got a DonutProcessor"),
        (type(adapter), "got the class DecoderPrompt"),
        ("decoder-prompt", "got 'decoder-prompt'"),
        (None, "got None"),
    ]:
        with pytest.raises(TypeError, match=rf"adapter must be an Adapter, {words}: pass adapter_for"):
            ChartQACollator(wrong)


@pytest.mark.parametrize(
    "name", ["with_answers", "keep_rows", "raw_charts", "pack_questions", "allow_unanswered", "group_by_chart"]
)
@pytest.mark.parametrize("wrong", ["no", "False", 1, 0.0, []])
def test_switches_are_true_or_false(adapter, name, wrong):
    with pytest.raises(TypeError, match=f"{name} must be True"):
        ChartQACollator(adapter, **{name: wrong})


def test_seeds_and_caches(adapter):
    for wrong in (-1, 1.5, None, "7", True):
        with pytest.raises((TypeError, ValueError), match="seed must be"):
            ChartQACollator(adapter, seed=wrong)
    ChartQACollator(adapter, seed=np.int64(5))
    for wrong in ("/tmp", True, {}):
        with pytest.raises(TypeError, match="chart_cache must be a ChartCache"):
            ChartQACollator(adapter, raw_charts=True, chart_cache=wrong)


def test_ids_that_cannot_be_compared(adapter):
    collate = ChartQACollator(adapter)
    for wrong in (["a"], {"id": 1}, {"a"}, np.zeros(2), bytearray(b"a"), ("a", ["b"])):
        with pytest.raises(TypeError, match=r"question='How much\?'\): chart_id must be text or a number"):
            collate(records(wrong, wrong))
        with pytest.raises(TypeError, match="row 1: chart_id must be text or a number"):
            chart_groups(records("a", wrong))
    for fine in (7, ("a", 1), None, "a"):
        assert len(collate(records(fine, fine))["labels"]) == 2
    # Nothing is shared, so ids are not read.
    assert len(ChartQACollator(adapter, group_by_chart=False)(records(["a"], ["a"]))["labels"]) == 2


def test_batches_that_are_no_lists_of_records(adapter):
    collate = ChartQACollator(adapter)
    for wrong in ([], records("a")[0], None, [None], [[records("a")]], "a"):
        with pytest.raises((TypeError, ValueError), match="examples"):
            collate(wrong)
    assert torch.equal(collate(tuple(records("a")))["labels"], collate(records("a"))["labels"])
