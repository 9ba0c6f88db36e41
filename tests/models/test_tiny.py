"""The tiny UniChart: a lossless tokenizer, a sound configuration, weights that learn and that survive a save."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch

from chartqa_ft.data.synthetic.questions import synthetic_chartqa
from chartqa_ft.models.tiny import PRESETS, tiny_tokenizer, tiny_unichart

EXPECTED_PARAMETERS = {"demo": 1205164, "test": 62756}
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
STRANGE_TEXTS = [
    "",
    " ",
    "  two  spaces , and an end ",
    "line\nbreak\tand tab",
    "Zürich’s share in 2019–20: 12.5% (−3 pp)?",
    "日本の人口は？ 🇨🇭 👩‍👩‍👧",
    "\x00\x07\u200b\ufeffé",
    "it's 1,234.50 USD/€",
]


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture
def test_model():
    return tiny_unichart("test")


def batch_of(processor, rows: list[dict]) -> dict[str, torch.Tensor]:
    """Prompts of one length, so that no padding is needed; the loss is on the answers and the end."""
    tokenizer = processor.tokenizer
    ids, labels = [], []
    for row in rows:
        prompt = tokenizer(f"<chartqa> {row['question']} <s_answer>")["input_ids"]
        answer = tokenizer(f" {row['answer']}</s>")["input_ids"]
        ids.append(prompt + answer)
        labels.append([-100] * len(prompt) + answer)
    pixels = processor.image_processor([row["image"].convert("RGB") for row in rows], return_tensors="pt").pixel_values
    return {
        "pixel_values": pixels,
        "decoder_input_ids": torch.tensor(ids)[:, :-1],
        "labels": torch.tensor(labels)[:, 1:],
    }


def value_rows(count: int, image_size: int = 96) -> list[dict]:
    dataset = synthetic_chartqa(count, seed=0, image_size=image_size, questions_per_chart={"value": 1})
    return [dataset[index] for index in range(count)]


def answer_loss(model, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    logits = model(pixel_values=batch["pixel_values"], decoder_input_ids=batch["decoder_input_ids"]).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten())


def test_every_word_of_the_synthetic_data_is_one_token(tokenizer) -> None:
    rows = synthetic_chartqa(200, seed=3).remove_columns("image").to_list()
    known = set(tokenizer.get_vocab())
    for row in rows:
        assert tokenizer.tokenize(row["answer"]) == [row["answer"]]
        assert tokenizer.tokenize(" " + row["answer"]) == ["Ġ" + row["answer"]]
        mark = "?" if row["question"].endswith("?") else ""
        words = row["question"].removesuffix("?").split(" ")
        expected = [words[0], *("Ġ" + word for word in words[1:]), mark]
        assert tokenizer.tokenize(row["question"]) == expected
        assert set(expected) <= known


def test_prompt_and_target_are_clean(tokenizer) -> None:
    prompt = tokenizer("<chartqa> How much is red? <s_answer>")
    assert tokenizer.convert_ids_to_tokens(prompt["input_ids"]) == [
        *("<chartqa>", "ĠHow", "Ġmuch", "Ġis", "Ġred", "?", "Ġ", "<s_answer>"),
    ]
    target = tokenizer(" 15</s>")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(target) == ["Ġ15", "</s>"]
    whole = tokenizer("<chartqa> How much is red? <s_answer> 15</s>")["input_ids"]
    assert whole == prompt["input_ids"] + target
    assert tokenizer.decode(target, skip_special_tokens=True) == " 15"
    assert tokenizer.convert_tokens_to_ids(SPECIAL) == [0, 1, 2, 3]
    assert tokenizer.unk_token_id not in (tokenizer.convert_tokens_to_ids(t) for t in ("<chartqa>", "<s_answer>"))


@pytest.mark.parametrize("text", STRANGE_TEXTS)
def test_any_text_is_encoded_without_loss(tokenizer, text: str) -> None:
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == text


def test_every_byte_is_encoded_without_loss(tokenizer) -> None:
    text = "".join(map(chr, [*range(1, 0x250), 0x2028, 0xFFFD, 0x10FFFF]))
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.unk_token_id not in tokenizer(text)["input_ids"]


def test_real_questions_are_encoded_without_loss(tokenizer, shared) -> None:
    texts = [
        text
        for source in ("human", "augmented")
        for record in json.loads((shared / "chartqa" / "test" / f"test_{source}.json").read_text(encoding="utf-8"))
        for text in (record["query"], record["label"], f"<chartqa> {record['query']} <s_answer> {record['label']}</s>")
    ]
    assert len(texts) == 3 * 863
    encoded = tokenizer(texts)["input_ids"]
    assert tokenizer.batch_decode(encoded) == texts
    assert tokenizer.unk_token_id not in set(itertools.chain.from_iterable(encoded))
    assert max(map(len, encoded)) < PRESETS["test"].max_positions


def test_extra_words_become_tokens_and_old_ids_stay() -> None:
    plain, extended = tiny_tokenizer(), tiny_tokenizer(["What percentage was Zürich's in 2019?", "much"])
    assert extended.tokenize("percentage Zürich 2019") == ["percentage", "ĠZÃ¼rich", "Ġ2019"]
    assert len(plain.tokenize("percentage")) == 10
    assert (
        len(extended) == len(plain) + 2 * len(["percentage", "was", "Zürich", "s", "in", "2019"]) - 1
    )  # "s" is a byte
    for word in ("<s>", "Ġmuch", "Yes", "Ġ100"):
        assert extended.convert_tokens_to_ids(word) == plain.convert_tokens_to_ids(word)


def test_configuration_can_be_saved_and_generates(test_model) -> None:
    model, processor = test_model
    tokenizer = processor.tokenizer
    settings = model.generation_config
    start = tokenizer.convert_tokens_to_ids("<chartqa>")
    assert (settings.bos_token_id, settings.pad_token_id, settings.eos_token_id) == (0, 1, 2)
    assert settings.decoder_start_token_id == start == model.config.decoder_start_token_id
    assert model.config.pad_token_id == 1
    for config in (model.config, model.config.encoder, model.config.decoder):
        assert config._get_generation_parameters() == {}
    assert model.config.encoder.use_absolute_embeddings is False
    assert model.config.decoder.encoder_layers >= model.config.decoder.decoder_layers
    assert model.decoder.get_input_embeddings().num_embeddings == len(tokenizer)
    assert model.decoder.get_output_embeddings().weight is model.decoder.get_input_embeddings().weight


def test_generation_starts_with_the_prompt_and_uses_the_cache_rightly() -> None:
    model, processor = tiny_unichart("test", decoder_layers=2)
    batch = batch_of(processor, value_rows(2))
    prompt = processor.tokenizer("<chartqa> How much is red? <s_answer>", return_tensors="pt")["input_ids"]
    prompt = prompt.repeat(2, 1)
    arguments = {"decoder_input_ids": prompt, "max_new_tokens": 6, "do_sample": False}
    cached, plain = (model.generate(batch["pixel_values"], use_cache=use, **arguments) for use in (True, False))
    assert torch.equal(cached, plain)
    assert torch.equal(cached[:, : prompt.shape[1]], prompt)  # no start token is put before a Donut prompt
    ids = prompt
    for _ in range(6):
        step = model(pixel_values=batch["pixel_values"], decoder_input_ids=ids).logits[:, -1].argmax(-1)
        ids = torch.cat([ids, step[:, None]], dim=1)
    stop = cached.shape[1]
    assert torch.equal(cached[0][: ids.shape[1]], ids[0][:stop])


def test_processor_gives_the_pixels_of_a_chart_as_they_are() -> None:
    _, processor = tiny_unichart("test", image_size=128)
    image = value_rows(1, image_size=128)[0]["image"]
    pixels = processor.image_processor([image], return_tensors="pt").pixel_values
    assert pixels.shape == (1, 3, 128, 128)
    assert torch.equal(
        (pixels[0].permute(1, 2, 0) * 127.5 + 255).round().to(torch.uint8), torch.tensor(np.asarray(image))
    )


@pytest.mark.parametrize("preset", ["demo", "test"])
def test_save_and_load_give_identical_ids_pixels_and_logits(preset: str, tmp_path) -> None:
    from transformers import AutoProcessor, DonutProcessor, VisionEncoderDecoderModel

    model, processor = tiny_unichart(preset, seed=3)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.bin"))
    loaded = VisionEncoderDecoderModel.from_pretrained(tmp_path)
    batch = batch_of(processor, value_rows(2))
    for other in (DonutProcessor.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)):
        assert type(other) is DonutProcessor
        assert other.tokenizer.get_vocab() == processor.tokenizer.get_vocab()
        for text in [*STRANGE_TEXTS, "<chartqa> Is red larger than blue? <s_answer> Yes</s>"]:
            ids = other.tokenizer(text)["input_ids"]
            assert ids == processor.tokenizer(text)["input_ids"]
            assert other.tokenizer.decode(ids) == text
        again = batch_of(other, value_rows(2))
        assert all(torch.equal(batch[key], again[key]) for key in batch)
    inputs = {key: batch[key] for key in ("pixel_values", "decoder_input_ids")}
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, loaded(**inputs).logits)
    assert loaded.generation_config.to_dict() == model.generation_config.to_dict()


def test_seed_alone_decides_the_weights() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    (first, _), (same, _), (other, _) = (tiny_unichart("test", seed=seed) for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), before)
    pairs = zip(first.state_dict().items(), same.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for (_, a), b in pairs)
    assert not torch.equal(first.decoder.lm_head.weight, other.decoder.lm_head.weight)


def test_sizes_of_the_presets() -> None:
    sizes = {name: sum(p.numel() for p in tiny_unichart(name)[0].parameters()) for name in PRESETS}
    assert sizes == EXPECTED_PARAMETERS


def test_dropout_and_drop_path_reach_the_model() -> None:
    model, processor = tiny_unichart("test", depths=(2, 1), dropout=0.3, drop_path_rate=0.2)
    assert (model.config.decoder.dropout, model.config.encoder.hidden_dropout_prob) == (0.3, 0.3)
    assert model.config.encoder.drop_path_rate == 0.2
    batch = batch_of(processor, value_rows(4))
    assert answer_loss(model, batch) == answer_loss(model, batch)
    model.train()
    assert answer_loss(model, batch) != answer_loss(model, batch)
    still, _ = tiny_unichart("test")
    still.train()
    assert answer_loss(still, batch) == answer_loss(still, batch)


def test_one_step_lowers_the_loss_and_moves_every_parameter(test_model) -> None:
    model, processor = test_model
    model.train()
    batch = batch_of(processor, value_rows(8))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    first = answer_loss(model, batch)
    first.backward()
    unmoved_by_nature = {name for name in before if name.endswith("k_proj.bias") or name.endswith("key.bias")}
    optimizer.step()
    assert answer_loss(model, batch) < first
    still = {name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])}
    assert still <= unmoved_by_nature  # softmax does not see a constant added to all keys


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "huge"}, "preset must be one of"),
        ({"image_size": 100}, "image_size must be a multiple of 16"),
        ({"image_size": 0}, "image_size must be a multiple of 16.*, got 0"),
        ({"image_size": -64}, "image_size must be a multiple of 16.*, got -64"),
        ({"depths": (1, 1, 1)}, "encoder_heads needs one number per stage"),
        ({"encoder_heads": (2, 3)}, "3 does not divide stage 1's width 32"),
        ({"decoder_heads": 5}, "decoder_heads=5 does not divide the width 32"),
    ],
)
def test_sizes_that_do_not_fit_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_unichart(**{"preset": "test", **arguments})
    with pytest.raises(TypeError):
        tiny_unichart("test", hidden=3)


def test_one_text_of_extra_words_is_no_list_of_letters() -> None:
    assert tiny_tokenizer("zebra stripe").tokenize("zebra stripe") == ["zebra", "\u0120stripe"]
    assert tiny_unichart("test", extra_words="zebra")[1].tokenizer.tokenize("zebra") == ["zebra"]
