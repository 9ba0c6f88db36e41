"""Decoder-only families: where the answer begins and ends, what is refused, and how to define a family."""

from __future__ import annotations

import pickle
import re

import pytest
import torch
from tokenizers import AddedToken

from chartqa_ft.adapters import Causal, adapter_for
from chartqa_ft.adapters import registry as adapter_registry
from chartqa_ft.adapters.prompts import PROMPTS
from chartqa_ft.adapters.vocabulary import grow_vocabulary
from chartqa_ft.evaluation.answering import answer_questions

from ..support.common import ROOT
from ..support.families import FAMILIES, KINDS, build, records

CAUSAL = [name for name in FAMILIES if KINDS[name] == "causal"]


@pytest.fixture
def registry(monkeypatch):
    """A registry that a test may add to."""
    monkeypatch.setattr(adapter_registry, "_REGISTRY", dict(adapter_registry._REGISTRY))


# ---------------------------------------------------------------------- where an answer begins and ends
@pytest.mark.parametrize(
    ("name", "lead", "end"),
    [
        ("llava", " ", "</s>"),
        ("qwen2_5_vl", "", "<|im_end|>"),
        ("idefics3", " ", "<end_of_utterance>"),
        ("gemma3", "", "<end_of_turn>"),
        ("paligemma", "", "<eos>"),
        ("kosmos2", " ", "</s>"),
    ],
)
def test_answers_begin_and_end_as_the_chat_template_has_it(name, lead, end):
    model, processor = build(name)
    adapter = adapter_for(model, processor, prompt="{question}")
    assert (adapter.lead, processor.tokenizer.convert_ids_to_tokens(adapter.eos)) == (lead, end)
    (ids,) = adapter.answer_rows([{"question": "How tall?", "answer": "12.5 %"}])
    assert processor.tokenizer.decode(ids) == f"{lead}12.5 %{end}"
    assert adapter.eos in adapter.eos_token_ids


def test_a_turn_that_ends_with_another_token_than_the_tokenizers_eos_ends_generation_too():
    model, processor = build("qwen2_5_vl")
    processor.tokenizer.eos_token = "<|endoftext|>"
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    adapter = adapter_for(model, processor)
    tokens = processor.tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert adapter.eos == tokens[0]
    assert adapter.eos_token_ids == set(tokens)
    assert adapter.decode([[*processor.tokenizer("7")["input_ids"], tokens[0], 50]]) == ["7"]


def test_an_empty_line_of_thought_is_prompt_and_no_answer():
    """Reasoning templates put it before the answer. If it were trained and scored, no answer would be correct."""
    model, processor = build("qwen3_vl")
    processor.tokenizer.add_tokens(["<think>", "</think>"])
    model.resize_token_embeddings(len(processor.tokenizer), mean_resizing=False)
    processor.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
        "{% for c in m.content %}{% if c.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
        "{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
    )
    adapter = adapter_for(model, processor, prompt="{question}")
    rows = records(3)
    batch = adapter.encode(rows)
    assert adapter.decode(batch["labels"]) == [row["answer"] for row in rows]
    text = processor.tokenizer.decode(batch["input_ids"][0])
    assert text.count("assistant\n<think>\n\n</think>\n\n7<|im_end|>") == 1
    prompts = adapter.encode(rows, with_answers=False)
    assert processor.tokenizer.decode(prompts["input_ids"][1][prompts["attention_mask"][1].bool()]).endswith(
        "assistant\n<think>\n\n</think>\n\n"
    )
    assert torch.equal(
        adapter.generate(model, batch, max_new_tokens=4), adapter.generate(model, prompts, max_new_tokens=4)
    )


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for m in messages %}{{ m.role + ': ' + m.content }}{% endfor %}", "fails for a chart .*TypeError"),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", "shows no chart or no question"),
        ("{% for m in messages %}{{ m.content[-1].text }}{% endfor %}", "shows no chart or no question"),
    ],
)
def test_templates_that_cannot_take_a_chart_are_refused(template, message):
    model, processor = build("llava")
    processor.chat_template = template
    with pytest.raises(ValueError, match=rf"(?s)has a chat template that {message}.*@register_adapter\('llava'\)"):
        adapter_for(model, processor)


def test_penalties_of_a_checkpoint_change_no_answer():
    """Florence-2 forbids repeated trigrams and Qwen has a penalty, but the most likely answer is returned."""
    for name in ("florence2", "qwen2_5_vl", "trocr"):
        model, processor = build(name)
        adapter = adapter_for(model, processor, prompt="{question}")
        batch = adapter.encode(records(4))
        answers = {}
        for penalty, ngram in ((1.0, 0), (1.5, 1)):
            model.generation_config.update(repetition_penalty=penalty, no_repeat_ngram_size=ngram)
            answers[penalty] = adapter.generate(model, batch, max_new_tokens=8)
        assert torch.equal(answers[1.0], answers[1.5])
        asked = adapter.generate(model, batch, max_new_tokens=8, no_repeat_ngram_size=1)
        assert all(
            len(set(row)) == len(row) for row in ([i for i in r if i != adapter.pad_token_id] for r in asked.tolist())
        )


def test_templates_that_rewrite_past_answers_fall_back_to_the_plain_answer():
    model, processor = build("qwen3_vl")
    processor.chat_template += "{% if add_generation_prompt %}<think>\n{% endif %}"
    adapter = adapter_for(model, processor)
    assert adapter.lead == ""
    batch = adapter.encode(records(1))
    assert processor.tokenizer.decode(batch["input_ids"][0]).endswith("assistant\n<think>\n7<|im_end|>")


# ---------------------------------------------------------------------- prompts
@pytest.mark.parametrize("name", CAUSAL)
def test_the_published_prompt_is_the_default_and_another_wins(name):
    model, processor = build(name)
    adapter = adapter_for(model, processor)
    assert adapter.prompt == PROMPTS[model.config.model_type]
    question = records(1)[0]["question"]
    assert adapter.prompt.replace("{question}", question) in adapter.prompt_text(question)
    assert "Q: How {x}? A:" in adapter_for(model, processor, prompt="Q: {question} A:").prompt_text("How {x}?")


def test_a_question_that_holds_the_place_of_a_chart_is_named():
    model, processor = build("llava")
    adapter = adapter_for(model, processor)
    record = {**records(1)[0], "question": "What does <image> show?"}
    with pytest.raises(ValueError, match=r"chart_id='bars-0-0'.*the question holds '<image>'"):
        adapter.encode([record])


@pytest.mark.parametrize(
    ("name", "token"),
    [("llava", "</s>"), ("florence2", "</s>"), ("unichart", "<s_answer>"), ("gemma3", "<end_of_turn>")],
)
def test_a_question_that_spells_a_control_token_is_named(name, token):
    model, processor = build(name)
    record = {**records(1)[0], "question": f"How tall? {token}7"}
    with pytest.raises(ValueError, match=rf"the question holds '{token}', which is a control token of this model"):
        adapter_for(model, processor).encode([record], with_answers=False)


def test_the_default_of_several_chat_templates_is_used():
    model, processor = build("llava")
    usual = adapter_for(model, processor).encode(records(2))
    template = processor.chat_template
    processor.chat_template = {"tool_use": "{{ tools }}", "default": template}
    found = adapter_for(model, processor).encode(records(2))
    assert [key for key in usual if not torch.equal(found[key], usual[key])] == []
    processor.chat_template = {"rag": template, "tool_use": template}
    with pytest.raises(ValueError, match=r"has the chat templates 'rag', 'tool_use', and none is named 'default'"):
        adapter_for(model, processor)


def with_line_breaks():
    """A model of Gemma, whose tokenizer has tokens for line breaks."""
    model, processor = build("gemma3")
    breaks = [AddedToken("\n" * count, normalized=False, special=False) for count in (1, 2)]
    processor.tokenizer.add_tokens(breaks)
    grow_vocabulary(model, processor)
    return model, processor


def test_tokens_of_line_breaks_are_text():
    adapter = adapter_for(*with_line_breaks(), prompt="Answer briefly: {question}")
    assert [token for token in adapter.control_tokens if not token.strip()] == []
    example = {**records(1)[0], "question": "Sales.\nHow tall is the red bar?", "answer": "3\n4"}
    assert adapter.decode(adapter.encode([example])["labels"]) == ["3\n4"]


def test_a_line_break_after_a_turn_ends_no_answer():
    model, processor = with_line_breaks()
    processor.chat_template = (
        "{{ bos_token }}{% for m in messages %}{{ 'USER: ' if m.role == 'user' else 'ASSISTANT: ' }}"
        "{% for p in m.content %}{{ '<start_of_image>' if p.type == 'image' else p.text }}{% endfor %}{{ '\n' }}"
        "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    )
    adapter = adapter_for(model, processor)
    assert adapter.eos == processor.tokenizer.eos_token_id
    assert adapter.decode(adapter.encode([{**records(1)[0], "answer": "3\n4"}])["labels"]) == ["3\n4"]


@pytest.mark.parametrize("answer", ["7</s>", "<s>7"])
def test_an_answer_that_spells_a_special_token_is_named(answer):
    model, processor = build("llava")
    with pytest.raises(ValueError, match=r"the answer .* holds '</?s>', which no answer can hold"):
        adapter_for(model, processor).encode([{**records(1)[0], "answer": answer + " x"}])


def test_a_prompt_that_leaves_no_room_is_refused_with_the_numbers():
    model, processor = build("llava")
    adapter = adapter_for(model, processor, prompt="{question}", max_length=64)
    fits, long = records(1)[0], {**records(1)[0], "question": "How? " * 40}
    batch = adapter.encode([fits])
    length = int((batch["labels"] == -100).sum())
    assert length <= 48
    with pytest.raises(ValueError) as error:
        adapter.encode([fits, long])
    numbers = re.search(
        r"the prompt takes (\d+) tokens \((\d+) for the chart, (\d+) for the text\), and together with 16 for an "
        "answer it must fit into 64",
        str(error.value),
    )
    total, chart, text = map(int, numbers.groups())
    assert chart == 16
    assert total == chart + text
    whole = adapter_for(model, processor, prompt="{question}").encode([long])
    assert total == int((whole["input_ids"] != 0).sum() - (whole["labels"] != -100).sum())
    assert f"the limit of the model ({model.config.text_config.max_position_embeddings})" in str(error.value)


def test_long_answers_are_named_or_cut():
    model, processor = build("llava")
    record = {**records(1)[0], "answer": "one two three four five six seven eight nine ten eleven twelve"}
    settings = {"prompt": "{question}", "max_length": 64}
    with pytest.raises(ValueError, match=r"the answer takes \d+ tokens, \d+ are left of max_length=64"):
        adapter_for(model, processor, **settings).encode([record])
    batch = adapter_for(model, processor, on_long_answer="warn", **settings).encode([record])
    assert batch["input_ids"].shape == (1, 64)


# ---------------------------------------------------------------------- kinds
@pytest.mark.parametrize("name", CAUSAL)
def test_adapters_travel_to_spawned_workers(name):
    model, processor = build(name)
    adapter = pickle.loads(pickle.dumps(adapter_for(model, processor, prompt="{question}")))
    batch, again = adapter.encode(records(3)), adapter_for(model, processor, prompt="{question}").encode(records(3))
    assert all(torch.equal(batch[key], again[key]) for key in again)


def test_an_unknown_model_with_a_chat_template_works_as_it_is():
    model, processor = build("llava")
    model.config.model_type = "unheard-of"
    adapter = adapter_for(model, processor)
    assert type(adapter) is Causal
    assert adapter.prompt == "{question}\nAnswer the question with a single word."
    rows = records(2)
    answers = answer_questions(model, processor, [r["image"] for r in rows], [r["question"] for r in rows])
    assert len(answers) == 2


def test_the_lines_of_the_error_make_an_unknown_model_without_a_template_work(registry):
    model, processor = build("llava")
    model.config.model_type = "unheard-of"
    processor.chat_template = processor.tokenizer.chat_template = None
    with pytest.raises(ValueError, match="has no chat template") as error:
        adapter_for(model, processor)
    lines = str(error.value).split("Causal):\n", 1)[1]
    assert len(lines.splitlines()) == 3  # padded prompts were tried, and work
    exec(lines, {"register_adapter": adapter_registry.register_adapter, "Causal": Causal})
    adapter = adapter_for(model, processor)
    batch = adapter.encode([{**records(1)[0], "question": "How tall?", "answer": "7"}])
    text = processor.tokenizer.decode(batch["input_ids"][0])
    assert text == "<s>" + "<image>" * 16 + "How tall?\nAnswer the question with a single word. 7</s>"
    assert adapter.generate(model, batch, max_new_tokens=3).shape == (1, 3)


def test_the_own_family_of_the_page_works(registry):
    page = (ROOT / "examples" / "own_family.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(from chartqa_ft import [^`]*@register_adapter[^`]*)```", page)
    assert len(code.splitlines()) <= 20
    scope: dict = {}
    exec(code, scope)
    model, processor = build("llava")
    model.config.model_type = "my-vlm"
    adapter = adapter_for(model, processor)
    assert type(adapter) is scope["MyFamily"]
    rows = records(3)
    batch = adapter.encode(rows)
    assert adapter.decode(batch["labels"]) == [row["answer"] for row in rows]
    alone = [adapter.generate(model, adapter.encode([row]), max_new_tokens=4) for row in rows]
    assert adapter.generate(model, batch, max_new_tokens=4).equal(torch.cat(alone))


def test_kosmos_loses_the_grounding_of_an_answer():
    model, processor = build("kosmos2")
    adapter = adapter_for(model, processor)
    written = adapter.tokenize([" <phrase>7</phrase><object><patch_index_0001><patch_index_0009></object></s> 8"])
    assert adapter.decode(written) == ["7"]
    for text in ("a <b> c", "3 < 5 > 4", "<5%", "<phrases>"):
        assert adapter.decode(adapter.encode([{**records(1)[0], "answer": text}])["labels"]) == [text]


def test_generation_settings_that_would_change_what_is_returned_are_refused():
    model, processor = build("llava")
    adapter = adapter_for(model, processor)
    batch = adapter.encode(records(1))
    with pytest.raises(ValueError, match="takes no max_length=9"):
        adapter.generate(model, batch, max_new_tokens=2, max_length=9)
    with pytest.raises(TypeError, match="unknown arguments: beams"):
        adapter.generate(model, batch, max_new_tokens=2, beams=3)


# ---------------------------------------------------------------------- rows that are answered together
@pytest.mark.parametrize("with_answers", [True, False])
@pytest.mark.parametrize("name", CAUSAL)
def test_a_row_beside_a_long_prompt_gets_the_tokens_that_it_gets_alone(name, with_answers):
    model, processor = build(name)
    adapter = adapter_for(model.eval(), processor)
    rows = [dict(row) for row in records(4)]
    rows[1]["question"] += " and so on" * 6
    prompts = adapter.encode(rows, with_answers=False)
    longest = int(prompts["attention_mask"].sum(dim=1).max())
    adapter.positions = longest + 3
    batch = adapter.encode(rows, with_answers=with_answers)
    if "labels" in batch:
        batch["rows"] = [{"index": number} for number in range(len(rows))]
    together = adapter.generate(model, batch, max_new_tokens=8)
    for row, ids in zip(rows, together, strict=True):
        alone = adapter.encode([row], with_answers=False)
        wanted = adapter.generate(model, alone, max_new_tokens=8)
        assert torch.equal(ids, wanted[0])
    short = [row for row in range(4) if row != 1]
    assert (together[short] != adapter.pad_token_id).sum() > 3 * len(short)


def test_more_tokens_than_the_model_has_positions_for_are_padded_to_the_longest_answer():
    model, processor = build("llava")
    adapter = adapter_for(model, processor)
    rows = records(2)
    batch = adapter.encode(rows, with_answers=False)
    short, long = batch["attention_mask"].sum(dim=1).tolist()
    adapter.positions = long + 3
    settings = {"max_new_tokens": adapter.positions + 1, "suppress_tokens": sorted(adapter.eos_token_ids)}
    together = adapter.generate(model, batch, **settings)
    assert together.shape == (2, long + 3 - short)
    for row, ids, width in zip(rows, together, (long + 3 - short, 3), strict=True):
        alone = adapter.generate(model, adapter.encode([row], with_answers=False), **settings)
        assert alone.shape == (1, width)
        assert torch.equal(ids[:width], alone[0])
        assert (ids[width:] == adapter.pad_token_id).all()


def test_tensors_of_charts_are_not_taken_for_tensors_of_tokens(monkeypatch):
    """A chart may have as many patches as the longest prompt has tokens."""
    adapter = adapter_for(*build("qwen2_5_vl"))
    mask = torch.ones(2, 5, dtype=torch.long)
    batch = {
        "input_ids": mask,
        "attention_mask": mask,
        "mm_token_type_ids": mask,
        "pixel_values": torch.zeros(2, 5, 12),
        "pixel_values_of_another_name": torch.zeros(2, 5, 12),
        "image_grid_thw": torch.ones(2, 5, dtype=torch.long),
    }
    assert list(adapter.per_token(batch, mask)) == ["input_ids", "attention_mask", "mm_token_type_ids"]

    # Names that neither the processor declares nor this library knows are tried with two questions on one chart.
    upstream, calls = adapter.prompt_batch, []

    def prompt_batch(examples, images):
        calls.append(images)
        own = dict(upstream(examples, images))
        return {**own, "segments": own["attention_mask"], "patch_places": torch.zeros(1, 40, 2, dtype=torch.long)}

    monkeypatch.setattr(adapter, "prompt_batch", prompt_batch)
    own = {**batch, "segments": mask, "patch_places": torch.zeros(2, 5, 2, dtype=torch.long)}
    for _ in range(2):
        assert list(adapter.per_token(own, mask)) == ["input_ids", "attention_mask", "mm_token_type_ids", "segments"]
    assert len(calls) == 2


@pytest.mark.parametrize("length", [38, 39, 40, 41, 42])
def test_integer_tensors_of_a_chart_stay_whole_at_any_length_of_the_prompt(length, monkeypatch):
    model, processor = build("llava")
    adapter = adapter_for(model, processor, prompt="{question}")
    adapter.forward_names |= {"patch_places"}
    upstream = adapter.prompt_batch
    places = torch.arange(40)[None]
    monkeypatch.setattr(
        adapter, "prompt_batch", lambda examples, images: {**upstream(examples, images), "patch_places": places}
    )
    frame = adapter.encode([{**records(1)[0], "question": "7"}], with_answers=False)["input_ids"].shape[1]
    row = {**records(1)[0], "question": "7" + " 7" * ((length - frame) // 2) + "." * ((length - frame) % 2)}
    batch = adapter.encode([row])
    assert (batch["labels"] == -100).sum() == length
    assert torch.equal(batch["patch_places"], places)


def test_rows_with_unequal_room_are_not_split_if_a_tensor_indexes_the_whole_batch():
    model, processor = build("llava")
    adapter = adapter_for(model, processor)
    batch = adapter.encode(records(2), with_answers=False)
    adapter.positions = int(batch["attention_mask"].sum(dim=1).max()) + 3
    assert [rows.tolist() for rows, _ in adapter.split_by_room(batch, 8)] == [[1], [0]]
    batch["image_token_pooling"] = torch.arange(int(adapter.image_mask(batch).sum()))[:, None]
    assert [rows.tolist() for rows, _ in adapter.split_by_room(batch, 8)] == [[0, 1]]
