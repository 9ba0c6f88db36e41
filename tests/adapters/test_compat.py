"""Checkpoints of transformers 4.28.1 on the installed version: the values of `golden` and ../shared/legacy/fixture."""

from __future__ import annotations

import json
import math
import pickle
import shutil
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.overrides import TorchFunctionMode
from transformers import (
    AutoProcessor,
    AutoTokenizer,
    DonutProcessor,
    StoppingCriteria,
    StoppingCriteriaList,
    TokenizersBackend,
    VisionEncoderDecoderModel,
)
from transformers.models.donut.image_processing_pil_donut import DonutImageProcessorPil

from chartqa_ft.adapters import compat

torch.set_num_threads(1)
GOLDEN = Path(__file__).resolve().parents[1] / "golden"
OWN = ["modern", "ancient"]


@dataclass
class Case:
    """One golden folder, and its checkpoint as this library loads it. Tests that train or change take fresh ones."""

    folder: Path

    def __post_init__(self) -> None:
        self.checkpoint = self.folder / "checkpoint"
        self.golden = json.loads((self.folder / "golden.json").read_text())
        self.examples: list[dict[str, Any]] = self.golden["examples"]
        self.arrays = np.load(self.folder / "golden.npz")
        self.images = [Image.open(self.folder / "images" / row["imgname"]).convert("RGB") for row in self.examples]

    @cached_property
    def processor(self) -> DonutProcessor:
        return compat.load_legacy_processor(self.checkpoint)

    @cached_property
    def model(self) -> VisionEncoderDecoderModel:
        return self.fresh_model()

    def fresh_model(self, attention: str | None = "eager", mended: bool = True) -> VisionEncoderDecoderModel:
        model = VisionEncoderDecoderModel.from_pretrained(self.checkpoint, attn_implementation=attention).eval()
        return compat.apply_legacy_model(model) if mended else model

    def array(self, name: str, i: int) -> torch.Tensor:
        return torch.from_numpy(self.arrays[f"{name}_{i}"])

    def padded(self, rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Golden decoder_input_ids and labels of shape (rows, max_length - 1), as the authors' loop feeds them."""
        ids = torch.full((len(rows), self.golden["max_length"]), 1)
        labels = torch.full_like(ids, -100)
        for k, i in enumerate(rows):
            count = len(self.examples[i]["input_ids"])
            ids[k, :count] = torch.tensor(self.examples[i]["input_ids"])
            labels[k, :count] = torch.tensor(self.examples[i]["labels"])
        return ids[:, :-1], labels[:, 1:]

    def loss(self, model: VisionEncoderDecoderModel, pixels: str, rows: list[int]) -> torch.Tensor:
        ids, labels = self.padded(rows)
        shown = torch.stack([self.array(pixels, i) for i in rows])
        return model(shown, decoder_input_ids=ids, labels=labels).loss

    def generate(self, rows: list[int], *, model: Any = None, legacy: bool = True, **settings: Any) -> Any:
        """The authors' call on golden pixels and prompts of equal length."""
        call = {
            "max_length": self.golden["max_length"],
            "early_stopping": True,
            "pad_token_id": 1,
            "eos_token_id": 2,
            "use_cache": True,
            "bad_words_ids": [[3]],
            "return_dict_in_generate": True,
            "output_scores": True,
            **settings,
        }
        if legacy and call.get("num_beams", 1) > 1:
            call["custom_generate"] = compat.legacy_beam_search
        prompts = torch.tensor([self.examples[i]["prompt_ids"] for i in rows])
        pixels = torch.stack([self.array("pixel_values", i) for i in rows])
        return (model or self.model).generate(pixels, decoder_input_ids=prompts, **call)

    def text(self, sequence: torch.Tensor) -> str:
        text = self.processor.tokenizer.decode(sequence).replace("</s>", "").replace("<pad>", "")
        return text.split("<s_answer>")[1].replace("<s>", "").strip(" ")


@pytest.fixture(scope="module")
def own_cases() -> dict[str, Case]:
    return {name: Case(GOLDEN / name) for name in OWN}


@pytest.fixture(scope="module", params=[*OWN, "fixture"])
def case(request: pytest.FixtureRequest, own_cases: dict[str, Case]) -> Case:
    if request.param in OWN:
        return own_cases[request.param]
    if "fixture" not in own_cases:
        own_cases["fixture"] = Case(request.getfixturevalue("shared") / "legacy" / "fixture")
    return own_cases["fixture"]


@pytest.fixture(scope="module", params=OWN)
def own(request: pytest.FixtureRequest, own_cases: dict[str, Case]) -> Case:
    return own_cases[request.param]


def trim(sequence: torch.Tensor) -> list[int]:
    """Without the padding that a row of a batch, or of four returned beams, carries."""
    ids = sequence.tolist()
    while ids[-1] == 1:
        ids.pop()
    return ids


def question_ids(tokenizer: Any, example: dict[str, Any], **settings: Any) -> list[int]:
    text = f"<chartqa> {example['query']} <s_answer> {example['label']}</s>"
    return tokenizer(text, add_special_tokens=False, **settings)["input_ids"]


# ---------------------------------------------------------------- pixels
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


# ---------------------------------------------------------------- tokens
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


def test_tokenizer_from_sentencepiece_is_the_same(case: Case, tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("tokenizer.json", "*.bin")
    shutil.copytree(case.checkpoint, tmp_path, dirs_exist_ok=True, ignore=ignored)
    tokenizer = compat.load_legacy_processor(tmp_path).tokenizer
    built, stored = (json.loads(t.backend_tokenizer.to_str()) for t in (tokenizer, case.processor.tokenizer))
    if "tokenizer_from_sentencepiece" in case.golden:
        # 4.28.1 then takes a token that was special once, and is in no list any more, for a plain one
        stored.update(case.golden["tokenizer_from_sentencepiece"])
    stored.update(padding=None, truncation=None)  # left over from somebody's last call
    assert built == stored
    assert tokenizer.all_special_tokens == case.processor.tokenizer.all_special_tokens
    assert tokenizer.name_or_path == str(tmp_path)
    assert [question_ids(tokenizer, example) for example in case.examples] == [e["input_ids"] for e in case.examples]


def test_missing_and_damaged_tokenizers_are_named(own: Case, tmp_path: Path) -> None:
    shutil.copy(own.checkpoint / "preprocessor_config.json", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"neither tokenizer\.json nor sentencepiece\.bpe\.model"):
        compat.load_legacy_processor(tmp_path)
    whole = (own.checkpoint / "sentencepiece.bpe.model").read_bytes()
    for damaged in (b"", whole[:-3], b"<html>not found</html>", whole[:1000]):
        (tmp_path / "sentencepiece.bpe.model").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"sentencepiece\.bpe\.model"):
            compat.load_legacy_processor(tmp_path)


# ---------------------------------------------------------------- loss and training
def test_encoder_logits_and_loss_are_equal(case: Case) -> None:
    for i, example in enumerate(case.examples):
        ids, labels = case.padded([i])
        with torch.no_grad():
            out = case.model(case.array("pixel_values", i)[None], decoder_input_ids=ids, labels=labels)
        logits = out.logits[0][labels[0] != -100]
        if f"answer_logits_{i}" in case.arrays:
            expected = case.array("answer_logits", i)
        else:
            expected = case.array("logits", i)[labels[0, : len(example["labels"]) - 1] != -100]
        torch.testing.assert_close(out.encoder_last_hidden_state[0], case.array("encoder", i), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(logits, expected, rtol=1e-5, atol=2e-5)
        assert out.loss.item() == pytest.approx(example["loss_eval_mode"], abs=2e-6)


class _NoLayerDrop(TorchFunctionMode):
    """Before transformers 5.23, MBart draws a number for each layer even where `layerdrop` is 0, from the stream that
    dropout draws from. 4.28.1 took it from Python's `random`, so its dropout masks are those without these draws."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.rand and args == ([],):
            return torch.ones([])
        return function(*args, **(kwargs or {}))


def test_batch_loss_is_equal_with_random_padding_and_dropout(case: Case) -> None:
    model, rows = case.fresh_model(), [0, 1, 2, 3]
    with torch.no_grad(), _NoLayerDrop():
        evaluated = case.loss(model, "train_pixel_values_seed0", rows).item()
        model.train()
        torch.manual_seed(0)
        trained = case.loss(model, "train_pixel_values_seed0", rows).item()
        plain = case.fresh_model(mended=False).train()
        torch.manual_seed(0)
        ramped = case.loss(plain, "train_pixel_values_seed0", rows).item()
    assert evaluated == pytest.approx(case.golden["batch4_loss_eval_mode"], abs=2e-6)
    assert trained == pytest.approx(case.golden["batch4_loss_train_mode_seed0"], abs=2e-6)
    assert abs(ramped - case.golden["batch4_loss_train_mode_seed0"]) > 1e-3


def test_every_block_has_the_full_drop_path_once(own: Case) -> None:
    model = own.fresh_model().train()
    compat.apply_legacy_model(compat.apply_legacy_model(model))
    blocks = [block for stage in model.encoder.encoder.layers for block in stage.blocks]
    assert [block.drop_path.drop_prob for block in blocks] == [0.1] * sum(model.config.encoder.depths)
    assert all(block.drop_path.training for block in blocks)
    model.config.encoder.drop_path_rate = 0.0
    untouched = [block.drop_path for block in blocks]
    compat.apply_legacy_model(model)
    assert all(block.drop_path is before for block, before in zip(blocks, untouched, strict=True))


def test_six_optimizer_steps_are_equal(case: Case) -> None:
    model, expected = case.fresh_model(), case.golden["train_trajectory"]
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-5)
    cosine = lambda step: step / 2 if step < 2 else 0.5 * (1.0 + math.cos(math.pi * (step - 2) / 4))  # noqa: E731
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, cosine)
    for step in expected["steps"]:
        loss = case.loss(model, "pixel_values", step["idx"])
        assert loss.item() == pytest.approx(step["loss"], abs=1e-5)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item()
        assert norm == pytest.approx(step["grad_norm"], rel=1e-3)
        optimizer.step()
        schedule.step()
    squares = sum(float((p.detach().double() ** 2).sum()) for p in model.parameters())
    assert squares**0.5 == pytest.approx(expected["param_l2_after"], rel=1e-6)


# ---------------------------------------------------------------- generation
def test_greedy_answers_are_equal(case: Case) -> None:
    for i, example in enumerate(case.examples):
        for name in (key for key in example if key.startswith("greedy")):
            out = case.generate([i], max_length=example[name].get("max_length", case.golden["max_length"]))
            assert out.sequences[0].tolist() == example[name]["sequence"]
            assert case.text(out.sequences[0]) == example[name]["text"]


def test_beam_answers_and_scores_are_equal(case: Case) -> None:
    for i, example in enumerate(case.examples):
        for name in (key for key in example if key.startswith("beam4")):
            length = example[name].get("max_length", case.golden["max_length"])
            out = case.generate([i], num_beams=4, max_length=length)
            assert out.sequences[0].tolist() == example[name]["sequence"]
            assert case.text(out.sequences[0]) == example[name]["text"]
            if "score" in example[name]:
                assert out.sequences_scores.tolist() == pytest.approx([example[name]["score"]], rel=1e-5, abs=1e-6)
        four = case.generate([i], num_beams=4, num_return_sequences=4)
        assert [case.text(sequence) for sequence in four.sequences] == example["beam4"]["all_texts"]
        assert four.sequences_scores.tolist() == pytest.approx(example["beam4"]["all_scores"], rel=1e-5, abs=1e-6)


def test_other_beam_settings_are_equal(own: Case) -> None:
    for i, example in enumerate(own.examples):
        for variant in example["beam_variants"]:
            out = own.generate([i], **variant["settings"])
            assert out.sequences.tolist() == variant["sequences"], variant["settings"]
            assert out.sequences_scores.tolist() == pytest.approx(variant["scores"], rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(
    "settings", [{}, {"early_stopping": False}, {"early_stopping": "never", "length_penalty": 2.0}]
)
def test_a_batch_gives_what_each_row_gives_alone(case: Case, settings: dict[str, Any]) -> None:
    """With the default attention, as a user loads it."""
    model, buckets = case.fresh_model(attention=None), defaultdict(list)
    for i, example in enumerate(case.examples):
        buckets[len(example["prompt_ids"])].append(i)
    assert max(map(len, buckets.values())) > 1
    for length, rows in buckets.items():
        if settings:
            settings = {**settings, "max_length": length + 8}
        out = case.generate(rows, model=model, num_beams=4, num_return_sequences=2, **settings)
        for k, i in enumerate(rows):
            if not settings:
                assert trim(out.sequences[2 * k]) == case.examples[i]["beam4"]["sequence"]
                scores = case.examples[i]["beam4"]["all_scores"][:2]
            else:
                alone = case.generate([i], num_beams=4, num_return_sequences=2, **settings)
                assert [trim(s) for s in out.sequences[2 * k : 2 * k + 2]] == [trim(s) for s in alone.sequences]
                scores = alone.sequences_scores.tolist()
            assert out.sequences_scores[2 * k : 2 * k + 2].tolist() == pytest.approx(scores, rel=1e-5, abs=2e-6)


def test_plain_beam_answers_differ(own: Case) -> None:
    changed = 0
    for i, example in enumerate(own.examples):
        plain = own.generate([i], legacy=False, num_beams=4)
        assert own.text(plain.sequences[0]) == example["beam4"]["text_scored_by_answer_length"]
        changed += own.text(plain.sequences[0]) != example["beam4"]["text"]
    assert changed >= 4


def test_plain_beam_scores_differ(case: Case) -> None:
    for i, example in enumerate(case.examples):
        assert case.generate([i], legacy=False, num_beams=4).sequences_scores[0] < 1.5 * example["beam4"]["score"]


def test_beam_search_without_cache_mask_or_dict(own: Case) -> None:
    expected = own.examples[0]["beam4"]["sequence"]
    mask = torch.ones(1, len(own.examples[0]["prompt_ids"]), dtype=torch.long)
    room = own.golden["max_length"] - mask.shape[1]
    sequences = own.generate(
        [0],
        num_beams=4,
        use_cache=False,
        decoder_attention_mask=mask,
        return_dict_in_generate=False,
        output_scores=False,
        max_length=None,
        max_new_tokens=room,
    )
    assert sequences.tolist() == [expected]
    out = own.generate([0], num_beams=4, output_scores=False)
    assert out.sequences.tolist() == [expected]
    assert out.scores is None
    scores = own.generate([0], num_beams=4).scores
    assert {tuple(step.shape) for step in scores} == {(4, own.model.config.decoder.vocab_size)}


def test_a_stopping_criterion_ends_the_search(own: Case) -> None:
    class AtLength(StoppingCriteria):
        def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
            return torch.full((len(input_ids),), input_ids.shape[1] >= length)

    length = len(own.examples[0]["prompt_ids"]) + 2
    settings = {"num_beams": 4, "num_return_sequences": 4, "forced_eos_token_id": None}
    stopped = own.generate([0], **settings, stopping_criteria=StoppingCriteriaList([AtLength()]))
    cut = own.generate([0], **settings, max_length=length)
    assert stopped.sequences_scores.tolist() == cut.sequences_scores.tolist()
    assert [row[: cut.sequences.shape[1]] for row in stopped.sequences.tolist()] == cut.sequences.tolist()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_beams": 1}, "num_beams=1"),
        ({"num_beams": 2, "do_sample": True}, "do_sample=True"),
        ({"num_beams": 2, "output_attentions": True}, "does not record output_attentions"),
        ({"num_beams": 2, "decoder_attention_mask": "holes"}, "unequal length"),
    ],
)
def test_beam_search_refuses_what_it_cannot_do(own: Case, settings: dict[str, Any], message: str) -> None:
    if "decoder_attention_mask" in settings:
        mask = torch.ones(1, len(own.examples[0]["prompt_ids"]), dtype=torch.long)
        mask[0, 0] = 0
        settings = {**settings, "decoder_attention_mask": mask}
    with pytest.raises(ValueError, match=message):
        own.generate([0], legacy=False, custom_generate=compat.legacy_beam_search, **settings)


def test_generation_settings_are_those_in_force_in_4_28_1(case: Case) -> None:
    expected = case.golden["generation_config_in_force"]
    got = case.model.generation_config.to_dict()
    for key in ("max_length", "forced_eos_token_id", "bos_token_id", "eos_token_id", "pad_token_id"):
        assert got[key] == expected[key], key
    assert got["decoder_start_token_id"] == expected.get("decoder_start_token_id")


def test_generation_settings_that_a_user_wrote_are_kept(own: Case, tmp_path: Path) -> None:
    shutil.copytree(own.checkpoint, tmp_path, dirs_exist_ok=True)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 2, "pad_token_id": 1}')
    model = compat.apply_legacy_model(VisionEncoderDecoderModel.from_pretrained(tmp_path))
    assert model.generation_config.forced_eos_token_id is None
    own_model = own.fresh_model()
    own_model.generation_config.forced_eos_token_id = None
    own_model.save_pretrained(tmp_path / "saved")
    again = compat.apply_legacy_model(VisionEncoderDecoderModel.from_pretrained(tmp_path / "saved"))
    assert again.generation_config.forced_eos_token_id is None


# ---------------------------------------------------------------- recognizing, saving, switching off
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
        test_pixel_values_are_bit_equal,
        test_random_padding_is_bit_equal,
        test_token_ids_are_equal,
        test_tokenizer_cases_are_equal,
        test_batch_loss_is_equal_with_random_padding_and_dropout,
        test_generation_settings_are_those_in_force_in_4_28_1,
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


def test_one_line_of_log_says_what_is_on(own: Case, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="chartqa_ft"):
        own.fresh_model()
        compat.load_legacy_processor(own.checkpoint)
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert str(own.checkpoint) in message
    assert "4.28.1" in message
    assert "compat=False" in message
    assert "\n" not in message


def test_other_models_are_refused(own: Case) -> None:
    with pytest.raises(ValueError, match=r"MBartForCausalLM.*compat=False"):
        compat.apply_legacy_model(own.fresh_model(mended=False).decoder)


class _Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_weights_of_the_old_layout_cannot_run_code(own: Case, tmp_path: Path) -> None:
    shutil.copytree(own.checkpoint, tmp_path, dirs_exist_ok=True)
    torch.save({"weight": _Payload(tmp_path / "ran")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(Exception, match=r"[Ww]eights.only|weights_only"):
        VisionEncoderDecoderModel.from_pretrained(tmp_path)
    assert not (tmp_path / "ran").exists()
