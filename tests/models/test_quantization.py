"""Quantized loading says what is missing, and gives its arguments on a GPU."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from chartqa_ft.models.quantization import quantized_loading


def installed_bitsandbytes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of that name and version on the path, as pip would leave it."""
    (folder / "bitsandbytes").mkdir()
    (folder / "bitsandbytes" / "__init__.py").write_text("")
    (folder / "bitsandbytes-0.49.0.dist-info").mkdir()
    (folder / "bitsandbytes-0.49.0.dist-info" / "METADATA").write_text("Name: bitsandbytes\nVersion: 0.49.0\n")
    monkeypatch.delitem(sys.modules, "bitsandbytes", raising=False)
    monkeypatch.syspath_prepend(folder)


def test_quantized_loading_says_what_is_missing(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="bits must be 4 or 8, got 3"):
        quantized_loading(3)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(
        ImportError, match="4 bits needs bitsandbytes: pip install bitsandbytes, or leave the option out"
    ):
        quantized_loading()
    installed_bitsandbytes(tmp_path, monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="8 bits needs a CUDA GPU, and torch finds none"):
        quantized_loading(8)


@pytest.mark.parametrize(("bf16", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_quantized_loading_on_a_gpu(bf16, dtype, tmp_path, monkeypatch):
    installed_bitsandbytes(tmp_path, monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16)
    monkeypatch.setenv("LOCAL_RANK", "1")
    arguments = quantized_loading()
    config = arguments.pop("quantization_config")
    assert arguments == {"dtype": dtype, "device_map": {"": 1}}
    assert (config.load_in_4bit, config.bnb_4bit_quant_type, config.bnb_4bit_use_double_quant) == (True, "nf4", True)
    assert config.bnb_4bit_compute_dtype == dtype
    assert quantized_loading(8)["quantization_config"].load_in_8bit is True
