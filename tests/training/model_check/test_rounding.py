"""Bounds follow from dtype, width and depth, and differences are measured relative to the spread of values."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from chartqa_ft.training.model_check.rounding import Rounding, relative_difference, rounding_of

from ...support.family_cases import ready


@pytest.mark.parametrize(
    ("dtype", "unit", "accumulated"),
    [
        (torch.float64, 2**-24, 2**-24),
        (torch.float32, 2**-24, 2**-24),
        (torch.bfloat16, 2**-8, 2**-24),
        (torch.float16, 2**-11, 2**-24),
    ],
)
def test_the_bound_is_that_of_the_formula(dtype, unit, accumulated):
    model, _ = ready("llava")
    found = rounding_of(model.to(dtype))
    assert found == Rounding(dtype, unit, accumulated, width=32, blocks=5)
    assert found.values == pytest.approx(4 * math.sqrt(11) * (unit + math.sqrt(32) * accumulated))
    assert found.gradients == found.ties == pytest.approx(math.sqrt(2) * found.values)
    assert found.is_narrow is (dtype in (torch.bfloat16, torch.float16))


def test_blocks_with_attention_count_in_a_sequential_vision_tower_too():
    model, _ = ready("llava")
    stage = nn.Sequential(*(nn.ModuleDict({"attn": nn.Linear(2, 2)}) for _ in range(3)), nn.Linear(2, 2))
    model.tower = nn.Sequential(nn.Sequential(nn.Conv2d(3, 2, 1)), stage, stage[:2])
    assert rounding_of(model).blocks == 5 + 3 + 2


def test_the_least_precise_weights_decide():
    model, _ = ready("unichart")
    model.get_output_embeddings().bfloat16()
    assert rounding_of(model).dtype == torch.bfloat16


def test_a_difference_is_that_of_the_worst_row_without_its_mean():
    expected = torch.tensor([[0.0, 3.0, -3.0], [1.0, 2.0, 3.0]])
    assert relative_difference(expected + 7, expected + 7) == 0
    found = expected.clone()
    found[1, 0] += 0.5
    assert relative_difference(found, expected) == pytest.approx(0.5 / math.sqrt(2))
    assert relative_difference(found * math.nan, expected) == relative_difference(found[:1], expected) == math.inf


def test_tokens_that_are_never_written_do_not_count():
    expected = torch.tensor([[1.0, 2.0, 3.0, 50.0]])
    found = torch.tensor([[1.0, 2.0, 3.0, -math.inf]])
    assert relative_difference(found, expected) == 0
