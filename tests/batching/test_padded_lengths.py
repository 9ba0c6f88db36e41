"""Batches of few shapes, for compiled models that record a CUDA graph for each: the losses and gradients stay."""

from __future__ import annotations

import pytest
import torch

from chartqa_ft.batching.collator import ChartQACollator
from chartqa_ft.training.arguments import ChartQATrainingArguments
from chartqa_ft.training.batches import make_collators
from chartqa_ft.training.losses import AnswerLoss

from ..support.common import relative_l2
from ..support.families import records
from ..support.family_cases import ALL, gradient_of, ready


def losses_and_gradient(model, adapter, batch):
    model.zero_grad()
    losses, _ = AnswerLoss(adapter, ChartQATrainingArguments("out", use_cpu=True))(model, batch)
    losses.sum().backward()
    return losses.detach(), gradient_of(model)


@pytest.mark.parametrize("name", ALL)
def test_padding_changes_no_loss_and_no_gradient(name):
    model, adapter = ready(name)
    plain = ChartQACollator(adapter)(records(4))
    padded = ChartQACollator(adapter, pad_to_multiple_of=64)(records(4))
    assert padded["labels"].shape[1] % 64 == 0
    assert padded["labels"].shape[1] > plain["labels"].shape[1]
    assert padded.keys() == plain.keys()
    losses, gradient = losses_and_gradient(model, adapter, padded)
    expected, expected_gradient = losses_and_gradient(model, adapter, plain)
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-5)
    assert relative_l2(gradient, expected_gradient) <= 1e-5


def test_no_row_is_padded_beyond_the_positions_of_the_model():
    _, adapter = ready("llava")
    plain = ChartQACollator(adapter)(records(4))
    adapter.positions = plain["labels"].shape[1] + 3
    padded = ChartQACollator(adapter, pad_to_multiple_of=64)(records(4))
    assert padded["labels"].shape[1] == padded["input_ids"].shape[1] == adapter.positions
    assert padded["input_ids"][:, -3:].eq(adapter.pad_token_id).all()
    assert not padded["attention_mask"][:, -3:].any()


def test_prompts_without_answers_are_not_padded():
    _, adapter = ready("llava")
    plain, padded = (
        ChartQACollator(adapter, with_answers=False, pad_to_multiple_of=number)(records(2)) for number in (None, 64)
    )
    assert plain["input_ids"].shape == padded["input_ids"].shape


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"torch_compile": True, "torch_compile_mode": "reduce-overhead"}, 64),
        ({"torch_compile": True, "torch_compile_mode": "max-autotune"}, 64),
        ({"torch_compile": True}, None),
        ({"torch_compile": True, "torch_compile_mode": "max-autotune-no-cudagraphs"}, None),
        ({}, None),
    ],
)
def test_the_modes_that_record_graphs_ask_for_it(settings, expected):
    model, adapter = ready("unichart")
    args = ChartQATrainingArguments("out", use_cpu=True, **settings)
    collators = make_collators(adapter, args, model, own_loss=True, own_steps=True)
    assert {name: collate.pad_to_multiple_of for name, collate in collators.items()} == {
        **{"train": expected, "eval": None, "test": None}
    }


@pytest.mark.parametrize("number", [0, -1, 1.5, "64", True])
def test_other_numbers_are_refused(number):
    _, adapter = ready("unichart")
    with pytest.raises((TypeError, ValueError), match="pad_to_multiple_of must be"):
        ChartQACollator(adapter, pad_to_multiple_of=number)
