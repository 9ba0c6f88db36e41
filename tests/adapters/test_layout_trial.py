"""The lines that a refusal prints were tried on the model at hand; without such lines it says what was tried."""

from __future__ import annotations

import functools

import pytest
import torch

from chartqa_ft.adapters import Causal, adapter_for
from chartqa_ft.adapters import registry as adapter_registry
from chartqa_ft.adapters.layout_trial import proposal, what_fails

from ..support.families import build, records


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(adapter_registry, "_REGISTRY", dict(adapter_registry._REGISTRY))


def bare(name: str):
    """A family that this library does not know, without a chat template."""
    model, processor = build(name)
    model.config.model_type = "unheard-of"
    processor.chat_template = processor.tokenizer.chat_template = None
    return model, processor


@pytest.mark.parametrize("name", ["llava", "llava_next", "qwen3_vl", "idefics3", "internvl", "gemma3"])
def test_printed_lines_run_and_answer_in_a_batch_as_alone(name, registry):
    model, processor = bare(name)
    with pytest.raises(ValueError, match="has no chat template") as error:
        adapter_for(model, processor)
    lines = str(error.value).split("Causal):\n", 1)[1]
    exec(lines, {"register_adapter": adapter_registry.register_adapter, "Causal": Causal})
    adapter = adapter_for(model, processor)
    rows = records(4)
    alone = [adapter.generate(model, adapter.encode([row]), max_new_tokens=4) for row in rows]
    assert adapter.generate(model, adapter.encode(rows), max_new_tokens=4).equal(torch.cat(alone))


def test_a_family_that_needs_more_than_a_layout_gets_no_lines():
    model, processor = bare("kosmos2")
    with pytest.raises(
        ValueError, match=r"prompt_batch calls .* was tried and does not work \(RuntimeError"
    ) as raised:
        adapter_for(model, processor)
    assert "@register_adapter" not in str(raised.value)


class Ignores(torch.nn.Module):
    """In place of a vision tower, whose output it makes the same for all charts."""

    def __init__(self, tower):
        super().__init__()
        self.tower = tower

    def forward(self, pixel_values, **kwargs):
        return self.tower(torch.zeros_like(pixel_values), **kwargs)


def test_what_was_tried_in_vain_is_said(monkeypatch):
    model, processor = bare("llava")
    assert "raw_layout" in proposal(Causal, model, processor)
    tower = model.model.vision_tower
    model.model.vision_tower = Ignores(tower)
    model.model.vision_tower.config = tower.config
    assert proposal(Causal, model, processor).endswith("(the chart makes no difference to the answer)")
    model.model.vision_tower = tower

    class Shifted(Causal):
        raw_layout = "{image}{prompt}"

        def label_mask(self, labels):
            return super().label_mask(labels).roll(1, dims=1)

    assert "are not those that the model prefers" in what_fails(lambda: Shifted(model, processor), model)
    forward = model.forward

    @functools.wraps(forward)
    def first_token_lost(use_cache=None, **inputs):
        output = forward(use_cache=use_cache, **inputs)
        if use_cache is None:  # no generation
            output.logits = output.logits[:, 1:]
        return output

    monkeypatch.setattr(model, "forward", first_token_lost)
    assert "it is not known which of them predict" in what_fails(lambda: Plain(model, processor), model)


class Plain(Causal):
    raw_layout = "{image}{prompt}"


def test_a_model_is_left_as_it_was():
    model, processor = bare("llava")
    model.train()
    model.model.vision_tower.eval()
    before = [module.training for module in model.modules()]
    state = torch.random.get_rng_state()
    assert what_fails(lambda: Plain(model, processor), model) is None
    assert [module.training for module in model.modules()] == before
    assert torch.equal(torch.random.get_rng_state(), state)
    with pytest.raises(MemoryError):
        what_fails(raise_memory, model)


def raise_memory():
    raise MemoryError
