"""Which checkpoints are recognized, and what happens to the mark when they are saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoProcessor,
    DonutProcessor,
    VisionEncoderDecoderModel,
)
from transformers.models.donut.image_processing_pil_donut import DonutImageProcessorPil

from chartqa_ft.adapters import compat

from ...support.legacy import Case, question_ids
from . import test_model, test_processor

DONUT = {"model_type": "donut-swin"}


@pytest.mark.parametrize(
    ("config", "others", "expected"),
    [
        ({"transformers_version": None, "encoder": {**DONUT, "transformers_version": "4.28.1"}}, [], True),
        ({"transformers_version": "4.45.2", "encoder": DONUT}, ["processor_config.json"], True),
        ({"transformers_version": "5.23.0", "encoder": {**DONUT, "transformers_version": "4.28.1"}}, [], False),
        ({"transformers_version": "5.0.0.dev0", "encoder": DONUT}, ["preprocessor_config.json"], False),
        ({"encoder": DONUT, "decoder": {"transformers_version": "4.22.0.dev0"}}, [], True),
        ({"encoder": DONUT}, ["preprocessor_config.json"], True),
        ({"encoder": DONUT}, ["processor_config.json", "preprocessor_config.json"], False),
        ({"encoder": DONUT}, [], False),
        ({"encoder": {"model_type": "swin", "transformers_version": "4.28.1"}}, ["preprocessor_config.json"], False),
        ({"model_type": "pix2struct", "transformers_version": "4.28.1"}, ["preprocessor_config.json"], False),
        ({"transformers_version": "5.23.0", "encoder": DONUT, "chartqa_compat": "4.28.1"}, [], True),
        ({"transformers_version": "4.28.1", "encoder": DONUT, "chartqa_compat": False}, [], False),
    ],
)
def test_which_checkpoints_are_recognized(config: dict[str, Any], others: list[str], expected: bool) -> None:
    listing = {"config.json": {"model_type": "vision-encoder-decoder", **config}, **dict.fromkeys(others)}
    assert compat.needs_compat(listing) is expected


def test_checkpoints_on_disk_are_recognized(case: Case, tmp_path: Path) -> None:
    assert compat.needs_compat(case.checkpoint) is True
    assert compat.needs_compat(tmp_path) is False
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is damaged .*: download the checkpoint again"):
        compat.needs_compat(tmp_path)


def test_an_unknown_mark_is_an_error(own: Case) -> None:
    with pytest.raises(ValueError, match=r"chartqa_compat='4\.99'.*update\s+chartqa_ft"):
        compat.needs_compat({"config.json": {"chartqa_compat": "4.99"}})
    config = VisionEncoderDecoderModel.config_class.from_pretrained(own.checkpoint)
    assert compat.is_legacy(config) is False
    config.chartqa_compat = "4.99"
    with pytest.raises(ValueError, match=r"compat=False"):
        compat.is_legacy(config)


def test_a_saved_checkpoint_behaves_the_same(case: Case, tmp_path: Path) -> None:
    case.fresh_model().save_pretrained(tmp_path)
    case.processor.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.bin"))
    assert compat.needs_compat(tmp_path) is True
    for path in tmp_path.glob("*.json"):
        assert "Legacy" not in path.read_text(), path.name

    again = Case(case.folder)
    again.checkpoint = tmp_path
    assert compat.is_legacy(again.model)
    for check in (
        test_processor.test_pixel_values_are_bit_equal,
        test_processor.test_random_padding_is_bit_equal,
        test_processor.test_token_ids_are_equal,
        test_processor.test_tokenizer_cases_are_equal,
        test_model.test_batch_loss_is_equal_with_random_padding_and_dropout,
        test_model.test_generation_settings_are_those_in_force_in_4_28_1,
    ):
        check(again)
    for i, example in enumerate(case.examples[:4]):
        out = again.generate([i], num_beams=4)
        assert out.sequences[0].tolist() == example["beam4"]["sequence"]
        assert out.sequences_scores.tolist() == pytest.approx([example["beam4"]["score"]], rel=1e-5, abs=1e-6)


def test_plain_transformers_loads_what_is_saved(own: Case, tmp_path: Path) -> None:
    own.fresh_model().save_pretrained(tmp_path)
    own.processor.save_pretrained(tmp_path)
    plain = AutoProcessor.from_pretrained(tmp_path)
    assert type(plain) is DonutProcessor
    assert type(plain.image_processor) is DonutImageProcessorPil
    assert [question_ids(plain.tokenizer, example) for example in own.examples] == [
        e["input_ids"] for e in own.examples
    ]
    assert plain.tokenizer.decode(own.examples[0]["input_ids"]) == own.examples[0]["decoded_input"]

    # passed through plain transformers, files alone still say what they are
    plain.save_pretrained(tmp_path / "passed")
    assert compat.needs_compat(tmp_path / "passed") is True
    pixels = compat.load_legacy_processor(tmp_path / "passed")(own.images[0], return_tensors="pt").pixel_values[0]
    assert torch.equal(pixels, own.array("pixel_values", 0))


def test_plain_transformers_cannot_read_the_oldest_layout(own_cases: dict[str, Case]) -> None:
    with pytest.raises(ValueError, match="Unrecognized image processor"):
        AutoProcessor.from_pretrained(own_cases["ancient"].checkpoint)


def test_the_mark_can_be_taken_off(own: Case, tmp_path: Path) -> None:
    own.fresh_model().save_pretrained(tmp_path)
    own.processor.save_pretrained(tmp_path)
    model, processor = VisionEncoderDecoderModel.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)
    assert compat.is_legacy(model)
    compat.unmark_legacy(model, processor)
    compat.unmark_legacy(model)  # nothing left to do
    assert not compat.is_legacy(model)
    model.save_pretrained(tmp_path / "plain")
    processor.save_pretrained(tmp_path / "plain")
    assert compat.needs_compat(tmp_path / "plain") is False
    assert "chartqa_compat" not in (tmp_path / "plain" / "processor_config.json").read_text()
