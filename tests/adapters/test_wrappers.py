"""The transformers model is found inside its wrappers."""

from __future__ import annotations

import torch

from chartqa_ft.adapters import base_model

from ..support.common import tiny


def test_the_model_is_found_inside_its_wrappers():
    model, _ = tiny()
    compiled = torch.compile(model, backend="eager")
    parallel = torch.nn.DataParallel(model)
    for wrapped in (model, compiled, parallel, torch.compile(parallel, backend="eager")):
        assert base_model(wrapped) is model
