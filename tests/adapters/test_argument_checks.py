"""What an adapter is made of and given to encode: anything else is named before anything is encoded."""

from __future__ import annotations

import math
from collections import UserDict

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoConfig

from chartqa_ft import adapter_for
from chartqa_ft.adapters.argument_checks import check_count, check_model, check_processor, check_records, check_switch

from ..support.common import tiny


@pytest.fixture(scope="module")
def parts():
    return tiny()


def record(**changes):
    return {"image": Image.new("RGB", (40, 30), "white"), "question": "How much?", "answer": "7", **changes}


def test_processors_that_are_something_else(parts):
    model, processor = parts
    for wrong, words in {
        "a path": "must be the processor of the model, got 'a path'",
        processor.tokenizer: "processor is a tokenizer",
        processor.image_processor: "processor is an image processor",
        type(processor): "processor is the class DonutProcessor",
        None: "must be the processor of the model, got None",
        7: "got 7",
        ("a", "b"): "got a tuple",
    }.items():
        with pytest.raises(TypeError, match=words):
            adapter_for(model, wrong)
        with pytest.raises(TypeError, match=r"pass AutoProcessor\.from_pretrained"):
            check_processor(wrong)
    adapter_for(model, processor)


def test_models_that_are_something_else(parts):
    model, processor = parts
    for wrong, words in [
        (None, "must be a loaded model, got None"),
        ("out/checkpoint-1", "got 'out/checkpoint-1'"),
        (type(model), "got the class VisionEncoderDecoderModel"),
        (model.state_dict(), "got a"),
        (AutoConfig.for_model("llava"), "got a LlavaConfig"),
        (torch.nn.Linear(2, 2), "with a config, got Linear"),
        (model.encoder, "got the part DonutSwinModel"),
    ]:
        with pytest.raises(TypeError, match=words):
            adapter_for(wrong, processor)
    check_model(torch.nn.DataParallel(model))


def test_settings_of_other_types(parts):
    for settings, kind, words in [
        ({"prompt": 5}, TypeError, "prompt must be a str"),
        ({"prompt": b"{question}"}, TypeError, "prompt must be a str"),
        ({"prompt": {"text": "{question}"}}, TypeError, "prompt must be a str"),
        ({"prompt": "{0}"}, ValueError, "has no field"),
        ({"max_length": 0}, ValueError, "max_length must be at least 1, got 0"),
        ({"max_length": "512"}, TypeError, "max_length must be an int of at least 1 or None, got '512'"),
        ({"max_length": math.inf}, TypeError, "max_length"),
        ({"max_length": True}, TypeError, "max_length"),
        ({"max_length": torch.tensor(5.0)}, TypeError, "max_length"),
        ({"max_lenght": 5}, TypeError, "max_lenght"),
    ]:
        with pytest.raises(kind, match=words):
            adapter_for(*parts, **settings)
    assert adapter_for(*parts, max_length=np.int64(40)).settings()["max_length"] == 40


def test_counts_and_switches():
    assert check_count("n", np.int32(3)) == 3
    assert check_count("n", torch.tensor(3)) == 3
    assert type(check_count("n", np.int32(3))) is int
    for wrong in (2.0, "2", None, False, [2]):
        with pytest.raises(TypeError, match="n must be an int"):
            check_count("n", wrong)
    check_switch("s", None, or_none=True)
    for wrong in (0, 1, "no", None, np.True_):
        with pytest.raises(TypeError, match="s must be True or False"):
            check_switch("s", wrong)


def test_batches_that_are_no_lists_of_records(parts):
    adapter = adapter_for(*parts)
    for wrong, words in [
        ([], "empty batch"),
        ((), "empty batch"),
        (record(), r"one dict with the keys 'image', 'question', 'answer': pass \[record\]"),
        ({"question": ["a", "b"]}, "one dict with the keys 'question'"),
        ("records.json", "got 'records.json'"),
        ((row for row in [record()]), "got a generator"),
        ([record(), None], r"examples\[1\] must be a record"),
        ([("image", "question")], r"examples\[0\] must be a record"),
        ([record().keys()], r"examples\[0\] must be a record"),
        (7, "got 7"),
        (None, "got None"),
    ]:
        for call in (adapter.encode, adapter.encode_text, check_records):
            with pytest.raises((TypeError, ValueError), match=words):
                call(wrong)
    plain = adapter.encode([record()])
    for same in ((record(),), [UserDict(record())]):
        assert torch.equal(adapter.encode(same)["labels"], plain["labels"])


def test_shapes_are_refused_before_pixels_are_decoded(parts, tmp_path):
    adapter = adapter_for(*parts)
    Image.new("L", (1, 3000)).save(tmp_path / "thin.png")
    whole = (tmp_path / "thin.png").read_bytes()
    (tmp_path / "thin.png").write_bytes(whole[:60])  # decoding it would fail
    for image in (tmp_path / "thin.png", np.zeros((2, 101), np.uint8), Image.new("RGB", (51, 1))):
        with pytest.raises(ValueError, match=r"question='How much\?'.*takes no image of .* shape beyond 50:1"):
            adapter.encode([record(image=image)])
    adapter.encode([record(image=Image.new("RGB", (50, 1)))])
