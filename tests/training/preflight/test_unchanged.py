"""Random states and models are as before, whatever was computed in between."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from chartqa_ft.training.preflight.unchanged import kept_model, kept_random_states


def draw() -> list[float]:
    return [random.random(), float(np.random.rand()), float(torch.rand(()))]


def test_random_states_are_restored():
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    with kept_random_states():
        inside = draw()
    assert draw() == inside


def test_random_states_are_restored_after_an_error():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="normal"), kept_random_states():
        torch.normal(torch.rand(3), std=-1.0)
    assert torch.equal(torch.get_rng_state(), before)


class Odd(nn.Module):
    """A module that changes everything about itself in a forward pass but its parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("table", torch.zeros(2))
        self.longest, self.seen, self.memory = 1, [], {"a": 1}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.longest = len(x)
        self.seen.append(len(x))
        self.memory["b"] = 2
        self.table = torch.ones(3)  # a buffer that is replaced, as those of rotary positions are
        self.register_buffer("late", torch.ones(1))
        self.register_forward_hook(lambda *_: None)
        self.added = True
        return self.norm(self.linear(x))


def test_models_are_restored():
    torch.manual_seed(0)
    model = Odd().eval()
    model.norm.train()
    model.linear.weight.grad = gradient = torch.full((2, 2), 3.0)
    table, state = model.table, {name: value.clone() for name, value in model.state_dict().items()}
    with kept_model(model):
        model.train()
        model(torch.rand(4, 2)).sum().backward()
        assert model.longest == 4
        assert model.norm.num_batches_tracked == 1
    assert (model.longest, model.seen, model.memory) == (1, [], {"a": 1})
    assert model.table is table
    assert not hasattr(model, "late")
    assert not hasattr(model, "added")
    assert len(model._forward_hooks) == 0
    assert [model.training, model.linear.training, model.norm.training] == [False, False, True]
    assert list(model.state_dict()) == list(state)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert model.linear.weight.grad is gradient
    assert torch.equal(gradient, torch.full((2, 2), 3.0))
    assert model.linear.bias.grad is None
