"""`only_settings`: upstream fills no setting from the model, and therefore warns of none in every call."""

from __future__ import annotations

import logging
import warnings

import pytest

from chartqa_ft.adapters import adapter_for

from ..support.families import build, records

STORED = {"max_length": 20, "max_new_tokens": 7, "min_length": 1, "temperature": 0.5, "top_k": 3}
"""What checkpoints store for other uses."""


@pytest.fixture
def messages():
    """The warnings of transformers, and of Python, as texts."""
    found: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append(record.getMessage())
    upstream = logging.getLogger("transformers")
    upstream.addHandler(handler)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield lambda: [*found, *(str(warning.message) for warning in caught)]
    upstream.removeHandler(handler)


@pytest.mark.parametrize("settings", [{}, {"num_beams": 2, "min_new_tokens": 2}])
@pytest.mark.parametrize("family", ["unichart", "florence2", "kosmos2", "qwen2_5_vl"])
def test_lengths_and_sampling_that_a_checkpoint_stores_give_no_warnings_and_change_nothing(family, settings, messages):
    answers, kept = [], {}
    for stored in ({}, STORED):
        model, processor = build(family)
        for module in model.modules():
            if "generation_config" in vars(module):  # KOSMOS-2 generates with a part of itself
                vars(module.generation_config).update(stored)
        adapter = adapter_for(model, processor)
        batch = adapter.encode(records(2), with_answers=False)
        answers.append(adapter.generate(model, batch, max_new_tokens=4, **settings).tolist())
        kept = {name: getattr(model.generation_config, name) for name in stored}
    assert messages() == []
    assert answers[0] == answers[1]
    assert kept == STORED  # as it will be saved


def test_the_settings_of_the_model_are_back_after_an_error():
    model, processor = build("unichart")
    before = model.generation_config
    adapter = adapter_for(model, processor)
    batch = adapter.encode(records(1), with_answers=False)

    def broken(ids, scores):
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        adapter.generate(model, batch, max_new_tokens=4, logits_processor=[broken])
    assert model.generation_config is before
