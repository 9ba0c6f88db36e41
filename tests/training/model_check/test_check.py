"""`check_model`: its arguments, what it leaves as it was, and models other than full ones in 32 bits."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from peft import get_peft_model

from chartqa_ft import ChartQACollator, check_model, default_lora_config, load_checkpoint, synthetic_chartqa
from chartqa_ft.training.model_check import check as module
from chartqa_ft.training.model_check import saving

from ...support.common import tiny
from ...support.families import records
from ...support.family_cases import answer_logits, ready
from ...support.model_state import state_of

torch.set_num_threads(1)
FAST: dict[str, Any] = {"max_new_tokens": 2, "num_beams": 2}


def seeded(model: Any) -> None:
    """Put a model and the random states into a state of their own."""
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    modules = list(model.modules())
    modules[1].train()
    next(model.parameters()).grad = torch.ones_like(next(model.parameters()))
    modules[-1].register_forward_hook(lambda *_: None)


def test_lora_weights_are_checked_and_kept(tmp_path):
    model, adapter = ready("llava")
    model = get_peft_model(model, default_lora_config(model, r=4))
    seeded(model)
    before = state_of(model)
    report = check_model(model, adapter.processor, records(3), adapter=adapter, **FAST)
    assert state_of(model) == before  # new LoRA weights are zero, and filled for the check
    assert report.ok, str(report)
    assert report["gradients"].details["weights"] == sum(
        w.numel() for n, w in model.named_parameters() if "lora_" in n
    )
    assert report["saving"].details["relative_differences"].keys() == {"saved and loaded", "merged"}
    assert report["saving"].details["relative_differences"]["merged"] > 0
    assert report.facts["peft_weights"] == "weights of the model"


def test_peft_weights_loaded_to_answer_are_checked(tmp_path):
    model, processor = tiny()
    model.save_pretrained(tmp_path / "base")
    processor.save_pretrained(tmp_path / "base")
    model, processor, _ = load_checkpoint(tmp_path / "base")
    get_peft_model(model, default_lora_config(model, init_lora_weights=False)).save_pretrained(tmp_path / "lora")
    model, processor, adapter = load_checkpoint(tmp_path / "lora")
    assert not any(weight.requires_grad for weight in model.parameters())
    before = state_of(model)
    report = check_model(model, processor, adapter=adapter, lines=["gradients", "peft_gradients", "saving"], **FAST)
    assert report.ok, str(report)
    assert state_of(model) == before


def test_peft_config_is_what_is_checked():
    model, adapter = ready("unichart")
    before = state_of(model)
    config = default_lora_config(model, r=2, target_modules=["q_proj"])
    report = check_model(
        model,
        adapter.processor,
        records(3),
        adapter=adapter,
        peft_config=config,
        lines=["gradients", "peft_gradients"],
    )
    assert report.ok, str(report)
    line = report["peft_gradients"]
    assert line.details["targets"] == 4  # of self-attention and of cross-attention in two layers
    assert 0 < line.details["share_of_blocks_adapted"] < 0.5
    assert "default_lora_config" not in line.words
    assert report["gradients"].details["weights"] == line.details["trainable_weights"]
    assert state_of(model) == before
    assert not hasattr(model, "peft_config")


def test_a_frozen_model_is_checked_with_lora_weights():
    model, processor = tiny()
    model.requires_grad_(False)
    before = state_of(model)
    report = check_model(model, processor, records(3), lines=["gradients", "shared_charts", "peft_gradients"])
    assert report.ok, str(report)
    assert report.facts["peft_weights"] == "default_lora_config"
    assert "PEFT weights" in report["gradients"].words
    assert state_of(model) == before


def test_a_training_after_the_check_shares_charts_as_before():
    for name in ("llava", "unichart"):
        model, adapter = ready(name)
        fresh, _ = ready(name)
        check_model(model, adapter.processor, records(3), adapter=adapter, lines=["training_batch", "shared_charts"])
        adapter.attach(model)
        batch = ChartQACollator(adapter)(records(2))
        assert "chart_index" in batch
        with torch.no_grad():
            assert torch.equal(answer_logits(model, adapter, batch), answer_logits(fresh, adapter, batch))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_bounds_follow_the_dtype(dtype):
    model, adapter = ready("llava")
    report = check_model(model.to(dtype), adapter.processor, records(3), adapter=adapter, **FAST)
    assert report.ok, str(report)
    number, bound = report["gradients"].number, report["gradients"].bound
    assert bound == pytest.approx({torch.bfloat16: 0.0733, torch.float64: 7.44e-6}[dtype], rel=0.05)
    assert 0 < number <= bound
    assert model.dtype == dtype


def test_dropout_is_off_and_comes_back():
    model, processor = tiny(dropout=0.3, drop_path_rate=0.2)
    model.config.decoder.decoder_layerdrop = 0.5
    before = state_of(model)
    report = check_model(model, processor, records(3), lines=["training_logits", "gradients", "shared_charts"])
    assert report.ok, str(report)
    assert "in training mode" in report["training_logits"].words
    assert state_of(model) == before


def test_the_model_is_restored_after_an_error():
    model, adapter = ready("unichart")
    seeded(model)
    before = state_of(model)

    def stop(title: str) -> None:
        if title.startswith("gradient"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_model(model, adapter.processor, records(3), adapter=adapter, progress=stop, **FAST)
    assert state_of(model) == before


def test_an_error_in_a_line_is_a_failure_of_that_line(monkeypatch):
    model, adapter = ready("unichart")

    def fails(subject):
        raise RuntimeError("the shapes do not fit")

    def needs_memory(subject):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    for name, function in (("gradients", fails), ("shared_charts", needs_memory), ("cost", needs_memory)):
        monkeypatch.setitem(module._CHECKS, name, function)
    report = check_model(model, adapter.processor, records(3), lines=["gradients", "shared_charts", "cost"])
    assert [line.status for line in report.lines] == ["fail", "not applicable", "fail"]
    assert report["gradients"].words == "RuntimeError: the shapes do not fit"
    assert "memory ran out" in report["shared_charts"].words


@pytest.mark.parametrize(("name", "said"), [("disk_usage", "set TMPDIR"), ("_free_memory", "pass peft_config=")])
def test_without_room_for_a_copy_lora_weights_alone_are_saved(name, said, monkeypatch):
    if name == "disk_usage":
        monkeypatch.setattr(saving.shutil, name, lambda folder: SimpleNamespace(free=2**10))
    else:
        monkeypatch.setattr(saving, name, lambda: 2**10)
    model, processor = tiny()
    line = check_model(model, processor, records(3), lines=["saving"], **FAST)["saving"]
    assert line.status == "pass"
    assert f"GiB are free in {'the memory of cpu' if name == '_free_memory' else ''}" in line.words
    assert said in line.words
    assert "merged: 0 of" in line.words


def test_user_records_of_any_kind_are_used():
    model, processor = tiny()
    dataset = synthetic_chartqa(3, seed=1)
    for given in (dataset, dataset.to_iterable_dataset(), [dataset[0]]):
        report = check_model(model, processor, given, lines=["training_batch", "prompt_tokens", "shared_charts"])
        assert report.ok, str(report)
        assert report["training_batch"].details["rows"] == (2 if isinstance(given, list) else 5)
        assert "given records" in report.facts["records"]
    without_ids = [{k: row[k] for k in ("image", "question", "answer")} for row in dataset.select(range(4))]
    assert check_model(model, processor, without_ids, lines=["shared_charts"]).ok


def test_wrong_arguments_are_refused(monkeypatch):
    model, processor = tiny()
    lora = default_lora_config(model)
    tuned = get_peft_model(tiny()[0], lora)
    for error, text, call in (
        (TypeError, "model must be a loaded model", lambda: check_model("out", processor)),
        (TypeError, "processor is a tokenizer", lambda: check_model(model, processor.tokenizer)),
        (ValueError, "unknown lines", lambda: check_model(model, processor, lines=["masks"])),
        (TypeError, "lines must be a list", lambda: check_model(model, processor, lines="cost")),
        (ValueError, "num_beams must be at least 2", lambda: check_model(model, processor, num_beams=1)),
        (ValueError, "max_new_tokens", lambda: check_model(model, processor, max_new_tokens=0)),
        (TypeError, "adapter must be an Adapter", lambda: check_model(model, processor, adapter=processor)),
        (ValueError, "has no field", lambda: check_model(model, processor, prompt="Answer:")),
        (ValueError, "has an answer", lambda: check_model(model, processor, [{**records(1)[0], "answer": ""}])),
        (ValueError, "no 'question'", lambda: check_model(model, processor, [{"image": "a.png", "answer": "3"}])),
        (
            ValueError,
            "leave peft_config out",
            lambda: check_model(tuned, processor, peft_config=lora),
        ),
    ):
        with pytest.raises(error, match=text):
            call()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="one process"):
        check_model(model, processor)
