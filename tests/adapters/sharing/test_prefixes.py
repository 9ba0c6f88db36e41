"""A prompt is computed once per chart up to its end, and neither losses nor answers change."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GenerationMixin

from chartqa_ft.adapters.cache_name import CACHE
from chartqa_ft.adapters.causal import Causal
from chartqa_ft.batching.collator import ChartQACollator
from chartqa_ft.training.arguments import ChartQATrainingArguments
from chartqa_ft.training.losses import AnswerLoss

from ...support.families import KINDS
from ...support.family_cases import ready, run_of
from .test_packing import PACKING, examples

torch.set_num_threads(1)
NEW_TOKENS = 6
OTHERS = [name for name, kind in KINDS.items() if kind == "causal" and name not in PACKING]


@pytest.fixture
def caches(monkeypatch) -> list[Any]:
    """The cache that every call of `model.generate` is given."""
    seen: list[Any] = []
    generate = GenerationMixin.generate

    @functools.wraps(generate)
    def watched(self, *args: Any, **kwargs: Any) -> Any:
        seen.append(kwargs.get(CACHE))
        return generate(self, *args, **kwargs)

    monkeypatch.setattr(GenerationMixin, "generate", watched)
    return seen


def varied(name):
    """A model whose answers differ from question to question."""
    model, adapter = ready(name)
    if name == "internvl":
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.ndim > 1:
                    weight.add_(torch.randn(weight.shape, generator=generator) * 0.2)
    return model, adapter


def grouped(adapter, rows, **kwargs):
    return ChartQACollator(adapter, **kwargs)(rows)


def answers(model, adapter, batch, **settings):
    return adapter.generate(model, batch, max_new_tokens=NEW_TOKENS, **settings).tolist()


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("name", PACKING)
def test_answers_are_those_of_whole_prompts(name, beams, caches):
    model, adapter = varied(name)
    batch = grouped(adapter, examples(), with_answers=False)
    assert adapter.shares_prefixes
    found = answers(model, adapter, batch, num_beams=beams)
    adapter.shares_prefixes = False
    assert answers(model, adapter, batch, num_beams=beams) == found
    assert len({tuple(answer) for answer in found}) >= 3, "the test could not fail"
    assert [cache is not None for cache in caches] == [True, False]
    assert len(caches[0].layers[0].keys) == len(batch["input_ids"]) * beams


@pytest.mark.parametrize("name", PACKING)
def test_one_pass_of_the_tower_serves_losses_and_answers(name, tmp_path):
    model, adapter = ready(name)
    passes: list[int] = []
    model.get_encoder(modality="image").register_forward_hook(lambda *_: passes.append(1))
    scores, predictions, computed = [], [], []
    for shares in (True, False):
        adapter.shares_prefixes = shares
        run = run_of(tmp_path, model, adapter, examples(), per_device_eval_batch_size=8)
        passes.clear()
        scores.append(run.evaluate()["eval_loss"])
        computed.append(len(passes))
        predictions.append([row["prediction"] for row in run.evaluator.answered])
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)
    assert predictions[0] == predictions[1]
    assert computed == [1, 2]


@pytest.mark.parametrize("name", PACKING)
def test_losses_are_those_of_whole_rows(name):
    model, adapter = ready(name)
    rows = examples()
    loss = AnswerLoss(adapter, ChartQATrainingArguments("out", use_cpu=True))
    for some in (rows, rows[-1:]):  # with questions that share a chart, and without
        batch = grouped(adapter, some)
        with torch.no_grad():
            prefixes = adapter.encode_charts(model, batch)
            expected, _ = loss(model, batch)
            found, outputs = loss(model, batch, prefixes)
        assert expected.std() > 1e-2
        assert outputs["logits"].shape == (len(expected), model.get_output_embeddings().out_features)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        assert len(prefixes.cache.layers[0].keys) == len({row["chart_id"] for row in some})
    assert answers(model, adapter, batch, encoder_outputs=prefixes) == answers(model, adapter, batch)


def test_prefixes_of_some_families_differ_in_length():
    """So that the tests above cover padding between a chart and its question."""
    padded = []
    for name in PACKING:
        model, adapter = ready(name)
        with torch.no_grad():
            padded.append(not adapter.encode_charts(model, grouped(adapter, examples())).mask.all())
    assert padded == [False, True, False, False, True]


def test_peft_weights_take_part():
    model, adapter = ready("llava")
    torch.manual_seed(0)
    config = LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    wrapped = get_peft_model(model, config).eval()
    batch = grouped(adapter, examples())
    loss = AnswerLoss(adapter, ChartQATrainingArguments("out", use_cpu=True))
    with torch.no_grad():
        found, _ = loss(wrapped, batch, adapter.encode_charts(wrapped, batch))
        expected, _ = loss(wrapped, batch)
        with wrapped.disable_adapter():
            plain, _ = loss(wrapped, batch)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert (plain - expected).abs().max() > 1e-2
    found = answers(wrapped, adapter, batch)
    adapter.shares_prefixes = False
    assert answers(wrapped, adapter, batch) == found


@pytest.mark.parametrize("name", OTHERS)
def test_models_with_other_positions_or_masks_compute_whole_prompts(name):
    model, adapter = ready(name)
    assert not adapter.shares_prefixes
    assert adapter.encode_charts(model, grouped(adapter, examples())) is None


def checkpoint_with_a_cache(model, adapter) -> None:
    """As some checkpoints have it in generation_config.json."""
    model.generation_config.cache_implementation = "dynamic"


def asked_first(model, adapter) -> None:
    """The question stands before the chart, so that no two prompts begin alike."""
    template = adapter.chat_template
    adapter.chat_template = template.replace(
        "{%- for message in messages %}", "{%- for message in messages %}{{ message.content[-1].text }}"
    )


@pytest.mark.parametrize(
    ("rows", "change", "settings"),
    [
        (5, asked_first, {}),
        (8, None, {"use_cache": False}),
        (8, None, {"cache_implementation": "dynamic"}),
        (8, checkpoint_with_a_cache, {}),
        (1, None, {}),
    ],
    ids=["question first", "no cache", "own cache", "checkpoint's cache", "one question"],
)
def test_calls_that_would_gain_nothing_or_bring_a_cache_get_none(rows, change, settings, caches):
    model, adapter = ready("llava")
    if change is not None:
        change(model, adapter)
    batch = grouped(adapter, examples()[:rows], with_answers=False)
    found = answers(model, adapter, batch, **settings)
    assert caches == [None]
    adapter.shares_prefixes = False
    assert answers(model, adapter, batch, **settings) == found


def test_padding_between_a_chart_and_its_question_takes_no_room_of_an_answer(caches):
    model, adapter = ready("llava_next")
    rows = examples()
    rows[0]["question"] += " and so on" * 10
    batch = grouped(adapter, rows, with_answers=False)
    longest = int(batch["attention_mask"].sum(dim=1).max())
    wide = adapter.prefixes(model, batch, None, NEW_TOKENS, {})
    columns = wide.prompts(batch["input_ids"], batch["attention_mask"].sum(dim=1), padding=0)[0].shape[1]
    assert columns > longest
    expected = answers(model, adapter, batch)
    for room, shared in ((columns + NEW_TOKENS, True), (columns + NEW_TOKENS - 1, False)):
        adapter.positions = room
        caches.clear()
        assert answers(model, adapter, batch) == expected
        assert [cache is not None for cache in caches] == [shared]


def test_a_subclass_that_changes_what_the_model_is_given_computes_whole_prompts(caches):
    class Own(Causal):
        def prompt_groups(self, model, batch, encoder_outputs=None):
            yield from super().prompt_groups(model, batch)

    model, adapter = ready("llava")
    own = Own(model, adapter.processor)
    assert not own.shares_prefixes
    assert not own.drops_finished
    batch = grouped(adapter, examples(), with_answers=False)
    assert answers(model, own, batch) == answers(model, adapter, batch)
    assert [cache is not None for cache in caches] == [False, True]
