"""Answers and their scores are those of transformers 4.28.1."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
import torch
from transformers import (
    StoppingCriteria,
    StoppingCriteriaList,
)

from chartqa_ft.adapters import compat

from ...support.legacy import Case, trim


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


def test_a_stopping_criterion_ends_a_row_while_others_go_on(own: Case) -> None:
    class OfFirstRow(StoppingCriteria):
        def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
            return (torch.arange(len(input_ids)) < beams) & (input_ids.shape[1] >= length)

    beams, length = 4, len(own.examples[0]["prompt_ids"]) + 2
    settings = {"num_beams": beams, "forced_eos_token_id": None, "min_new_tokens": 8}
    both = own.generate([0, 0], **settings, stopping_criteria=StoppingCriteriaList([OfFirstRow()])).sequences
    stopped = own.generate([0], **settings, stopping_criteria=StoppingCriteriaList([OfFirstRow()])).sequences[0]
    whole = own.generate([0], **settings).sequences[0]
    assert len(stopped) < len(whole)
    assert both[0, : len(stopped)].equal(stopped)
    assert set(both[0, len(stopped) :].tolist()) == {1}  # padding
    assert both[1].equal(whole)


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
