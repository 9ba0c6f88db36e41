"""Pixels and tokens of checkpoints of transformers 4.28.1 are those of that version."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoTokenizer,
    TokenizersBackend,
)
from transformers.models.donut.image_processing_pil_donut import DonutImageProcessorPil

from chartqa_ft.adapters import compat

from ...support.legacy import Case, question_ids


def test_pixel_values_are_bit_equal(case: Case) -> None:
    for i, image in enumerate(case.images):
        pixels = case.processor(image, return_tensors="pt").pixel_values[0]
        assert pixels.dtype == torch.float32
        assert torch.equal(pixels, case.array("pixel_values", i)), case.examples[i]["imgname"]


def test_plain_pixel_values_differ(case: Case) -> None:
    """By more than two of 255 levels, wherever a chart does not fit the canvas once its short edge is scaled."""
    size = dict(case.processor.image_processor.size)
    plain = DonutImageProcessorPil(size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    shrunk = 0
    for i, image in enumerate(case.images):
        scale = min(size.values()) / min(image.size)
        too_large = round(image.width * scale) > size["width"] or round(image.height * scale) > size["height"]
        difference = plain(image, return_tensors="pt").pixel_values[0] - case.array("pixel_values", i)
        assert (difference.abs().max() > 2 / 127.5) == too_large, case.examples[i]["imgname"]
        shrunk += too_large
    assert shrunk >= 4


def test_thumbnail_of_a_wide_chart_needs_the_reducing_gap(own: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = next(i for i, image in enumerate(own.images) if image.width > 5 * image.height)
    resize = DonutImageProcessorPil.resize
    without = lambda self, image, size, resample=None, **kwargs: resize(self, image, size, resample)  # noqa: E731
    monkeypatch.setattr(compat.LegacyDonutImageProcessor, "resize", without, raising=False)
    pixels = own.processor(own.images[wide], return_tensors="pt").pixel_values[0]
    assert not torch.equal(pixels, own.array("pixel_values", wide))


def test_random_padding_is_bit_equal(case: Case) -> None:
    image_processor = case.processor.image_processor
    height, width = image_processor.size["height"], image_processor.size["width"]
    np.random.seed(0)
    for i, image in enumerate(case.images):
        chart = image_processor(image, do_pad=False, return_tensors="pt").pixel_values[0]
        top, left = compat.legacy_random_offsets(height - chart.shape[1], width - chart.shape[2])
        canvas = torch.full((3, height, width), -1.0)
        canvas[:, top : top + chart.shape[1], left : left + chart.shape[2]] = chart
        assert torch.equal(canvas, case.array("train_pixel_values_seed0", i)), case.examples[i]["imgname"]


def test_plain_image_processor_has_no_random_padding(own: Case) -> None:
    with pytest.raises(TypeError, match="random_padding"):
        DonutImageProcessorPil(size={"height": 96, "width": 96})(own.images[0], random_padding=True)


def test_image_processor_crosses_to_a_worker(own: Case) -> None:
    copy = pickle.loads(pickle.dumps(own.processor.image_processor))
    assert torch.equal(copy(own.images[0], return_tensors="pt").pixel_values[0], own.array("pixel_values", 0))


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ({"size": [300, 200]}, (200, 300)),
        ({"size": 250, "image_processor_type": "DonutImageProcessor"}, (250, 250)),
        ({"size": {"height": 100, "width": 50}, "feature_extractor_type": "DonutFeatureExtractor"}, (100, 50)),
        ({}, (2560, 1920)),
    ],
)
def test_old_json_is_read_as_4_28_1_reads_it(own: Case, tmp_path: Path, written: dict, size: tuple[int, int]) -> None:
    shutil.copytree(own.checkpoint, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.bin"))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_align_long_axis": True, **written}))
    image_processor = compat.load_legacy_processor(tmp_path).image_processor
    assert (image_processor.size["height"], image_processor.size["width"]) == size
    got = {key: getattr(image_processor, key) for key in ("do_pad", "do_thumbnail", "do_rescale", "rescale_factor")}
    assert got == {"do_pad": True, "do_thumbnail": True, "do_rescale": True, "rescale_factor": 1 / 255}
    assert image_processor.do_align_long_axis is True
    assert list(image_processor.image_mean) == list(image_processor.image_std) == [0.5, 0.5, 0.5]


def test_unusable_image_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"preprocessor_config\.json is missing"):
        compat.load_legacy_processor(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    path.write_text('{"size": {"shortest_edge": 5}}')
    with pytest.raises(ValueError, match=r"preprocessor_config\.json: size is \{'shortest_edge': 5\}"):
        compat.load_legacy_processor(tmp_path)
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"preprocessor_config\.json is damaged \(it does not hold a JSON object\)"):
        compat.load_legacy_processor(tmp_path)


def test_token_ids_are_equal(case: Case) -> None:
    tokenizer = case.processor.tokenizer
    for example in case.examples:
        ids = question_ids(tokenizer, example)
        assert ids == example["input_ids"]
        assert tokenizer.convert_ids_to_tokens(ids) == example["tokens"]
        assert tokenizer.decode(ids) == example["decoded_input"]
        cut = f"<chartqa> {example['query']} <s_answer>"
        assert tokenizer(cut, add_special_tokens=False)["input_ids"] == example["prompt_ids"]
        for name in ("greedy", "beam4"):
            assert tokenizer.batch_decode([example[name]["sequence"]])[0] == example[name]["raw"]


def test_tokenizer_cases_are_equal(case: Case) -> None:
    tokenizer = case.processor.tokenizer
    for row in case.golden["tokenizer_cases"]:
        ids = tokenizer(row["text"], add_special_tokens=False)["input_ids"]
        assert ids == row["input_ids"], row["text"]
        assert tokenizer.decode(ids) == row["decoded"]
        assert tokenizer.decode(ids, skip_special_tokens=True) == row["decoded_skip_special"]
        if "with_special_tokens" in row:
            assert tokenizer(row["text"])["input_ids"] == row["with_special_tokens"]


def test_padding_and_truncation_are_equal(own: Case) -> None:
    cut = question_ids(own.processor.tokenizer, own.examples[0], max_length=6, padding="max_length", truncation=True)
    assert cut == own.golden["truncated_max_length_6"]["input_ids"]
    whole = question_ids(own.processor.tokenizer, own.examples[0], max_length=64, padding="max_length")
    assert whole == own.examples[0]["input_ids"] + [1] * (64 - len(own.examples[0]["input_ids"]))


def test_plain_token_ids_differ(case: Case) -> None:
    plain = AutoTokenizer.from_pretrained(case.checkpoint)
    assert all(question_ids(plain, example) != example["input_ids"] for example in case.examples)


def test_plain_decoding_keeps_the_spaces_where_the_flag_is_absent(own_cases: dict[str, Case]) -> None:
    plain = TokenizersBackend.from_pretrained(own_cases["ancient"].checkpoint)
    row = own_cases["ancient"].golden["tokenizer_cases"][0]
    assert plain.decode(row["input_ids"]) == "<chartqa> What 's the value , in % ? <s_answer> 1 , 234 . 5</s>"
    assert row["decoded"] == "<chartqa> What's the value, in %? <s_answer> 1, 234. 5</s>"


def test_the_flag_is_taken_where_it_is_written(own: Case, tmp_path: Path) -> None:
    shutil.copytree(own.checkpoint, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.bin"))
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**settings, "clean_up_tokenization_spaces": False}))
    assert compat.load_legacy_processor(tmp_path).tokenizer.clean_up_tokenization_spaces is False
