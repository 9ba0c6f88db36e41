"""Hooks that share charts leave other outputs unchanged."""

from __future__ import annotations

import torch

from chartqa_ft.adapters import adapter_for

from ...support.common import tiny
from ...support.encoding import PAIRS, example, pair


def test_attached_models_keep_their_outputs_and_get_no_hook_twice():
    for model, processor in [tiny(), *(pair(decoder) for decoder in PAIRS)]:
        model.eval()
        adapter = adapter_for(model, processor, prompt="{question}")
        batch = adapter.encode([example()])
        settings = {"output_hidden_states": True}
        grid = model.encoder.config.model_type == "convnext"
        before = None if grid else (model(**batch, **settings), model(**batch, return_dict=False))
        for _ in range(2):
            adapter.attach(model)
        assert (len(model.encoder._forward_hooks), len(model.decoder._forward_pre_hooks)) == (1, 1)
        if grid:  # without our hook, the pair cannot run at all
            assert len(model(**batch, **settings).encoder_hidden_states) == 3
            continue
        after, plain = model(**batch, **settings), model(**batch, return_dict=False)
        assert torch.equal(after.logits, before[0].logits)
        assert len(plain) == len(before[1])
        assert torch.equal(plain[1], before[1][1])
        for one, other in zip(after.encoder_hidden_states, before[0].encoder_hidden_states, strict=True):
            assert torch.equal(one, other)
