"""`check_model` passes for every family, and leaves its model as it was."""

from __future__ import annotations

import pytest
import torch

from chartqa_ft import check_model
from chartqa_ft.training.model_check.report import TITLES

from ..support.families import FAMILIES, records
from ..support.family_cases import ALL, CHOSEN, ready
from ..support.model_state import frozen_garbage, state_of

torch.set_num_threads(1)
FEW = ("unichart", "pix2struct", "florence2", "llava", "qwen2_5_vl")
"""The families of `make test`, whose other tests run the trainer of the others; `make families` checks all."""


@pytest.mark.parametrize("name", FEW if CHOSEN == "quick" else ALL)
def test_check_model_passes(name):
    model, adapter = ready(name)
    before = state_of(model)
    with frozen_garbage():
        report = check_model(model, adapter.processor, records(3), adapter=adapter, max_new_tokens=3, num_beams=2)
    assert report.ok, str(report)
    assert [line.name for line in report.lines] == list(TITLES)
    skipped = {line.name for line in report.lines if line.status == "not applicable"}
    assert skipped == ({"shared_charts"} if name == "pix2struct" else set())
    # Not equal by chance: all of these have been computed in two ways.
    for line in ("training_logits", "gradients", "saving"):
        assert 0 < report[line].number <= report[line].bound
    least = 0.99 if name in FAMILIES else 0.05  # position biases, experts and convolutions are not adapted
    assert report["peft_gradients"].details["share_of_blocks_adapted"] > least
    assert state_of(model) == before
