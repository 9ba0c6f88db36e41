"""The question is always seen, and a batch answers as each question alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments

from chartqa_ft.adapters import adapter_for
from chartqa_ft.batching.collator import ChartQACollator
from chartqa_ft.evaluation.answering import _batches, answer_questions

from ..support.common import drawn_charts, tiny, trainer
from ..support.encoding import PAIRS, pair

NEW_TOKENS = 8


@pytest.fixture(scope="module")
def confident():
    """A tiny model whose answers differ from question to question: random weights, larger than at the start."""
    model, processor = tiny()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model, processor


def questions(n=24):
    """Questions of many different lengths on charts that some of them share."""
    records = [{**record} for record in drawn_charts().select(range(18))]
    texts = ["red?", "What about blue and the others in this chart?", "Is it so that 7 is more than 3, or not?"]
    return [{**r, "question": r["question"] if i % 4 else texts[i % 3]} for i, r in enumerate(records[:n])]


def one_by_one(model, processor, records, num_beams):
    return [
        answer_questions(
            model, processor, r["image"], [r["question"]], num_beams=num_beams, max_new_tokens=NEW_TOKENS
        )[0]
        for r in records
    ]


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("batch_size", [5, 18])
def test_batched_equals_one_by_one(confident, num_beams, batch_size):
    records = questions()
    alone = one_by_one(*confident, records, num_beams)
    images, texts = [r["image"] for r in records], [r["question"] for r in records]
    together = answer_questions(
        *confident,
        images,
        texts,
        batch_size=batch_size,
        num_beams=num_beams,
        max_new_tokens=NEW_TOKENS,
        progress=False,
    )
    assert together == alone
    assert len(set(alone)) > len(alone) // 2
    assert len({len(text) for text in texts}) > 4


@pytest.mark.parametrize("num_beams", [1, 3])
def test_batches_of_training_and_of_inference_generate_the_same(confident, num_beams):
    model, processor = confident
    adapter = adapter_for(model, processor)
    records = questions()
    with_labels, grouped = ChartQACollator(adapter, group_by_chart=False)(records), ChartQACollator(adapter)(records)
    bare = ChartQACollator(adapter, with_answers=False)(records)
    ids = [
        adapter.generate(model, batch, max_new_tokens=NEW_TOKENS, num_beams=num_beams)
        for batch in (with_labels, grouped, bare)
    ]
    assert ids[0].shape == (len(records), NEW_TOKENS)
    assert torch.equal(ids[0], ids[1])
    assert torch.equal(ids[0], ids[2])
    shared = adapter.encode_charts(model, grouped)
    again = adapter.generate(model, grouped, max_new_tokens=NEW_TOKENS, num_beams=num_beams, encoder_outputs=shared)
    assert torch.equal(ids[0], again)


def test_right_padded_prompts_would_answer_other_questions(confident):
    """What bucketing avoids: MBart numbers positions without regard to padding."""
    model, processor = confident
    adapter = adapter_for(model, processor)
    batch = ChartQACollator(adapter, with_answers=False, group_by_chart=False)(questions())
    right = adapter.generate(model, batch, max_new_tokens=NEW_TOKENS)
    padded = model.generate(
        batch["pixel_values"],
        decoder_input_ids=batch["decoder_input_ids"],
        max_new_tokens=NEW_TOKENS,
        bad_words_ids=[[processor.tokenizer.unk_token_id]],
    )[:, batch["decoder_input_ids"].shape[1] :]
    wrong = sum(a != b for a, b in zip(adapter.decode(right), adapter.decode(padded), strict=True))
    assert wrong > len(right) // 2


def test_generated_tokens_are_those_of_the_training_logits(confident):
    """Teacher forcing with the generated answer predicts exactly this answer: prompt and positions are the same."""
    model, processor = confident
    adapter = adapter_for(model, processor)
    batch = ChartQACollator(adapter)(questions())
    generated = adapter.generate(model, batch, max_new_tokens=4, suppress_tokens=sorted(adapter.eos_token_ids))
    unknown = processor.tokenizer.unk_token_id
    for row, length in enumerate(adapter.prompt_lengths(batch)):
        ids = torch.cat([batch["decoder_input_ids"][row, :length], generated[row]])[None]
        chart = batch["pixel_values"][batch["chart_index"][row]][None]
        with torch.no_grad():
            logits = model(pixel_values=chart, decoder_input_ids=ids[:, :-1]).logits[0, length - 1 :]
        logits[:, [unknown, *adapter.eos_token_ids]] = -torch.inf
        assert logits.argmax(-1).tolist() == generated[row].tolist()


def test_unk_is_forbidden(confident):
    model, processor = confident
    adapter = adapter_for(model, processor)
    batch = ChartQACollator(adapter)(questions())
    unknown = processor.tokenizer.unk_token_id
    with torch.no_grad():
        model.decoder.lm_head.weight.requires_grad_(False)
    kept = model.get_output_embeddings().weight[unknown].clone()
    try:
        model.get_output_embeddings().weight.data[unknown] = 50 * model.get_output_embeddings().weight.mean(0)
        assert unknown not in adapter.generate(model, batch, max_new_tokens=NEW_TOKENS)
    finally:
        model.get_output_embeddings().weight.data[unknown] = kept


def test_max_new_tokens_counts_the_answer_alone(confident):
    model, processor = confident
    adapter = adapter_for(model, processor)
    batch = ChartQACollator(adapter)(questions())
    long = adapter.generate(model, batch, max_new_tokens=6, suppress_tokens=sorted(adapter.eos_token_ids))
    assert (long != adapter.pad_token_id).all()
    short = adapter.generate(model, batch, max_new_tokens=2, suppress_tokens=sorted(adapter.eos_token_ids))
    assert torch.equal(short, long[:, :2])


def test_generation_stops_at_the_models_last_position(confident):
    model, processor = tiny(max_positions=24)
    adapter = adapter_for(model, processor)
    batch = adapter.encode([{**questions()[1]}], with_answers=False)
    room = 24 - adapter.prompt_lengths(batch)[0]
    ids = adapter.generate(model, batch, max_new_tokens=50, suppress_tokens=sorted(adapter.eos_token_ids))
    assert (ids[0, :room] != adapter.pad_token_id).all()
    assert (ids[0, room:] == adapter.pad_token_id).all()


@pytest.mark.parametrize("decoder", PAIRS)
@pytest.mark.parametrize("num_beams", [1, 3])
def test_other_pairs_answer_batched_as_alone(decoder, num_beams):
    model, processor = pair(decoder)
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    adapter = adapter_for(model, processor, prompt="Q: {question} A:")
    records = [r for r in questions() if len(r["question"]) < 40][:6]
    images, texts = [r["image"] for r in records], [r["question"] for r in records]
    settings = {"adapter": adapter, "num_beams": num_beams, "max_new_tokens": 4, "progress": False}
    together = answer_questions(model, processor, images, texts, batch_size=6, **settings)
    alone = [answer_questions(model, processor, i, [q], **settings)[0] for i, q in zip(images, texts, strict=True)]
    assert together == alone


def test_plain_seq2seq_trainer_loses_the_question(tmp_path, confident):
    """Its prediction_step drops decoder_input_ids shaped like the labels: all questions on a chart get one answer."""
    model, processor = confident
    adapter = adapter_for(model, processor)
    records = [r for r in drawn_charts() if r["chart_id"] == drawn_charts()[0]["chart_id"]]
    plain = Seq2SeqTrainer(
        model,
        Seq2SeqTrainingArguments(str(tmp_path), predict_with_generate=True, use_cpu=True, generation_max_length=8),
        data_collator=adapter.encode,
        processing_class=processor.tokenizer,
    )
    batch = adapter.encode(records)
    _, ids, _ = plain.prediction_step(model, batch, prediction_loss_only=False)
    assert len({tuple(row) for row in ids.tolist()}) == 1
    ours = trainer(tmp_path, model=model)
    _, ids, labels = ours.prediction_step(model, ours._collators["train"](records), prediction_loss_only=False)
    assert len({tuple(row) for row in ids.tolist()}) > 1
    assert torch.equal(labels, batch["labels"])
    images, texts = [r["image"] for r in records], [r["question"] for r in records]
    assert adapter.decode(ids) == answer_questions(model, processor, images, texts, max_new_tokens=6, progress=False)


def test_a_decoded_answer_has_no_markers_and_ends_at_the_first_eos():
    model, processor = tiny()
    adapter = adapter_for(model, processor)
    ids = processor.tokenizer(" 3 bars", add_special_tokens=False)["input_ids"]
    eos, pad, bos = (getattr(processor.tokenizer, f"{name}_token_id") for name in ("eos", "pad", "bos"))
    marker = processor.tokenizer.convert_tokens_to_ids("<s_answer>")
    rows = [[*ids, eos, *ids], [bos, *ids, pad], [*ids, marker, *ids], [eos] + [pad] * len(ids)]
    width = max(map(len, rows))
    padded = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    assert adapter.decode(padded) == ["3 bars", "3 bars", "3 bars", ""]
    begin, unknown = processor.tokenizer.convert_tokens_to_ids("<chartqa>"), processor.tokenizer.unk_token_id
    assert adapter.decode([[begin, *ids, unknown, eos]]) == ["3 bars"]
    plain = adapter_for(model, processor, prompt="{question}")
    assert plain.decode([[begin, *ids, unknown, eos]]) == ["3 bars"]


def test_settings_of_generate_are_passed_on_or_refused(confident):
    model, processor = confident
    adapter = adapter_for(model, processor)
    batch = ChartQACollator(adapter, with_answers=False)(questions(4))
    wanted = processor.tokenizer.convert_tokens_to_ids("s")

    def always(ids, scores):
        return torch.full_like(scores, -1e9).index_fill(1, torch.tensor([wanted]), 0.0)

    for num_beams in (1, 2):
        forced = adapter.generate(model, batch, max_new_tokens=2, num_beams=num_beams, logits_processor=[always])
        assert forced.tolist() == [[wanted, wanted]] * 4
    stopped = adapter.generate(model, batch, max_new_tokens=5, stopping_criteria=[lambda ids, scores: True])
    assert (stopped[:, 1:] == adapter.pad_token_id).all()
    image, text = questions(1)[0]["image"], ["Why?"]
    with pytest.raises(TypeError, match=r"unknown arguments: foo, num_beam\. Known are the fields"):
        answer_questions(model, processor, image, text, num_beam=4, foo=1)
    for name, value in [("num_return_sequences", 2), ("max_length", 20), ("return_dict_in_generate", True)]:
        with pytest.raises(
            ValueError, match=f"generate\\(\\) takes no {name}={value}: every question gets one answer"
        ):
            answer_questions(model, processor, image, text, **{name: value})
    assert answer_questions(model, processor, image, text, num_return_sequences=1, max_new_tokens=3) == (
        answer_questions(model, processor, image, text, max_new_tokens=3)
    )


def test_answer_questions_checks_its_input_and_keeps_the_models_mode(confident, tmp_path):
    model, processor = confident
    white = Image.new("RGB", (96, 96), "white")
    with pytest.raises(ValueError, match="2 images for 1 questions"):
        answer_questions(model, processor, [white, white], ["Why?"])
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        answer_questions(model, processor, white, ["Why?"], batch_size=0)
    with pytest.raises(ValueError, match="questions is a single str: pass a list"):
        answer_questions(model, processor, white, "Why?")
    for wrong in (None, 3):
        with pytest.raises(ValueError, match=rf"questions\[1\] is {wrong}, not a str"):
            answer_questions(model, processor, white, ["Why?", wrong])
    with pytest.raises(ValueError, match="prompt= would be ignored with adapter="):
        answer_questions(model, processor, white, ["Why?"], prompt="{question}", adapter=adapter_for(model, processor))
    with pytest.raises(ValueError, match=r"question='Why\?'\) has no image"):
        answer_questions(model, processor, [white, None], ["Who?", "Why?"])
    with pytest.raises(ValueError, match=r"question='Why\?'\): the image cannot be decoded \(expected a PIL image"):
        answer_questions(model, processor, [white, 3.5], ["Who?", "Why?"])
    with pytest.raises(ValueError, match=r"question='Why\?'\): the image cannot be decoded \(.*gone\.png"):
        answer_questions(model, processor, "gone.png", ["Why?"])
    text = tmp_path / "text.png"
    text.write_text("%!PS")
    with pytest.raises(
        ValueError, match=r"question='Why\?'\): the image cannot be decoded \(.*text\.png is no image file"
    ):
        answer_questions(model, processor, text, ["Why?"])
    assert answer_questions(model, processor, [], []) == []
    model.train()
    answer_questions(model, processor, white, ["Why?"], max_new_tokens=1)
    assert model.training
    model.eval()


def test_images_may_be_columns_paths_and_arrays(confident, tmp_path):
    records = drawn_charts().select(range(5))
    images, texts = [r["image"] for r in records], [r["question"] for r in records]
    settings = {"max_new_tokens": NEW_TOKENS, "batch_size": 3, "progress": False}
    wanted = answer_questions(*confident, images, texts, **settings)
    assert len(set(wanted)) > 2
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for image, path in zip(images, paths, strict=True):
        image.save(path)
    arrays = [np.asarray(image) for image in images]
    kinds = [records["image"], tuple(images), paths, [str(p) for p in paths], arrays, iter(images)]
    for kind in kinds:
        assert answer_questions(*confident, kind, texts, **settings) == wanted
    assert answer_questions(*confident, np.stack(arrays), records["question"], **settings) == wanted
    one = answer_questions(*confident, images[0], texts, **settings)
    for kind in (paths[0], str(paths[0]), arrays[0], Image.open(paths[0])):
        assert answer_questions(*confident, kind, texts, **settings) == one


def test_lone_surrogates_in_texts_are_replaced(confident):
    model, processor = confident
    white = Image.new("RGB", (96, 96), "white")
    settings = {"max_new_tokens": NEW_TOKENS, "progress": False}
    answers = answer_questions(model, processor, white, ["Why \ud800 red?", "\ud83d\ude00"], **settings)
    assert answers == answer_questions(model, processor, white, ["Why \ufffd red?", "\U0001f600"], **settings)
    record = {"image": white, "question": "\udfff?", "answer": "a\ud800"}
    batch = adapter_for(model, processor).encode([record])
    same = adapter_for(model, processor).encode([{**record, "question": "\ufffd?", "answer": "a\ufffd"}])
    assert torch.equal(batch["labels"], same["labels"])
    assert torch.equal(batch["decoder_input_ids"], same["decoder_input_ids"])


@pytest.mark.parametrize("as_paths", [True, False])
def test_every_chart_is_encoded_once_wherever_its_questions_stand(confident, tmp_path, as_paths):
    records = questions()
    charts = [records[row]["image"] for row in (0, 4, 9)]
    if as_paths:
        for number, chart in enumerate(charts):
            chart.save(tmp_path / f"{number}.png")
        charts = [tmp_path / f"{number}.png" for number in range(3)]
    images, texts = charts * 5, [record["question"] for record in records[:15]]
    alone = [
        answer_questions(*confident, image, [text], max_new_tokens=NEW_TOKENS)[0]
        for image, text in zip(images, texts, strict=True)
    ]
    seen: list[int] = []
    handle = confident[0].encoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(len(kwargs["pixel_values"])), with_kwargs=True
    )
    try:
        together = answer_questions(*confident, images, texts, batch_size=4, max_new_tokens=NEW_TOKENS)
    finally:
        handle.remove()
    assert together == alone
    assert len(set(alone)) > 5
    assert seen == [1, 1, 1]


def test_batches_hold_the_questions_of_a_chart_together():
    images = ["a", "b", "a", "c", "b", "a", "d", "a", "a"]
    assert list(_batches(images, 3, whole=True)) == [[0, 2, 5, 7, 8], [1, 4, 3], [6]]
    assert list(_batches(images, 3, whole=False)) == [[1, 4, 3], [6, 0, 2], [5, 7, 8]]
    columns = drawn_charts()["image"]  # a list that decodes an image whenever it is asked: nobody asks
    assert list(_batches(columns, 8, whole=True)) == [list(range(8)), list(range(8, 16)), [16, 17, 18, 19]]
    assert list(_batches([], 3, whole=True)) == list(_batches([], 3, whole=False)) == []


COLORS = ["red", "white", "blue", "white", "red"]


def redrawn():
    chart = Image.new("RGB", (96, 96))
    for color in COLORS:
        chart.paste(color, (0, 0, 96, 96))
        yield chart


class Redrawn(list):
    """A sequence that draws each picture on one image when it is read."""

    def __init__(self):
        super().__init__([Image.new("RGB", (96, 96))] * len(COLORS))
        self.chart = Image.new("RGB", (96, 96))

    def __getitem__(self, row):
        self.chart.paste(COLORS[row], (0, 0, 96, 96))
        return self.chart


def rewritten(path):
    for color in COLORS:
        Image.new("RGB", (96, 96), color).save(path)
        yield str(path)


def test_an_image_that_changes_between_questions_is_read_as_it_was(confident, tmp_path):
    texts = ["How many bars are there in this chart?"] * len(COLORS)
    pictures = [Image.new("RGB", (96, 96), color) for color in COLORS]
    wanted = answer_questions(*confident, pictures, texts, max_new_tokens=NEW_TOKENS)
    assert len(set(wanted)) == len(set(COLORS))
    frames = Image.new("RGB", (96, 96), COLORS[0])
    frames.save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=100)
    for images in (
        redrawn(),
        Redrawn(),
        rewritten(tmp_path / "chart.png"),
        ImageSequence.Iterator(Image.open(tmp_path / "a.gif")),
        (np.asarray(picture) for picture in pictures),
    ):
        assert answer_questions(*confident, images, texts, max_new_tokens=NEW_TOKENS, batch_size=3) == wanted


def test_what_a_task_does_not_ask_is_refused(confident):
    model, processor = confident
    adapter = adapter_for(model, processor, prompts={"table": "<s_answer>"})
    white = Image.new("RGB", (96, 96), "white")
    given = {"task": "table", "adapter": adapter, "max_new_tokens": 1}
    assert len(answer_questions(model, processor, [white, white], **given)) == 2
    assert len(answer_questions(model, processor, [white], [""], **given)) == 1
    with pytest.raises(ValueError, match="the prompt of the task 'table' has no question in it: leave the questions"):
        answer_questions(model, processor, [white], ["What was sold least?"], **given)
    with pytest.raises(ValueError, match="prompt= is that of short answers, and the task is 'table'"):
        answer_questions(model, processor, white, task="table", prompt="Why? {question}")
    for images in (None, (image for image in [white])):
        with pytest.raises(TypeError, match="images must be an image or a list of images, and is"):
            answer_questions(model, processor, images, **given)
