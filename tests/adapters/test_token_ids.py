"""Which tokens end an answer, pad it, and must not stand in a text, also after a tokenizer was replaced."""

from __future__ import annotations

import pytest
import torch

from chartqa_ft import adapter_for, add_tokens

from ..support.common import tiny
from ..support.encoding import example
from ..support.families import build, records


def ordinary(tokenizer, text="9"):
    return tokenizer.convert_tokens_to_ids(text)


def test_an_end_of_another_tokenizer_is_refused_with_the_line_to_write():
    model, processor = tiny()
    model.generation_config.eos_token_id = [ordinary(processor.tokenizer)]
    with pytest.raises(ValueError, match=r"generation_config\.eos_token_id=\[\d+\] .* ordinary token '9'.*Write"):
        adapter_for(model, processor)
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    assert adapter_for(model, processor).eos_token_ids == {2}


def test_a_stop_token_beside_the_eos_of_the_tokenizer_is_kept():
    model, processor = tiny()
    stop = ordinary(processor.tokenizer, "!")
    model.generation_config.eos_token_id = [2, stop]
    assert adapter_for(model, processor).eos_token_ids == {2, stop}


def test_a_padding_of_another_tokenizer_takes_nothing_from_answers():
    model, processor = tiny()
    model.generation_config.pad_token_id = ordinary(processor.tokenizer)
    processor.tokenizer.pad_token = None
    adapter = adapter_for(model, processor)
    assert adapter.pad_token_id == processor.tokenizer.eos_token_id
    assert adapter.decode(adapter.encode([example(answer="1998")])["labels"]) == ["1998"]


@pytest.mark.parametrize("special", [True, False])
def test_a_marker_without_an_embedding_is_refused_and_the_function_named(special):
    model, processor = tiny()
    processor.tokenizer.add_tokens(["<task>"], special_tokens=special)
    with pytest.raises(ValueError, match=r"token '<task>' has the id \d+, but the model has \d+ embeddings.*grow_"):
        adapter_for(model, processor, prompt="<task> {question} <s_answer>")
    adapter_for(model, processor)  # no batch holds it


def test_a_token_in_an_answer_without_an_embedding_names_the_record():
    model, processor = tiny()
    processor.tokenizer.add_tokens(["<bar>"])
    adapter = adapter_for(model, processor)
    adapter.check_texts([example()])
    with pytest.raises(ValueError, match=r"chart_id='w'.*holds the token '<bar>'.*grow_vocabulary"):
        adapter.check_texts([example(answer="a <bar> b")])
    add_tokens(model, processor, ["<bar>"])
    adapter = adapter_for(model, processor)
    adapter.check_texts([example(answer="a <bar> b")])
    assert adapter.decode(adapter.encode([example(answer="a <bar> b")])["labels"]) == ["a <bar> b"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("qwen2_5_vl", "<|vision_end|>"),
        ("qwen2_5_vl", "<|image_pad|>"),
        ("gemma3", "<end_of_image>"),
        ("gemma3", "<end_of_turn>"),
        ("paligemma", "<loc0000>"),
        ("kosmos2", "<phrase>"),
        ("kosmos2", "<patch_index_0003>"),
        ("kosmos2", "<grounding>"),
        ("internvl", "</img>"),
        ("llava", "<image>"),
        ("florence2", "</s>"),
        ("florence2", "<loc_1>"),
        ("florence2", "<OCR>"),
        ("paligemma", "<seg001>"),
        ("qwen2_5_vl", "<|im_start|>"),
    ],
)
@pytest.mark.parametrize("column", ["question", "answer"])
def test_control_tokens_are_refused_in_questions_and_answers(name, text, column):
    model, processor = build(name)
    adapter = adapter_for(model, processor)
    if name != "florence2" and text not in processor.tokenizer.get_vocab():  # whose processor reads its text itself
        pytest.fail(f"{name} has no {text}")
    row = {**records(1)[0], "chart_id": "c7"}
    row[column] = f"a{text}b"
    for call in (adapter.encode, adapter.check_texts):
        with pytest.raises(ValueError, match=f"chart_id='c7'.*the {column} .*holds") as error:
            call([row])
        assert text in str(error.value)


@pytest.mark.parametrize("text", ["<extra_id_0>", "<s_total>", "<loc_7>", "<|box_start|>"])
@pytest.mark.parametrize("name", ["pix2struct", "nougat", "llava", "qwen2_5_vl"])
def test_special_tokens_of_a_tokenizer_are_refused_whatever_they_look_like(name, text):
    model, processor = build(name)
    row = {**records(1)[0], "answer": f"7 {text}"}
    adapter_for(model, processor).check_texts([row])  # no token yet
    add_tokens(model, processor, [text], special=True)
    with pytest.raises(ValueError, match=r"the answer .* holds") as error:
        adapter_for(model, processor).check_texts([row])
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("name", "text"), [("florence2", "<loc_999>"), ("paligemma", "<loc9999>"), ("kosmos2", "<patch_index_9999>")]
)
def test_places_that_the_vocabulary_lacks_are_refused_where_a_model_reads_places(name, text):
    model, processor = build(name)
    assert text not in processor.tokenizer.get_vocab()
    row = {**records(1)[0], "question": f"What is at {text}?"}
    with pytest.raises(ValueError, match=f"the question holds '{text}'"):
        adapter_for(model, processor).check_texts([row])
    adapter_for(*build("llava")).check_texts([row])


@pytest.mark.parametrize(
    "text", ["<b>5</b>", "[image]", "< 5 >", "<imag>", "<|im|>", "</p>", "image_pad", "<5", "<loc"]
)
@pytest.mark.parametrize("name", ["qwen2_5_vl", "kosmos2", "idefics3", "unichart", "florence2", "paligemma"])
def test_other_markup_is_text_that_is_read_back(name, text):
    model, processor = build(name)
    adapter = adapter_for(model, processor)
    row = {**records(1)[0], "answer": text, "question": f"What does {text} mean?"}
    adapter.check_texts([row])
    assert adapter.decode(adapter.encode([row])["labels"]) == [text]


def test_reasoning_in_an_answer_is_text():
    model, processor = build("qwen3_vl")
    add_tokens(model, processor, ["<think>", "</think>"])
    adapter = adapter_for(model, processor)
    row = {**records(1)[0], "answer": "<think>6 + 1</think> 7"}
    assert adapter.decode(adapter.encode([row])["labels"]) == ["<think>6 + 1</think> 7"]


@pytest.mark.parametrize(
    ("prompt", "written", "read"),
    [
        ("<s_docvqa><s_question>{question}</s_question><s_answer>", " 28.98</s_answer></s>", "28.98"),
        ("<s_docvqa><s_question>{question}</s_question><s_answer>", "a</s_answer><s_question>b</s>", "a"),
        ("<s_vqa>{question}<s_reply> ", "7</s_reply>", "7"),
        ("<chartqa> {question} <s_answer>", "7 <s_answer> 8</s>", "7"),
        ("{question}", "7</s_answer></s>", "7</s_answer>"),
    ],
)
def test_the_closing_marker_of_donut_is_no_part_of_an_answer(prompt, written, read):
    model, processor = tiny()
    new = ["<s_docvqa>", "<s_question>", "</s_question>", "</s_answer>", "<s_vqa>", "<s_reply>", "</s_reply>"]
    add_tokens(model, processor, new, special=True)
    adapter = adapter_for(model, processor, prompt=prompt)
    ids = processor.tokenizer([written], add_special_tokens=False)["input_ids"]
    if prompt == "{question}":  # a marker that this prompt did not open, but a special token of the tokenizer
        adapter.skipped_ids -= set(processor.tokenizer.convert_tokens_to_ids(["</s_answer>"]))
    assert adapter.decode(torch.tensor(ids)) == [read]


def test_a_question_that_is_no_text_is_refused_by_name():
    adapter = adapter_for(*tiny())
    for question in (None, 7, ["How?"]):
        with pytest.raises(ValueError, match=r"chart_id='w'.*the question is .*, not a str"):
            adapter.encode([{**example(), "question": question}])


def test_records_without_a_column_of_questions_name_their_columns():
    adapter = adapter_for(*tiny())
    row = {"image": example()["image"], "query": "How?", "answer": "7"}
    with pytest.raises(ValueError, match=r"no 'question', but the columns 'image', 'query', 'answer'.*load_chartqa"):
        adapter.encode([row])
