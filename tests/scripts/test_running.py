"""The steps of a training script: loading, precision, seeds, errors in one line."""

from __future__ import annotations

import shutil
from pathlib import Path

import peft
import pytest
import torch

from chartqa_ft import default_lora_config
from chartqa_ft.scripts import ModelArguments, parse
from chartqa_ft.scripts.running import load_model, one_line_errors, trainable_share

from ..support.common import drawn_charts
from ..support.families import build
from ..support.launching import EVALUATE, example, save_family, write_original_layout


def parsed(tmp_path: Path, *line: str):
    return parse([*line, "--use_cpu", "--output_dir", str(tmp_path / "out")], ModelArguments, description="")


def test_errors_of_users_become_one_line_and_others_stay():
    with pytest.raises(SystemExit) as stopped, one_line_errors():
        raise ConnectionError("no network\n\n  try later")
    assert stopped.value.code == "error: no network try later"
    with pytest.raises(SystemExit, match="error: FileNotFoundError"), one_line_errors():
        raise FileNotFoundError
    with pytest.raises(RuntimeError, match="a mistake of ours"), one_line_errors():
        raise RuntimeError("a mistake of ours")
    with pytest.raises(SystemExit, match="error: no GPU"), one_line_errors(RuntimeError):
        raise RuntimeError("no GPU")


def test_damaged_checkpoints_are_named(tmp_path):
    model, processor = build("llava")
    base = save_family("llava", tmp_path / "base")
    model.name_or_path = str(base)
    adapter = tmp_path / "adapter"
    peft.get_peft_model(model, default_lora_config(model)).save_pretrained(adapter)
    processor.save_pretrained(adapter)
    data = write_original_layout(tmp_path / "data", train=drawn_charts())
    damages = [(base, "model.safetensors"), (base, "config.json"), (base, "tokenizer.json")]
    damages += [(adapter, "adapter_model.safetensors"), (adapter, "adapter_config.json")]
    for number, (source, name) in enumerate(damages):
        folder = tmp_path / f"damaged{number}"
        shutil.copytree(source, folder)
        (folder / name).write_bytes((folder / name).read_bytes()[:40])
        line = ["--model_name_or_path", str(folder), "--output_dir", str(tmp_path / "scores"), "--use_cpu"]
        with pytest.raises(SystemExit) as stopped:
            example(EVALUATE).main([*line, "--dataset_name", str(data), "--eval_split", "train"])
        message = str(stopped.value.code)
        assert message.startswith("error: "), name
        assert str(folder) in message, name
        assert len(message.splitlines()) == 1


def test_frozen_weights_take_the_precision_of_the_run_and_trained_ones_float32(tmp_path):
    model, processor = build("llava")
    folder = tmp_path / "base"
    model.to(torch.float16).save_pretrained(folder)
    processor.save_pretrained(folder)
    line = ("--model_name_or_path", str(folder))
    for more, frozen, wanted in ((["--bf16"], True, torch.bfloat16), (["--bf16"], False, torch.float32)):
        script, args = parsed(tmp_path, *line, *more)
        assert {weight.dtype for weight in load_model(script, args, frozen=frozen)[0].parameters()} == {wanted}
    script, args = parsed(tmp_path, *line)
    assert {weight.dtype for weight in load_model(script, args, frozen=True)[0].parameters()} == {torch.float32}


def test_settings_reach_the_adapter(tmp_path):
    line = ("--model_name_or_path", str(save_family("llava", tmp_path / "base")))
    line += ("--prompt", "Q: {question}", "--max_length", "77", "--on_long_answer", "warn")
    _, _, adapter = load_model(*parsed(tmp_path, *line))
    assert (adapter.prompt, adapter.max_length, adapter.on_long_answer) == ("Q: {question}", 77, "warn")


def test_the_seed_decides_how_an_adapter_begins(tmp_path):
    line = ["--model_name_or_path", str(save_family("llava", tmp_path / "base"))]

    def first(seed: int) -> torch.Tensor:
        script, args = parsed(tmp_path, *line, "--seed", str(seed))
        model, _, _ = load_model(script, args, frozen=True)
        wrapped = peft.get_peft_model(model, default_lora_config(model))
        return torch.cat([weight.flatten() for name, weight in wrapped.named_parameters() if "lora_A" in name])

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


def test_trainable_share_counts_what_is_trained():
    model, _ = build("llava")
    total = sum(weight.numel() for weight in model.parameters())
    assert trainable_share(model) == f"{total:,} of {total:,} parameters are trained (100 %)"
    wrapped = peft.get_peft_model(model, default_lora_config(model, r=2))
    trained = sum(weight.numel() for weight in wrapped.parameters() if weight.requires_grad)
    share = 100 * trained / (total + trained)
    assert trainable_share(wrapped) == f"{trained:,} of {total + trained:,} parameters are trained ({share:.3g} %)"
