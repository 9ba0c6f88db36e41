"""What chat templates write around answers and into prompts: the end token, today's date, a system message."""

from __future__ import annotations

import datetime as clock

import pytest
import torch
from transformers.utils import chat_template_utils

from chartqa_ft import load_checkpoint
from chartqa_ft.adapters import adapter_for, base_model
from chartqa_ft.adapters.prompts import THINK_ANSWER_PROMPT
from chartqa_ft.adapters.registry import SETTINGS_KEY
from chartqa_ft.adapters.vocabulary import grow_vocabulary
from chartqa_ft.metrics.extraction import extracted
from chartqa_ft.models.chartqa_config import read_settings, save_settings
from chartqa_ft.training.preparing import prepare_model
from chartqa_ft.training.resuming import resume_prompt

from ..support.common import arguments
from ..support.families import GEMMA_CHAT, MISTRAL_CHAT, build, chatml, records

CHATML = chatml("<|vision_start|><|image_pad|><|vision_end|>", system=False)


# ---------------------------------------------------------------------- the end of an answer
@pytest.mark.parametrize(
    ("name", "template", "thought", "lead", "end"),
    [
        ("gemma3", GEMMA_CHAT, "<unused_thought>\n<unused_end>", " ", "<end_of_turn>"),
        ("gemma3", GEMMA_CHAT, "<start_of_turn>", "", "<end_of_turn>"),
        ("gemma3", GEMMA_CHAT, "thought\n", "", "<end_of_turn>"),
        ("qwen3_vl", CHATML, "<think>\n\n</think>\n\n", "", "<|im_end|>"),
        ("qwen3_vl", CHATML, "Final answer:", " ", "<|im_end|>"),
        ("llava_next", MISTRAL_CHAT, "[THINK][/THINK]", " ", "</s>"),
    ],
)
def test_the_end_of_an_answer_is_the_one_of_the_template_though_only_the_generation_prompt_has_a_thought(
    name, template, thought, lead, end
):
    model, processor = build(name)
    tokenizer = processor.tokenizer
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    tokenizer.eos_token = tokenizer.pad_token if end != tokenizer.eos_token else tokenizer.eos_token
    processor.chat_template = (
        template + "{% if add_generation_prompt %}{{ '" + thought.replace("\n", "\\n") + "' }}{% endif %}"
    )
    adapter = adapter_for(model, processor, prompt="{question}")
    assert (adapter.opening, adapter.lead, tokenizer.decode([adapter.eos])) == ([], lead, end)
    assert adapter.eos in adapter.eos_token_ids
    (row,) = adapter.encode(records(1))["labels"]
    assert tokenizer.decode(row[row != -100]) == f"{lead}7{end}"


# ---------------------------------------------------------------------- today's date
DATED = "{% set today = strftime_now('%d %B %Y') %}{{ 'It is ' + today + '. ' }}" + MISTRAL_CHAT
DATES = {
    "plain": DATED,
    "if unset": "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{{ 'Today Date: ' + date_string }}" + MISTRAL_CHAT,
    "if there is a clock": "{{ strftime_now('%Y') if strftime_now is defined else '2024' }}" + MISTRAL_CHAT,
}


@pytest.fixture
def day(monkeypatch):
    """Sets the day, for this library and for the templates of transformers."""

    def set_day(text: str) -> None:
        now = clock.datetime.fromisoformat(text)

        class Datetime(clock.datetime):
            @classmethod
            def now(cls, tz=None):
                return now

        class Date(clock.date):
            @classmethod
            def today(cls):
                return now.date()

        monkeypatch.setattr(chat_template_utils, "datetime", Datetime)
        monkeypatch.setattr("chartqa_ft.adapters.causal.date", Date)

    set_day("2026-12-31")
    return set_day


def prompt_of(adapter) -> str:
    return adapter.tokenizer.decode(adapter.encode(records(1), with_answers=False)["input_ids"][0])


@pytest.mark.parametrize("template", DATES.values(), ids=DATES)
def test_the_date_in_a_prompt_is_that_of_the_training_wherever_the_model_is_used(template, day, tmp_path):
    model, processor = build("llava_next")
    processor.chat_template = template
    adapter = adapter_for(model, processor)
    first = prompt_of(adapter)
    assert "2026" in first
    assert first == prompt_of(adapter_for(model, processor, prompt_date="2026-12-31"))
    _, _, adapter = prepare_model(model, arguments(tmp_path / "out"), processor, adapter, None)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    save_settings(adapter, tmp_path)

    day("2027-01-01")
    assert prompt_of(adapter) == first
    assert prompt_of(adapter_for(model, processor)) == first  # the settings are in the config of the model
    *_, loaded = load_checkpoint(tmp_path)
    assert loaded.settings() == adapter.settings()
    assert prompt_of(loaded) == first
    assert adapter.chat_text("a", answer="b").startswith(adapter.chat_text("a").partition("[INST]")[0])

    # A training that is resumed on another day, from a base model that knows no day.
    model, processor = build("llava_next")
    processor.chat_template = template
    adapter = adapter_for(model, processor)
    assert prompt_of(adapter) != first
    resume_prompt(adapter, model, None)
    assert prompt_of(adapter) != first
    resume_prompt(adapter, model, tmp_path)
    assert prompt_of(adapter) == first
    assert getattr(base_model(model).config, SETTINGS_KEY)["prompt_date"] == "2026-12-31"


def test_a_template_without_a_date_has_no_setting_for_it_and_a_wrong_date_is_refused():
    model, processor = build("llava_next")
    assert set(adapter_for(model, processor).settings()) == {"adapter", "prompt", "max_length"}
    for wrong in ("31.12.2026", "tomorrow", 20261231):
        with pytest.raises(ValueError, match=r"prompt_date must be a date like '2025-12-31', got"):
            adapter_for(model, processor, prompt_date=wrong)
    for name in ("llava_next", "paligemma"):
        with pytest.raises(ValueError, match=r"prompt_date='2026-12-31' has no effect: .* hold no date"):
            adapter_for(*build(name), prompt_date="2026-12-31")
        saved = {"prompt_date": "2026-12-31"}  # of an earlier release
        assert adapter_for(*build(name), saved=saved).prompt_date == "2026-12-31"


# ---------------------------------------------------------------------- a system message
STRICT_SYSTEM = """{%- if messages[0].role == 'system' %}
{{- 'S: ' + messages[0].content + '. ' }}{% set messages = messages[1:] %}{% endif %}"""


@pytest.mark.parametrize(
    ("name", "template", "start"),
    [
        ("qwen3_vl", None, "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n"),
        ("internvl", None, "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n"),
        ("idefics3", None, "<|begin_of_text|>System: Be brief.<end_of_utterance>\nUser:"),
        ("llava_next", STRICT_SYSTEM + MISTRAL_CHAT, "<s>S: Be brief.. [INST] "),
    ],
)
def test_a_system_message_stands_before_the_question_and_is_saved(name, template, start, tmp_path):
    model, processor = build(name)
    if template is not None:
        processor.chat_template = template
    adapter = adapter_for(model, processor, system_prompt="Be brief.")
    assert prompt_of(adapter).startswith(start)
    alone = adapter_for(model, processor)
    assert "Be brief" not in prompt_of(alone)
    (row,) = adapter.encode(records(1))["labels"]
    (other,) = alone.encode(records(1))["labels"]
    assert torch.equal(row[row != -100], other[other != -100])
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    save_settings(adapter, tmp_path)
    assert read_settings(tmp_path)["system_prompt"] == "Be brief."
    *_, loaded = load_checkpoint(tmp_path)
    assert prompt_of(loaded) == prompt_of(adapter)
    *_, loaded = load_checkpoint(tmp_path, system_prompt="Think.")
    assert prompt_of(loaded) == prompt_of(adapter).replace("Be brief.", "Think.")


@pytest.mark.parametrize("name", ["qwen3_vl", "internvl", "idefics3"])
def test_answers_with_their_reasoning_are_learned_whole_and_scored_by_what_is_in_the_tag(name):
    model, processor = build(name)
    processor.tokenizer.add_tokens(["<think>", "</think>"])
    grow_vocabulary(model, processor)
    adapter = adapter_for(model, processor, prompt="{question}", system_prompt=THINK_ANSWER_PROMPT)
    assert THINK_ANSWER_PROMPT in prompt_of(adapter)
    answer = "<think>The red bar ends at 7.</think> <answer>7</answer>"
    (said,) = adapter.decode(adapter.encode([{**records(1)[0], "answer": answer}])["labels"])
    assert said == answer
    assert extracted([said], "auto") == (["7"], 1)


@pytest.mark.parametrize("name", ["unichart", "pix2struct", "florence2", "paligemma", "kosmos2"])
def test_families_without_a_chat_take_no_system_message(name):
    with pytest.raises(ValueError, match=r"have no chat template, and so no system message: put the text of system_p"):
        adapter_for(*build(name), prompt="{question}", system_prompt="Be brief.")


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% set messages = messages[-1:] if add_generation_prompt else messages[-2:] %}", "it does not show it"),
        (
            "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}",
            "fails for it .*no sys",
        ),
    ],
)
def test_a_template_that_drops_or_refuses_a_system_message_is_named(template, reason):
    model, processor = build("llava_next")
    processor.chat_template = template + MISTRAL_CHAT
    assert adapter_for(model, processor).system_prompt is None
    with pytest.raises(ValueError, match=rf"'llava_next' model takes no system message: .*{reason}"):
        adapter_for(model, processor, system_prompt="Be brief.")
    for wrong in ("", "  ", 7):
        with pytest.raises(ValueError, match="system_prompt must be a text that is not empty"):
            adapter_for(model, processor, system_prompt=wrong)
