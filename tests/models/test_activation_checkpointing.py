"""Activation checkpointing keeps one block's activations at a time, and changes no gradient."""

from __future__ import annotations

import copy

import pytest
import torch

from chartqa_ft.models.activation_checkpointing import checkpoint_blocks

from ..support.common import checkpointing_enable, drawn_charts, tiny, trainer

SHAPE = {"image_size": 64, "depths": (2, 3), "window_size": 4, "drop_path_rate": 0.2, "dropout": 0.1}


def gradients(model) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    pixels, ids = torch.randn(2, 3, 64, 64), torch.randint(5, 50, (2, 7))
    model.train()
    model.zero_grad()
    loss = model(pixel_values=pixels, decoder_input_ids=ids).logits.square().mean()
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def counted(model) -> list[str]:
    """The blocks in the order of their forward passes, those of the backward pass included."""
    calls: list[str] = []
    for name, module in model.encoder.named_modules():
        if name.endswith("attention.self"):
            module.register_forward_hook(lambda *_, name=name: calls.append(name.split("layers.")[1][:10]))
    return calls


def test_each_block_is_computed_again_alone_with_the_same_dropout():
    model, _ = tiny(**SHAPE)
    model.config.decoder.use_cache = model.decoder.config.use_cache = False
    plain = copy.deepcopy(model)
    assert checkpoint_blocks(model) == 5
    assert checkpoint_blocks(model) == 0  # those are known
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert [type(m).__name__ for m in model.modules()] == [type(m).__name__ for m in plain.modules()]
    loss, expected = gradients(plain)
    calls = counted(model)
    assert torch.equal(gradients(model)[0], loss)  # not switched on: nothing is computed again
    forward = ["0.blocks.0", "0.blocks.1", "1.blocks.0", "1.blocks.1", "1.blocks.2"]
    assert calls == forward
    checkpointing_enable(model)()
    calls.clear()
    again, found = gradients(model)
    assert calls == forward + forward[::-1]
    assert torch.equal(again, loss)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    copied = copy.deepcopy(model)
    assert torch.equal(gradients(copied)[0], loss)


def test_upstream_computes_a_whole_stage_again():
    """Why the blocks: all of a stage are computed before the first of its activations goes."""
    model, _ = tiny(**SHAPE)
    checkpointing_enable(model)()
    calls = counted(model)
    gradients(model)
    assert calls[5:] == ["1.blocks.0", "1.blocks.1", "1.blocks.2", "0.blocks.0", "0.blocks.1"]


@pytest.mark.parametrize("every", [1, 2])
def test_the_trainer_does_it_on_request(tmp_path, every):
    losses = {}
    for checkpointing in (False, True):
        model, _ = tiny(depths=SHAPE["depths"])
        model.config.decoder.use_cache = model.decoder.config.use_cache = False
        settings = {"activation_checkpointing": checkpointing, "max_steps": 2, "logging_steps": 1}
        if checkpointing:
            settings["activation_checkpointing_kwargs"] = {"every_n_layers": every}
        run = trainer(tmp_path / str(checkpointing), model, drawn_charts(4), **settings)
        calls = counted(model)
        run.train()
        losses[checkpointing] = [log["loss"] for log in run.state.log_history if "loss" in log]
        passes = {1: 10, 2: 8}[every] if checkpointing else 5
        assert len(calls) == 2 * passes
    assert losses[True] == losses[False]
