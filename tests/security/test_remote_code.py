"""No setting of a checkpoint, and no argument without `trust_remote_code=True`, fetches code."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import transformers
from packaging.version import Version
from transformers import LlamaConfig, LlavaConfig, utils
from transformers.utils import import_utils

from chartqa_ft import load_checkpoint, tiny_unichart
from chartqa_ft.models import remote_code
from chartqa_ft.models.remote_code import check_remote_code

FILES_NAME_KERNELS = Version(transformers.__version__) >= Version("5.23")
"""Whether transformers takes the name of a kernel from config.json."""

# What transformers needs of the package `kernels`; fetching leaves a file behind.
KERNELS = """
import enum, pathlib

def _decorator(*args, **kwargs):
    return lambda thing: thing

use_kernel_forward_from_hub = use_kernelized_func = use_kernel_mapping = _decorator

class _Anything:
    def __init__(self, *args, **kwargs): pass

CUDAProperties = Device = LayerRepository = LocalLayerRepository = FuncRepository = ROCMProperties = _Anything
KernelizeFallback = _Anything

class Mode(enum.Flag):
    INFERENCE = 1
    TRAINING = 2
    TORCH_COMPILE = 4

def _fetch(*args, **kwargs):
    pathlib.Path({marker!r}).write_text(repr((args, kwargs)))
    raise OSError("fetched")

get_kernel = kernelize = register_kernel_mapping = replace_kernel_forward_from_hub = _fetch
"""
ATTACKS = '''
import json, pathlib, sys
from transformers.utils import is_kernels_available
from chartqa_ft import load_checkpoint

assert is_kernels_available()
folder, marker = map(pathlib.Path, sys.argv[1:])
config = json.loads((folder / "config.json").read_text())

def load(settings, **arguments):
    """Return the message of the error, and whether code was fetched."""
    marker.unlink(missing_ok=True)
    parts = {key: {**config[key], **value} if isinstance(value, dict) else value for key, value in settings.items()}
    (folder / "config.json").write_text(json.dumps({**config, **parts}))
    try:
        load_checkpoint(folder, **arguments)
    except Exception as error:
        return str(error), marker.exists()
    return "", marker.exists()

kernel = "someone/kernel"
print(json.dumps({
    "argument": load({}, attn_implementation=kernel),
    "argument of a part": load({}, attn_implementation={"decoder": kernel}),
    "file": load({"_attn_implementation": kernel}),
    "file, in full": load({"attn_implementation": "kernels-community/flash-attn2@main:f"}),
    "part": load({"decoder": {"_attn_implementation_internal": kernel}}),
    "replaced": load({}, attn_implementation="flash_attention_2"),
    "layers": load({}, use_kernels=True),
    "mapping": load({}, kernel_config={"RMSNorm": kernel}),
    "plain": load({"decoder": {"_attn_implementation": "eager"}}),
    "trusted": load({}, attn_implementation=kernel, trust_remote_code=True),
    "trusted file": load({"_attn_implementation": kernel}, trust_remote_code=True),
}))
'''


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    for part in tiny_unichart("test", image_size=64, window_size=4):
        part.save_pretrained(folder)
    return folder


def test_no_kernel_is_fetched_without_trust(tmp_path, checkpoint, monkeypatch) -> None:
    site, marker = tmp_path / "site", tmp_path / "fetched"
    (site / "kernels").mkdir(parents=True)
    (site / "kernels" / "__init__.py").write_text(KERNELS.replace("{marker!r}", repr(str(marker))))
    version = import_utils.KERNELS_MIN_VERSION
    (site / f"kernels-{version}.dist-info").mkdir()
    (site / f"kernels-{version}.dist-info" / "METADATA").write_text(f"Name: kernels\nVersion: {version}\n")
    folder = shutil.copytree(checkpoint, tmp_path / "copy")
    monkeypatch.setenv("PYTHONPATH", f"{site}:{Path(__file__).parents[2]}")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    command = [sys.executable, "-c", ATTACKS, str(folder), str(marker)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("plain") == ["", False]
    # The stub is what transformers calls: with trust the code is fetched, and by newer versions for files too.
    assert found.pop("trusted")[1]
    assert found.pop("trusted file")[1] is FILES_NAME_KERNELS
    for name, (message, was_fetched) in found.items():
        assert not was_fetched, name
        assert "pass trust_remote_code=True if you trust its author" in message, (name, message)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"attn_implementation": "user/kernel"}, "attn_implementation='user/kernel'"),
        ({"_attn_implementation": "paged|user/kernel"}, "_attn_implementation='paged|user/kernel'"),
        (
            {"a": [{"b": {"_attn_implementation_internal": "u/k@v1:f"}}]},
            "a.b._attn_implementation_internal='u/k@v1:f'",
        ),
        ({"attn_implementation": {"": "sdpa", "vision_config": "u/k"}}, "attn_implementation.vision_config='u/k'"),
        ({"experts_implementation": "u/k"}, "experts_implementation='u/k'"),
        ({"use_kernels": True}, "use_kernels='True'"),
        ({"kernel_config": {}}, "kernel_config='{}'"),
        ({"allow_all_kernels": 1}, "allow_all_kernels='1'"),
        ({"custom_generate": "user/loop"}, "custom_generate='user/loop'"),
        ({"vision_config": {"backbone": "hf_hub:u/m"}}, "vision_config.backbone='hf_hub:u/m'"),
        ({"vision_config": {"architecture": "local-dir:/x"}}, "vision_config.architecture='local-dir:/x'"),
        ({"megatron_config": {"x": 1}, "megatron_core": "planted"}, "megatron_config=\"{'x': 1}\""),
        ({"config": LlamaConfig(attn_implementation="u/k")}, "config.attn_implementation='u/k'"),
        (
            {"config": LlavaConfig(attn_implementation={"text_config": "u/k"})},
            "config.text_config.attn_implementation='u/k'",
        ),
    ],
)
def test_settings_that_fetch_code_are_refused_by_name(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_remote_code(settings, where="config.json", trust_remote_code=False)
    assert str(caught.value).startswith(f"config.json: {named} runs code that is not part of the installed packages.")
    check_remote_code(settings, where="config.json", trust_remote_code=True)


@pytest.mark.parametrize(
    "settings",
    [
        {"attn_implementation": "flash_attention_2"},
        {"_attn_implementation": "paged|flash_attention_3"},
        {"experts_implementation": "deepgemm"},
        {"quantization_config": {"quant_method": "fp8"}},
        {"quantization_config": {"quant_method": "mxfp4"}},
    ],
)
def test_settings_that_fetch_kernels_of_transformers_choice(settings, monkeypatch) -> None:
    for name in ("is_flash_attn_2_available", "is_flash_attn_3_available"):
        monkeypatch.setattr(utils, name, lambda: False)
    monkeypatch.setattr(remote_code, "_kernels", lambda: True)
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        check_remote_code(settings, where="config.json", trust_remote_code=False)
    monkeypatch.setattr(
        remote_code, "_kernels", lambda: False
    )  # nothing can be fetched: upstream says what is missing
    check_remote_code(settings, where="config.json", trust_remote_code=False)


def test_usual_settings_pass() -> None:
    settings = {
        "attn_implementation": {"": "sdpa", "vision_config": "eager"},
        "use_kernels": False,
        "megatron_config": None,
        "megatron_core": "megatron.core",
        "quantization_config": {"quant_method": "bitsandbytes"},
        "_name_or_path": "user/model",
        "backbone": "microsoft/resnet-50",
        "auto_map": {"AutoConfig": "configuration_x.XConfig"},  # ignored by transformers without trust
    }
    check_remote_code(settings, where="config.json", trust_remote_code=False)


def test_code_beside_a_known_model_is_ignored(tmp_path, checkpoint, capsys) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "copy")
    planted = f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()\n"
    (folder / "planted.py").write_text(planted)
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(planted)
    auto_map = {
        f"Auto{kind}": "planted.Thing"
        for kind in ("Config", "Model", "ModelForImageTextToText", "Processor", "ImageProcessor")
    }
    for name in ("config.json", "preprocessor_config.json", "processor_config.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            settings = json.loads((folder / name).read_text())
            auto_tokenizer = {"AutoTokenizer": ["planted.Thing", "someone/code--planted.Thing"]}
            settings |= {"auto_map": {**auto_map, **auto_tokenizer}, "trust_remote_code": True}
            (folder / name).write_text(json.dumps(settings))
    load_checkpoint(folder)
    assert not (tmp_path / "ran").exists()


def test_peft_weights_import_nothing_that_they_name(tmp_path, checkpoint, monkeypatch) -> None:
    from peft import LoraConfig, get_peft_model

    model, _, _ = load_checkpoint(checkpoint)
    get_peft_model(model, LoraConfig(target_modules=["q_proj"])).save_pretrained(tmp_path / "lora")
    (tmp_path / "planted.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "lora" / "adapter_config.json"
    saved = json.loads(file.read_text())
    file.write_text(json.dumps({**saved, "megatron_config": {"x": 1}, "megatron_core": "planted"}))
    with pytest.raises(ValueError, match="megatron_config"):
        load_checkpoint(tmp_path / "lora")
    mapping = {"base_model_class": "Model", "parent_library": "planted"}
    file.write_text(json.dumps({**saved, "task_type": None, "auto_mapping": mapping}))
    load_checkpoint(tmp_path / "lora")
    assert "planted" not in sys.modules
