"""The tensors of encoder/decoder pairs: UniChart's and others'."""

from __future__ import annotations

import copy
import re

import pytest
import torch

from chartqa_ft.adapters import adapter_for, add_prompt_tokens
from chartqa_ft.adapters.vocabulary import add_tokens

from ..support.common import drawn_charts, tiny
from ..support.encoding import PAIRS, WHITE_VALUE, example, ids, pair


def test_batch_is_prompt_answer_eos_shifted_by_one(adapter):
    examples = [example(), example("How many bars are there?", "12.5 %")]
    batch = adapter.encode(examples)
    eos, pad = adapter.tokenizer.eos_token_id, adapter.tokenizer.pad_token_id
    rows, answers = [], []
    for record in examples:
        prompt = ids(adapter, f"<chartqa> {record['question']} <s_answer>")
        answer = [*ids(adapter, f" {record['answer']}"), eos]
        rows.append(prompt + answer)
        answers.append(answer)
    width = max(map(len, rows)) - 1
    wanted_ids = [row[:-1] + [pad] * (width - len(row) + 1) for row in rows]
    wanted_labels = [
        [-100] * (len(row) - 1 - len(answer)) + answer + [-100] * (width - len(row) + 1)
        for row, answer in zip(rows, answers, strict=True)
    ]
    assert list(batch) == ["decoder_input_ids", "labels", "pixel_values"]
    assert batch["decoder_input_ids"].tolist() == wanted_ids
    assert batch["labels"].tolist() == wanted_labels
    assert batch["pixel_values"].shape == (2, 3, 96, 96)
    assert batch["pixel_values"].dtype == torch.float32
    assert torch.equal(batch["pixel_values"], torch.full((2, 3, 96, 96), WHITE_VALUE))
    assert adapter.decode(batch["labels"]) == ["3", "12.5 %"]


def test_batch_without_answers_is_the_prompt_and_its_mask(adapter):
    examples = [example(), example("How many bars are there?")]
    batch = adapter.encode(examples, with_answers=False)
    prompts = [ids(adapter, f"<chartqa> {e['question']} <s_answer>") for e in examples]
    assert [
        row[mask.bool()].tolist() for row, mask in zip(*(batch[k] for k in list(batch)[:2]), strict=True)
    ] == prompts
    assert (
        adapter.prompt_lengths(batch) == [len(p) for p in prompts] == adapter.prompt_lengths(adapter.encode(examples))
    )


def test_batch_goes_straight_into_the_model(adapter):
    model, _ = tiny()
    batch = adapter.encode([example()])
    assert torch.isfinite(model(**batch).loss)


def test_long_questions_are_cut_in_the_question_alone():
    adapter = adapter_for(*tiny(), max_length=30)
    question = "What is the value of red and " + "a very long tail " * 50 + "?"
    room = 30 - 30 // 4
    (prompt,) = adapter.encode([example(question)], with_answers=False)["decoder_input_ids"].tolist()
    assert room - 4 < len(prompt) <= room
    assert prompt[0] == ids(adapter, "<chartqa>")[0]
    text = adapter.tokenizer.decode(prompt)
    assert text.startswith("<chartqa> What is the value of red and")
    assert text.endswith("<s_answer>")
    short = adapter.encode([example()], with_answers=False)
    uncut = adapter_for(*tiny()).encode([example()], with_answers=False)
    assert torch.equal(short["decoder_input_ids"], uncut["decoder_input_ids"])


@pytest.mark.parametrize("answer", ["3", "Yes No", "value value value", "value " * 40])
def test_the_prompt_does_not_depend_on_the_answer(answer):
    question = "What is the value of red and " + "a very long tail " * 50 + "?"
    adapter = adapter_for(*tiny(), max_length=60, on_long_answer="warn")
    for asked in (question, "red?"):
        (alone,) = adapter.encode([example(asked)], with_answers=False)["decoder_input_ids"].tolist()
        batch = adapter.encode([example(asked, answer)])
        assert batch["decoder_input_ids"][0, : adapter.prompt_lengths(batch)[0]].tolist() == alone
        assert answer.startswith(adapter.decode(batch["labels"])[0])


def test_random_padding_leaves_the_charts_pixels_alone(adapter):
    chart = drawn_charts()[0]["image"].resize((96, 64))
    centred = adapter.encode([example(image=chart)])["pixel_values"][0]
    center = lambda rows, columns: (rows // 2, columns // 2)  # noqa: E731
    placed = adapter.encode_images([chart], offsets=[center])["pixel_values"][0]
    assert torch.equal(centred, placed)


@pytest.mark.parametrize("decoder", PAIRS)
def test_pairs_train_with_the_start_token_that_generation_prepends(decoder):
    model, processor = pair(decoder)
    adapter = adapter_for(model, processor, prompt="Question: {question} Answer:")
    adapter.attach(model)
    examples = [example(), example("How many bars are there?", "12")]
    batch = adapter.encode(examples)
    assert batch["decoder_input_ids"][:, 0].tolist() == [processor.tokenizer.bos_token_id] * 2
    with torch.no_grad():
        logits = model(**batch).logits
        lengths = adapter.prompt_lengths(batch)
        first = [int(logits[row, length - 1].argmax()) for row, length in enumerate(lengths)]
        generated = adapter.generate(model, batch, max_new_tokens=1)
    assert generated[:, 0].tolist() == first


def test_missing_markers_ask_for_a_prompt_or_are_added_on_request():
    model, processor = pair("bert")
    vocabulary = processor.tokenizer
    vocabulary.backend_tokenizer  # noqa: B018 - a fast tokenizer is what the markers are looked up in
    plain = copy.deepcopy(processor)
    plain.tokenizer = WithoutMarkers(plain.tokenizer)
    with pytest.raises(ValueError, match=r"<chartqa> and <s_answer> of the prompt .* pass prompt="):
        adapter_for(model, plain)
    assert adapter_for(model, plain, prompt="{question}").prompt == "{question}"


@pytest.mark.parametrize(
    ("arguments", "unknown"),
    [
        (
            {"prompt": "<s_docvqa><s_question>{question}</s_question><s_answer>"},
            "<s_docvqa> and <s_question> and",
        ),
        ({"prompt": "<chartqa> {question} <s_ansewr>"}, "<s_ansewr> of the prompt"),
        ({"prompts": {"table": "<chartqa> table <s_tabel>"}}, "<s_tabel> of the prompt"),
    ],
)
def test_a_prompt_with_markers_that_are_no_tokens_is_refused(arguments, unknown):
    model, processor = tiny()
    with pytest.raises(ValueError, match=rf"^{unknown}.* is not in the vocabulary.*vocabulary.add_tokens\(model"):
        adapter_for(model, processor, **arguments)
    trained = {"prompt": arguments.get("prompt", "<chartqa> {question} <s_answer>"), **arguments}
    for given in ({}, arguments):  # a model that was trained so is asked so
        assert adapter_for(model, processor, saved=trained, **given).prompt == trained["prompt"]
    (text,) = arguments.get("prompts", {"qa": arguments.get("prompt")}).values()
    add_tokens(model, processor, re.findall("<[^>]*>", text))
    adapter_for(model, processor, **arguments)


class WithoutMarkers:
    """A tokenizer whose vocabulary lacks the markers."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)

    def __call__(self, *args, **kwargs):
        return self._tokenizer(*args, **kwargs)

    def __len__(self):
        return len(self._tokenizer)

    def get_vocab(self):
        return {k: v for k, v in self._tokenizer.get_vocab().items() if k not in ("<chartqa>", "<s_answer>")}


def test_a_cache_too_small_for_generation_is_refused_with_the_fix():
    model, processor = tiny(decoder_layers=2)
    model.config.decoder.encoder_layers = 1
    with pytest.raises(ValueError, match=r"set model\.config\.decoder\.encoder_layers = 2"):
        adapter_for(model, processor)
    model.config.decoder.encoder_layers = 2
    assert adapter_for(model, processor).generate(
        model, adapter_for(model, processor).encode([example()]), max_new_tokens=2
    ).shape == (1, 2)


def test_added_markers_grow_the_decoder_alone():
    model, processor = tiny()
    assert add_prompt_tokens(model, processor) == 0
    before = len(processor.tokenizer)
    processor.tokenizer.add_tokens(["<another>"])
    add_prompt_tokens(model, processor)
    assert model.decoder.get_input_embeddings().num_embeddings == before + 1
    assert model.config.decoder.vocab_size == before + 1
    adapter = adapter_for(model, processor, prompt="<another> {question} <s_answer>")
    assert torch.isfinite(model(**adapter.encode([example()])).loss)
