"""The probabilities of alternatives are those that the model gives to their tokens."""

from __future__ import annotations

import math

import pytest
import torch

from chartqa_ft import adapter_for, answer_questions
from chartqa_ft.evaluation.alternatives import answer_alternatives

from ..support.families import build, records


def ending(model):
    """Make the end of an answer likely, so that beams end at different lengths."""
    head = model.get_output_embeddings()
    adapter_eos = model.generation_config.eos_token_id
    eos = adapter_eos[0] if isinstance(adapter_eos, list) else adapter_eos
    bias = torch.zeros(head.weight.shape[0])
    bias[eos] = 5.0
    head.register_parameter("bias", torch.nn.Parameter(bias))
    return model


def log_probability(adapter, model, record, tokens):
    """The sum of the log-probabilities of answer tokens, by one forward pass over prompt and answer."""
    batch = adapter.encode([record], with_answers=False)
    ((_, prompts),) = adapter.prompt_groups(model, batch)
    length = prompts[adapter.prompt_key].shape[1]
    inputs = adapter.call_arguments(model, dict(prompts), model.generation_config, {})
    inputs = {key: value for key, value in inputs.items() if key not in ("past_key_values", "custom_generate")}
    inputs[adapter.prompt_key] = torch.cat([inputs[adapter.prompt_key], torch.tensor([tokens])], dim=1)
    for name in ("attention_mask", "decoder_attention_mask"):
        if name in inputs and inputs[name].shape[1] == length and adapter.prompt_key != "decoder_input_ids":
            inputs[name] = torch.ones_like(inputs[adapter.prompt_key])
    with torch.no_grad():
        logits = model(**inputs).logits[0, length - 1 : length - 1 + len(tokens)]
    return float(torch.log_softmax(logits.float(), dim=-1)[range(len(tokens)), tokens].sum())


@pytest.mark.parametrize("name", ["unichart", "florence2", "llava"])
def test_sums_are_those_of_a_forward_pass_whatever_the_lengths(name):
    model, processor = build(name)
    model = ending(model)
    adapter = adapter_for(model, processor)
    record = records(2)[1]
    ids, sums = adapter.beams(model, adapter.encode([record], with_answers=False), max_new_tokens=6, num_beams=4)
    lengths = set()
    for row, total in zip(ids.tolist(), sums.tolist(), strict=True):
        ends = [place for place, token in enumerate(row) if token in adapter.eos_token_ids]
        tokens = row[: ends[0] + 1] if ends else row
        lengths.add(len(tokens))
        assert total == pytest.approx(log_probability(adapter, model, record, tokens), abs=1e-3)
    assert len(lengths) > 1


def test_the_first_alternative_is_the_answer_and_equal_texts_are_one():
    model, processor = build("unichart")
    model.train()
    record = records(2)[1]
    settings = {"num_beams": 4, "max_new_tokens": 5}
    found = answer_alternatives(model, processor, record["image"], record["question"], **settings)
    assert model.training
    assert [found[0].text] == answer_questions(model, processor, record["image"], [record["question"]], **settings)
    assert len({one.text for one in found}) == len(found)
    adapter = adapter_for(model, processor)
    _, sums = adapter.beams(model.eval(), adapter.encode([record], with_answers=False), **settings)
    assert sum(one.probability for one in found) == pytest.approx(sum(math.exp(total) for total in sums.tolist()))
    assert not any(one.complete for one in found)  # random weights do not end


def test_what_is_no_beam_search_is_refused():
    model, processor = build("unichart")
    record = records(1)[0]
    with pytest.raises(ValueError, match="takes one record and at least 2 beams, got num_beams=1"):
        answer_alternatives(model, processor, record["image"], record["question"], num_beams=1)
    with pytest.raises((TypeError, ValueError), match="question"):
        answer_alternatives(model, processor, record["image"], None)
