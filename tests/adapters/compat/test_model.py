"""Losses, updates and generation settings of checkpoints of transformers 4.28.1 are those of that version."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from transformers import (
    VisionEncoderDecoderModel,
)

from chartqa_ft.adapters import compat

from ...support.legacy import Case


def test_encoder_logits_and_loss_are_equal(case: Case) -> None:
    for i, example in enumerate(case.examples):
        ids, labels = case.padded([i])
        with torch.no_grad():
            out = case.model(case.array("pixel_values", i)[None], decoder_input_ids=ids, labels=labels)
        logits = out.logits[0][labels[0] != -100]
        if f"answer_logits_{i}" in case.arrays:
            expected = case.array("answer_logits", i)
        else:
            expected = case.array("logits", i)[labels[0, : len(example["labels"]) - 1] != -100]
        torch.testing.assert_close(out.encoder_last_hidden_state[0], case.array("encoder", i), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(logits, expected, rtol=1e-5, atol=2e-5)
        assert out.loss.item() == pytest.approx(example["loss_eval_mode"], abs=2e-6)


class _NoLayerDrop(TorchFunctionMode):
    """Before transformers 5.23, MBart draws a number for each layer even where `layerdrop` is 0, from the stream that
    dropout draws from. 4.28.1 took it from Python's `random`, so its dropout masks are those without these draws."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.rand and args == ([],):
            return torch.ones([])
        return function(*args, **(kwargs or {}))


def test_batch_loss_is_equal_with_random_padding_and_dropout(case: Case) -> None:
    model, rows = case.fresh_model(), [0, 1, 2, 3]
    with torch.no_grad(), _NoLayerDrop():
        evaluated = case.loss(model, "train_pixel_values_seed0", rows).item()
        model.train()
        torch.manual_seed(0)
        trained = case.loss(model, "train_pixel_values_seed0", rows).item()
        plain = case.fresh_model(legacy=False).train()
        torch.manual_seed(0)
        ramped = case.loss(plain, "train_pixel_values_seed0", rows).item()
    assert evaluated == pytest.approx(case.golden["batch4_loss_eval_mode"], abs=2e-6)
    assert trained == pytest.approx(case.golden["batch4_loss_train_mode_seed0"], abs=2e-6)
    assert abs(ramped - case.golden["batch4_loss_train_mode_seed0"]) > 1e-3


def test_every_block_has_the_full_drop_path_once(own: Case) -> None:
    model = own.fresh_model().train()
    compat.apply_legacy_model(compat.apply_legacy_model(model))
    blocks = [block for stage in model.encoder.encoder.layers for block in stage.blocks]
    assert [block.drop_path.drop_prob for block in blocks] == [0.1] * sum(model.config.encoder.depths)
    assert all(block.drop_path.training for block in blocks)
    model.config.encoder.drop_path_rate = 0.0
    untouched = [block.drop_path for block in blocks]
    compat.apply_legacy_model(model)
    assert all(block.drop_path is before for block, before in zip(blocks, untouched, strict=True))


def test_six_optimizer_steps_are_equal(case: Case) -> None:
    model, expected = case.fresh_model(), case.golden["train_trajectory"]
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-5)
    cosine = lambda step: step / 2 if step < 2 else 0.5 * (1.0 + math.cos(math.pi * (step - 2) / 4))  # noqa: E731
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, cosine)
    for step in expected["steps"]:
        loss = case.loss(model, "pixel_values", step["idx"])
        assert loss.item() == pytest.approx(step["loss"], abs=1e-5)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item()
        assert norm == pytest.approx(step["grad_norm"], rel=1e-3)
        optimizer.step()
        schedule.step()
    squares = sum(float((p.detach().double() ** 2).sum()) for p in model.parameters())
    assert squares**0.5 == pytest.approx(expected["param_l2_after"], rel=1e-6)


def test_generation_settings_are_those_in_force_in_4_28_1(case: Case) -> None:
    expected = case.golden["generation_config_in_force"]
    got = case.model.generation_config.to_dict()
    for key in ("max_length", "forced_eos_token_id", "bos_token_id", "eos_token_id", "pad_token_id"):
        assert got[key] == expected[key], key
    assert got["decoder_start_token_id"] == expected.get("decoder_start_token_id")


def test_generation_settings_that_a_user_wrote_are_kept(own: Case, tmp_path: Path) -> None:
    shutil.copytree(own.checkpoint, tmp_path, dirs_exist_ok=True)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 2, "pad_token_id": 1}')
    model = compat.apply_legacy_model(VisionEncoderDecoderModel.from_pretrained(tmp_path))
    assert model.generation_config.forced_eos_token_id is None
    own_model = own.fresh_model()
    own_model.generation_config.forced_eos_token_id = None
    own_model.save_pretrained(tmp_path / "saved")
    again = compat.apply_legacy_model(VisionEncoderDecoderModel.from_pretrained(tmp_path / "saved"))
    assert again.generation_config.forced_eos_token_id is None


def test_one_line_of_log_says_what_is_on(own: Case, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="chartqa_ft"):
        own.fresh_model()
        compat.load_legacy_processor(own.checkpoint)
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert str(own.checkpoint) in message
    assert "4.28.1" in message
    assert "compat=False" in message
    assert "\n" not in message


def test_other_models_are_refused(own: Case) -> None:
    with pytest.raises(ValueError, match=r"MBartForCausalLM.*compat=False"):
        compat.apply_legacy_model(own.fresh_model(legacy=False).decoder)


class _Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_weights_of_the_old_layout_cannot_run_code(own: Case, tmp_path: Path) -> None:
    shutil.copytree(own.checkpoint, tmp_path, dirs_exist_ok=True)
    torch.save({"weight": _Payload(tmp_path / "ran")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(Exception, match=r"[Ww]eights.only|weights_only"):
        VisionEncoderDecoderModel.from_pretrained(tmp_path)
    assert not (tmp_path / "ran").exists()
