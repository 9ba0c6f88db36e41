"""Settings of generation that would be ignored or crash are named before a model runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import LogitsProcessorList, MinNewTokensLengthLogitsProcessor, WatermarkingConfig

from chartqa_ft import adapter_for, answer_questions
from chartqa_ft.adapters.generation_checks import check_arguments

from ..support.common import tiny
from ..support.families import build, records


@pytest.fixture(scope="module")
def world():
    model, processor = tiny()
    adapter = adapter_for(model.eval(), processor)
    chart = Image.new("RGB", (96, 96), "white")
    return model, adapter, adapter.encode([{"image": chart, "question": "How much?"}], with_answers=False)


def generate(world, **settings):
    model, adapter, batch = world
    return adapter.generate(model, batch, **{"max_new_tokens": 3, **settings})


@pytest.mark.parametrize(
    ("settings", "kind", "words"),
    [
        ({"max_new_tokens": 1.5}, TypeError, "max_new_tokens must be an int"),
        ({"max_new_tokens": "8"}, TypeError, "max_new_tokens must be an int"),
        ({"max_new_tokens": 0}, ValueError, "max_new_tokens must be at least 1"),
        ({"num_beams": 0}, ValueError, "num_beams must be at least 1"),
        ({"num_beams": math.nan}, TypeError, "num_beams must be an int"),
        ({"num_beams": True}, TypeError, "num_beams must be an int"),
        ({"num_beams": None}, TypeError, "num_beams must be an int"),
        ({"min_new_tokens": 4}, ValueError, "min_new_tokens=4 is more than max_new_tokens=3"),
        ({"min_new_tokens": "2"}, TypeError, "min_new_tokens"),
        ({"min_new_tokens": -1}, ValueError, "min_new_tokens"),
        ({"temperature": 0.5}, ValueError, "temperature=0.5 has no effect without sampling"),
        ({"top_k": 5}, ValueError, "top_k=5 has no effect"),
        ({"top_p": 0.5, "do_sample": False}, ValueError, "top_p=0.5 has no effect"),
        ({"min_p": 0.1, "do_sample": None}, ValueError, "min_p=0.1 has no effect"),
        ({"do_sample": "no"}, TypeError, "do_sample must be True or False"),
        ({"do_sample": 1}, TypeError, "do_sample"),
        ({"use_cache": "yes"}, TypeError, "use_cache must be True, False or None"),
        ({"epsilon_cutoff": 0.1}, ValueError, "epsilon_cutoff=0.1 has no effect"),
        ({"logits_processor": "x"}, TypeError, "logits_processor must be a list of functions"),
        ({"logits_processor": lambda ids, scores: scores}, TypeError, "logits_processor must be a list"),
        ({"logits_processor": ["x"]}, TypeError, "logits_processor must be a list"),
        ({"stopping_criteria": 5}, TypeError, "stopping_criteria must be a list"),
        ({"min_length": 10}, ValueError, "takes no min_length=10.*pass min_new_tokens"),
        ({"token_healing": True}, ValueError, "takes no token_healing=True"),
        ({"force_words_ids": [[5]]}, ValueError, "takes no force_words_ids.*code from the Hub"),
        ({"dola_layers": "low"}, ValueError, "takes no dola_layers='low'"),
        ({"penalty_alpha": 0.6}, ValueError, "takes no penalty_alpha=0.6"),
        ({"num_beam_groups": 2}, ValueError, "takes no num_beam_groups=2"),
        ({"diversity_penalty": 0.5}, ValueError, "takes no diversity_penalty=0.5"),
        ({"assistant_early_exit": 1}, ValueError, "takes no assistant_early_exit=1"),
        ({"assistant_model": torch.nn.Linear(1, 1)}, ValueError, "assistant_model does not work with the separate"),
        ({"guidance_scale": 1.5}, ValueError, "guidance_scale=1.5 needs a decoder-only model"),
        ({"output_scores": True}, ValueError, "takes no output_scores=True: only the ids"),
        ({"decoder_start_token_id": 0}, ValueError, "takes no decoder_start_token_id=0.*model.generation_config"),
        ({"bos_token_id": 5}, ValueError, "takes no bos_token_id=5"),
        ({"forced_bos_token_id": 5}, ValueError, "forced_bos_token_id has no effect"),
        ({"stop_strings": 5}, TypeError, "stop_strings must be a text"),
        ({"stop_strings": [""]}, TypeError, "stop_strings must be a text"),
        ({"bad_words_ids": 5}, TypeError, "bad_words_ids=5 cannot be used"),
        ({"bad_words_ids": [["a"]]}, ValueError, "bad_words_ids=.* cannot be used"),
        ({"suppress_tokens": "x"}, ValueError, "suppress_tokens='x' cannot be used"),
        ({"sequence_bias": {}}, ValueError, "sequence_bias=.* cannot be used"),
        ({"no_repeat_ngram_size": -1}, ValueError, "no_repeat_ngram_size=-1 cannot be used"),
        ({"length_penalty": "x", "num_beams": 2}, TypeError, "length_penalty='x' cannot be used"),
        ({"early_stopping": "sometimes", "num_beams": 2}, ValueError, "early_stopping='sometimes' cannot be used"),
        ({"cache_implementation": "nope"}, ValueError, "cache_implementation='nope' cannot be used"),
        ({"temperature": 0.0, "do_sample": True}, ValueError, "temperature=0.0 cannot be used"),
        ({"prefix_allowed_tokens_fn": 5}, TypeError, "prefix_allowed_tokens_fn must be a function"),
    ],
)
def test_wrong_settings_are_named(world, settings, kind, words):
    with pytest.raises(kind, match=words):
        generate(world, **settings)


def test_names_of_parameters_are_no_arguments(world):
    for name in ("self", "kwargs"):
        with pytest.raises(TypeError, match=f"unknown arguments: {name}"):
            check_arguments(world[0], {name: 3})


def test_neutral_and_right_settings_are_used(world):
    usual = generate(world)
    for neutral in (
        *({"temperature": 1.0}, {"top_k": 0}, {"top_p": None}, {"min_new_tokens": 0}, {"do_sample": False}),
        *({"min_length": 0}, {"token_healing": False}, {"num_beam_groups": 1}, {"diversity_penalty": 0.0}),
        *({"stop_strings": None}, {"guidance_scale": 1.0}, {"output_scores": False}, {"no_repeat_ngram_size": 0}),
        *({"bad_words_ids": []}, {"bad_words_ids": None}, {"penalty_alpha": 0.0}, {"early_stopping": True}),
    ):
        assert torch.equal(generate(world, **neutral), usual), neutral
    assert torch.equal(generate(world, max_new_tokens=np.int64(3), num_beams=np.int64(1)), usual)
    processors = LogitsProcessorList([MinNewTokensLengthLogitsProcessor(0, 2, 2)])
    assert generate(world, logits_processor=processors).shape == (1, 3)
    torch.manual_seed(0)
    assert generate(world, do_sample=True, temperature=0.5).shape == (1, 3)


def test_more_tokens_than_positions_take_no_more_memory(world):
    _, adapter, _ = world
    ids = generate(world, max_new_tokens=10**9)
    assert ids.shape[1] <= adapter.positions
    few = generate(world, max_new_tokens=5)
    assert few.shape == (1, 5)
    assert torch.equal(ids[0, :1], few[0, :1])


def test_answer_questions_names_its_arguments(world):
    model, adapter, _ = world
    chart = Image.new("RGB", (96, 96), "white")
    for settings, words in [
        ({"batch_size": 2.0}, "batch_size must be an int"),
        ({"batch_size": "8"}, "batch_size must be an int"),
        ({"num_beams": "4"}, "num_beams must be an int"),
        ({"images": Image.Image}, "images must be an image, a path or a list"),
        ({"images": 5}, "images must be an image, a path or a list"),
        ({"questions": 5}, "questions must be a list of str"),
        ({"questions": str}, "questions must be a list of str"),
        ({"adapter": adapter.processor}, "adapter must be an Adapter, got a DonutProcessor: pass adapter_for"),
    ]:
        given = {"images": chart, "questions": ["How much?"], **settings}
        with pytest.raises(TypeError, match=words):
            answer_questions(model, adapter.processor, **given)


@pytest.mark.parametrize("settings", [{"length_penalty": 2.0}, {"early_stopping": True}])
def test_settings_of_beams_are_taken_without_beams(world, settings):
    """The model cards of trainings with such a config pass them, and transformers warns of them."""
    assert generate(world, **settings).equal(generate(world))


def test_assisted_answers_are_those_of_the_model_for_one_question_at_a_time():
    model, processor = build("qwen2_5_vl")
    examples = records(2)
    asked = [[example[key] for example in examples] for key in ("image", "question")]
    usual = answer_questions(model, processor, *asked, max_new_tokens=4)
    for settings in ({"assistant_model": build("qwen2_5_vl")[0]}, {"prompt_lookup_num_tokens": 3}):
        with pytest.raises(ValueError, match=r"answers one question at a time: set batch_size=1, or leave it out"):
            answer_questions(model, processor, *asked, max_new_tokens=4, **settings)
        assert answer_questions(model, processor, *asked, max_new_tokens=4, batch_size=1, **settings) == usual


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"token_healing": True}, "model.generation_config has token_healing=True.*token_healing = None"),
        ({"force_words_ids": [[5]]}, "model.generation_config has force_words_ids"),
        ({"guidance_scale": 2.0}, "model.generation_config: guidance_scale=2.0 needs a decoder-only model"),
        ({"bad_words_ids": 5}, "model.generation_config: bad_words_ids=5 cannot be used"),
    ],
)
def test_settings_of_a_checkpoint_that_cannot_work_are_named_when_the_adapter_is_made(settings, words):
    model, processor = tiny()
    vars(model.generation_config).update(settings)
    with pytest.raises((TypeError, ValueError), match=words):
        adapter_for(model, processor)


@pytest.mark.parametrize("name", ["unichart", "llava", "florence2"])
def test_other_ways_of_decoding_that_a_checkpoint_stores_are_turned_off(name):
    answers = []
    for stored in ({}, {"penalty_alpha": 0.6, "top_k": 4, "dola_layers": "low", "prompt_lookup_num_tokens": 3}):
        model, processor = build(name)
        vars(model.generation_config).update(stored)
        adapter = adapter_for(model, processor)
        batch = adapter.encode(records(4), with_answers=False)
        answers.append(adapter.generate(model, batch, max_new_tokens=4).tolist())
    assert answers[0] == answers[1]


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl"])
def test_a_ban_on_repetition_does_not_read_padding(name):
    """Rows that are padded with EOS may end as they do alone."""
    model, processor = build(name)
    processor.tokenizer.pad_token = processor.tokenizer.eos_token
    model.generation_config.pad_token_id = None
    adapter = adapter_for(model, processor)
    settings = {
        "max_new_tokens": 4,
        "no_repeat_ngram_size": 1,
        "sequence_bias": [[[token], 50.0] for token in sorted(adapter.eos_token_ids)],
    }
    rows = records(4)
    alone = [adapter.generate(model, adapter.encode([row], with_answers=False), **settings) for row in rows]
    together = adapter.generate(model, adapter.encode(rows, with_answers=False), **settings)
    assert together.equal(torch.cat(alone))


def test_a_batch_that_cannot_be_split_is_refused_where_padding_would_be_read(monkeypatch):
    model, processor = build("qwen2_5_vl")
    processor.tokenizer.pad_token = processor.tokenizer.eos_token
    model.generation_config.pad_token_id = None
    adapter = adapter_for(model, processor)
    batch = adapter.encode(records(4), with_answers=False)
    monkeypatch.setattr("chartqa_ft.adapters.causal.image_entries", lambda value, images: None)
    with pytest.raises(ValueError, match=r"no_repeat_ngram_size would ban the EOS .*one question at a time"):
        adapter.generate(model, batch, max_new_tokens=2, no_repeat_ngram_size=1)


def test_a_watermark_may_be_a_dict_of_its_settings(world):
    settings = {"greenlist_ratio": 0.2, "bias": 5.0}
    whole = generate(world, watermarking_config=WatermarkingConfig(**settings))
    assert generate(world, watermarking_config=settings).equal(whole)


@pytest.mark.parametrize("wrong", ["8", None, 0])
def test_a_wrong_length_is_named_by_chat_families_too(wrong):
    model, processor = build("llava")
    adapter = adapter_for(model, processor)
    batch = adapter.encode(records(2), with_answers=False)
    with pytest.raises((TypeError, ValueError), match="max_new_tokens must be"):
        adapter.generate(model, batch, max_new_tokens=wrong)
