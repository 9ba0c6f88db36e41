"""Every family reads, learns and answers charts in the same way: one tiny model each, built without a network.

A new family is one builder in `families.py`, and the line of `WRITTEN` that says what its batch reads like.
"""

from __future__ import annotations

import copy
import functools
import re
import tempfile
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ImageFont
from transformers import LogitsProcessorList

from chartqa_ft.batching.collator import ChartQACollator
from chartqa_ft.training.trainer import ChartQATrainer

from ..support.common import Gradients, relative_l2
from ..support.families import records
from ..support.family_cases import (
    ALL,
    KINDS,
    Dictate,
    answer_logits,
    answers_of,
    generation_groups,
    gradient_of,
    plain_loss,
    ready,
    run_of,
)
from ..support.more_families import MORE

torch.set_num_threads(1)

WRITTEN = {
    # What a row of a batch says, `|` before its first label and `<chart>` where image tokens stand; of encoder-decoder
    # models what the encoder reads as text, then what the decoder reads and writes.
    "unichart": "<chartqa> {question} <s_answer>| {answer}</s>",
    "nougat": "<chartqa> {question} <s_answer>| {answer}</s>",
    "trocr": "<s>{question} Answer:| {answer}</s>",
    "pix2struct": "<pad>|{answer}</s>",
    "florence2": "<chart><s><DocVQA>{question}</s></s><s>|{answer}</s>",
    "llava": "<s>USER: <chart>\n{prompt} ASSISTANT:| {answer}</s>",
    "llava_next": "<s>[INST] <chart>\n{prompt} [/INST]| {answer}</s>",
    "kosmos2": "<s><chart></image><grounding> Question: {question} Answer:| {answer}</s>",
    "qwen2_5_vl": (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_start|><chart>"
        "<|vision_end|>{prompt}<|im_end|>\n<|im_start|>assistant\n|{answer}<|im_end|>"
    ),
    "qwen3_vl": (
        "<|im_start|>user\n<|vision_start|><chart><|vision_end|>{prompt}<|im_end|>\n<|im_start|>assistant\n"
        "|{answer}<|im_end|>"
    ),
    "idefics3": "<|begin_of_text|>User:<chart>{prompt}<end_of_utterance>\nAssistant:| {answer}<end_of_utterance>",
    "smolvlm": "<|im_start|>User:<chart>{prompt}<end_of_utterance>\nAssistant:| {answer}<end_of_utterance>",
    "paligemma": "<chart><bos>{question}\n|{answer}<eos>",
    "gemma3": (
        "<bos><start_of_turn>user\n\n\n<start_of_image><chart><end_of_image>\n\n{prompt}<end_of_turn>\n"
        "<start_of_turn>model\n|{answer}<end_of_turn>"
    ),
    "internvl": (
        "<|im_start|>user\n<img><chart></img>\n{prompt}<|im_end|>\n<|im_start|>assistant\n|{answer}<|im_end|>"
    ),
}
WRITTEN |= {name: more.written for name, more in MORE.items()}
CHART = (
    r"<fake_token_around_image>.*<fake_token_around_image>"
    r"|(<image>|<IMG_CONTEXT>|<\|image_pad\|>|<image_soft_token>|<reserved_\d+>)+"
)


# ------------------------------------------------------------------ 1. the batch
def own_batch(name: str, model: Any, adapter: Any, rows: list[dict]) -> dict[str, torch.Tensor]:
    """The output of the family's own processor for charts and prompts, under upstream's names."""
    processor = adapter.processor
    images = [row["image"] for row in rows]
    prompts = [adapter.prompt.replace("{question}", row["question"]) for row in rows]
    tensors = {"padding": True, "return_tensors": "pt"}
    if KINDS[name] == "decoder-prompt":
        return dict(processor.image_processor(images, return_tensors="pt"))
    if name == "pix2struct":
        image_processor, font = processor.image_processor, ImageFont.load_default(36).font_bytes
        charts = [np.asarray(image).transpose(2, 0, 1) for image in images]
        if image_processor.backend == "torchvision":
            charts = [torch.tensor(chart) for chart in charts]
        drawn = [
            image_processor.render_header(chart, prompt, font_bytes=font)
            for chart, prompt in zip(charts, prompts, strict=True)
        ]
        return dict(image_processor.preprocess(drawn, is_vqa=False, max_patches=48, return_tensors="pt"))
    if name == "florence2":
        return dict(processor(images=images, text=prompts, **tensors))
    if name == "kosmos2":
        return dict(processor(images=images, text=prompts, num_image_tokens=model.config.latent_query_num, **tensors))
    if name == "paligemma":
        batch = processor(
            images=[[i] for i in images], text=[f"<image>{p}" for p in prompts], padding=True, return_tensors="np"
        )
        return {key: torch.tensor(value) for key, value in batch.items() if key != "labels"}
    if name in MORE and MORE[name].layout is not None:
        texts = [MORE[name].layout.replace("{prompt}", prompt) for prompt in prompts]
        images = [[image] for image in images] if name == "t5gemma2" else images
        return dict(processor(images=images, text=texts, **tensors, **MORE[name].arguments))
    conversations = [
        [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": prompt}]}]
        for image, prompt in zip(images, prompts, strict=True)
    ]
    options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
    return dict(processor.apply_chat_template(conversations, **options, processor_kwargs=tensors))


@pytest.mark.parametrize("name", ALL)
def test_batch_reads_back(name):
    model, adapter = ready(name)
    rows = records(8)
    batch = adapter.encode(rows)
    labels = batch["labels"]
    decoder = "decoder_input_ids" in batch
    ids = batch["decoder_input_ids" if decoder else "input_ids"]
    tokenizer = adapter.processor.tokenizer
    assert labels.dtype == ids.dtype == torch.int64
    assert labels.shape == ids.shape

    prompts = []
    for row, record in enumerate(rows):
        places = (labels[row] != -100).nonzero().flatten().tolist()
        first, last = places[0], places[-1]
        assert places == list(range(first, last + 1))
        answer = labels[row, first : last + 1].tolist()
        sequence = [*ids[row].tolist(), adapter.pad_token_id]
        shift = 1 if decoder else 0  # decoders are given the labels moved by one
        before, rest = sequence[: first + shift], sequence[first + shift : last + 1]
        assert [*rest, answer[-1]] == answer if decoder else rest == answer
        assert set(sequence[last + 1 :]) <= {adapter.pad_token_id}
        assert sum(token in adapter.eos_token_ids for token in answer) == 1
        prompts.append(before)
        if decoder and "input_ids" in batch:
            before = batch["input_ids"][row][batch["attention_mask"][row].bool()].tolist() + before
        prompt = adapter.prompt.replace("{question}", record["question"])
        said = WRITTEN[name].replace("{prompt}", prompt).replace("{question}", record["question"])
        read = f"{tokenizer.decode(before)}|{tokenizer.decode(answer)}"
        chart = MORE[name].chart if name in MORE else CHART
        assert re.sub(chart, "<chart>", read, flags=re.DOTALL) == said.replace("{answer}", record["answer"])

    own = own_batch(name, model, adapter, rows)
    if KINDS[name] == "decoder-prompt":
        texts = [adapter.prompt.replace("{question}", record["question"]) for record in rows]
        starts = [] if "donut" in model.config.encoder.model_type else [model.generation_config.decoder_start_token_id]
        assert prompts == [starts + tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    own = {key: value for key, value in own.items() if key in getattr(adapter, "forward_names", own)}
    assert set(batch) - {"labels", "decoder_input_ids"} == set(own)
    for key, value in own.items():
        if decoder or value.shape[:2] != own["input_ids"].shape or value.is_floating_point():
            assert torch.equal(batch[key], value), key
            continue
        for row, prompt in enumerate(prompts):
            mask = own["attention_mask"][row].bool()
            length = len(prompt) - len(adapter.opening)
            assert torch.equal(batch[key][row, :length], value[row][mask]), key
            assert batch["attention_mask"][row].sum() == len(prompt) + (labels[row] != -100).sum()


# ------------------------------------------------------------------ 2. learning
@functools.cache
def learned(name: str) -> ChartQATrainer:
    """The trainer of a family's model that has memorized four charts."""
    model, adapter = ready(name)
    with tempfile.TemporaryDirectory() as folder:
        steps = MORE[name].steps if name in MORE else 40
        settings = {"max_steps": steps, "learning_rate": 5e-3, "write_predictions": False}
        run = run_of(folder, model, adapter, records(4), **settings)
        run.train()
    model.eval()
    return run


@pytest.mark.parametrize("name", ALL)
def test_overfits_four_charts(name):
    assert learned(name).evaluate()["eval_relaxed_accuracy"] == 1.0
    assert list(learned(name).predict(records(4)).predictions) == [record["answer"] for record in records(4)]


# ------------------------------------------------------------------ 3. generation
@pytest.mark.parametrize("name", ALL)
def test_training_logits_equal_generation_logits(name):
    model, adapter = ready(name)
    for group_by_chart in (False, True):
        if group_by_chart and not adapter.groups_charts:
            continue
        batch = ChartQACollator(adapter, group_by_chart=group_by_chart)(records(7))
        assert ("chart_index" in batch) is group_by_chart
        answers = answers_of(batch)
        dictate = Dictate(answers, generation_groups(model, adapter, batch))
        written = adapter.generate(
            model, batch, max_new_tokens=20, logits_processor=LogitsProcessorList([dictate])
        ).tolist()
        assert [row[: len(answer)] for row, answer in zip(written, answers, strict=True)] == answers
        assert [len(scores) for scores in dictate.scores] == [len(answer) for answer in answers]
        generated = torch.cat([torch.stack(scores) for scores in dictate.scores])
        with torch.no_grad():
            expected = answer_logits(model, adapter, batch)
            trained = answer_logits(model.train(), adapter, batch)
        model.eval()
        assert expected.std(dim=0).max() > 1e-3, "one set of logits for all: the test could not fail"
        if adapter.unknown is not None:  # never in an answer
            assert torch.isneginf(generated[:, adapter.unknown]).all()
            expected, trained = (logits.clone() for logits in (expected, trained))
            for logits in (expected, trained):
                logits[:, adapter.unknown] = -torch.inf
        torch.testing.assert_close(generated, expected, rtol=0, atol=1e-4)
        torch.testing.assert_close(generated, trained, rtol=0, atol=1e-4)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("name", ALL)
def test_batched_answers_equal_single_ones(name, beams):
    model, adapter = learned(name).model.eval(), learned(name).adapter
    rows = records(8)

    def answers(collate: ChartQACollator, rows: list[dict]) -> list[list[int]]:
        return adapter.generate(model, collate(rows), max_new_tokens=8, num_beams=beams).tolist()

    alone = ChartQACollator(adapter, group_by_chart=False, with_answers=False)
    expected = [answers(alone, [record])[0] for record in rows]
    assert len({tuple(answer) for answer in expected}) >= 3
    assert answers(alone, rows) == expected
    assert answers(alone, rows[::-1]) == expected[::-1]
    assert answers(ChartQACollator(adapter), rows) == expected


@pytest.mark.parametrize("name", ALL)
def test_beam_scores_are_those_of_the_forward_pass(name, monkeypatch):
    model, adapter = ready(name)
    rows, outputs = records(6), []
    upstream = model.generate

    @functools.wraps(upstream)
    def generate(*args, generation_config, **kwargs):
        config = copy.deepcopy(generation_config)
        config.update(return_dict_in_generate=True, output_scores=True)
        outputs.append(upstream(*args, generation_config=config, **kwargs))
        return outputs[-1].sequences

    monkeypatch.setattr(model, "generate", generate)
    batch = adapter.encode(rows)
    groups = generation_groups(model, adapter, batch)
    special = sorted(adapter.tokenizer.added_tokens_decoder)  # image tokens among them
    ids = adapter.generate(
        model, batch, max_new_tokens=5, num_beams=3, min_new_tokens=5, length_penalty=1.0, suppress_tokens=special
    )
    found = torch.empty(len(rows))
    for group, output in zip(groups, outputs, strict=True):
        found[group] = output.sequences_scores

    if KINDS[name] == "encoder-prompt":
        monkeypatch.setattr(adapter, "tokenize", lambda texts: ids.tolist())
    else:
        monkeypatch.setattr(adapter, "answer_rows", lambda *_: ids.tolist())
    monkeypatch.setattr(adapter, "end", lambda example, ids: ids)
    batch = adapter.encode(rows)
    assert answers_of(batch) == ids.tolist()
    with torch.no_grad():
        logs = answer_logits(model, adapter, batch).log_softmax(dim=-1)
    expected = logs.gather(1, ids.reshape(-1, 1)).reshape(ids.shape).mean(dim=1)
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


# ------------------------------------------------------------------ 4. updates
@pytest.mark.parametrize("name", ALL)
def test_update_equality(name, tmp_path):
    rows = records(4)
    model, adapter = ready(name)
    batch = adapter.encode(rows)
    loss = plain_loss(name, model.train(), batch)
    loss.backward()
    expected = gradient_of(model)
    tokens = int((batch["labels"] != -100).sum())

    found = {}
    for size, accumulation, grouped in [(4, 1, True), (2, 2, True), (1, 4, True), (4, 1, False)]:
        model, adapter = ready(name)
        seen: list[int] = []
        model.get_output_embeddings().register_forward_hook(
            lambda module, args, output, seen=seen: seen.append(args[0].shape[:-1].numel())
        )
        capture = Gradients()
        run = run_of(
            tmp_path,
            model,
            adapter,
            rows,
            callbacks=[capture],
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulation,
            group_by_chart=grouped and adapter.groups_charts,
        )
        run.train()
        case = f"{size} x {accumulation}, grouped: {grouped}"
        assert len(seen) == accumulation
        assert sum(seen) == tokens, f"{case}: rows of logits"
        assert run.state.log_history[0]["loss"] == pytest.approx(loss.item(), rel=1e-5)
        found[case] = relative_l2(capture.vector, expected)
    assert max(found.values()) <= 1e-6, found
