"""Model folders for the tests of pushes, as training leaves them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

TOKEN = "hf_" + "abcdefghij" * 3
CARD = "---\nlicense: mit\n---\n# A model\n"
SETTINGS = ("chartqa_config.json", "config.json", "generation_config.json", "metrics.json", "training_args.json")
PROCESSOR = ("chat_template.jinja", "processor_config.json", "tokenizer.json", "tokenizer_config.json")
OTHER = b"\x80\x04bytes"
"""The content of files that are not weights."""
NEVER = ("training_args.bin", "optimizer.pt", "pytorch_model.bin", "scaler.pkl", "model.py", "run.log", ".env")
PUSHED = {"README.md", "assets/training_curve.png", "model.safetensors", *SETTINGS, *PROCESSOR}


def weights(path: Path, seed: int, names: str = "ab") -> None:
    """Some 80 kB for each name, other bytes for each seed."""
    values = np.random.default_rng(seed)
    save_file({name: values.random(10_000) for name in names}, path, metadata={"format": "pt"})


def save(folder: Path, seed: int = 0, *, shards: bool = False, peft: bool = False) -> Path:
    """A folder as training leaves it, with what must not be pushed beside it."""
    beside = ("assets/mine.png", "assets/run.py", "checkpoint-5/model.safetensors", "runs/events")
    for name in ("assets/training_curve.png", *beside, *NEVER):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(OTHER)
    (folder / "README.md").write_text(CARD)
    (folder / "predictions.jsonl").write_text('{"index": 0}\n')
    for name in (*SETTINGS, *PROCESSOR):
        (folder / name).write_text(json.dumps({"of": name}))
    if shards:
        index = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
        for name, shard in index.items():
            weights(folder / shard, seed, name)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    elif peft:
        (folder / "adapter_config.json").write_text("{}")
        weights(folder / "adapter_model.safetensors", seed)
    else:
        weights(folder / "model.safetensors", seed)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
