"""A model gets its adapter by its configuration, or an error says what to write."""

from __future__ import annotations

import pytest

from chartqa_ft.adapters import DecoderPrompt, adapter_for, register_adapter

from ..support.common import tiny


def test_unknown_decoder_only_models_say_what_to_write():
    model, processor = tiny()
    model.config.model_type = "unheard-of"
    model.config.is_encoder_decoder = False
    with pytest.raises(
        ValueError, match=r"'unheard-of' model has no chat template.*\n@register_adapter\('unheard-of'"
    ):
        adapter_for(model, processor)


def test_register_adapter_adds_a_family():
    @register_adapter("my-own-family")
    class Own(DecoderPrompt):
        name = "own"

    model, processor = tiny()
    model.config.model_type = "my-own-family"
    assert isinstance(adapter_for(model, processor), Own)
