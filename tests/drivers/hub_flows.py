"""What tests of the hub server let a client process do with transformers and datasets."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any


def push_model(name: str, seed: int, **settings: Any) -> str:
    """Push a small model of random weights; returns a digest of them."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    model = BertModel(config)
    model.push_to_hub(name, **settings)
    return _digest(model)


def load_model(name: str, **settings: Any) -> str:
    """The digest of a model's weights as they come from the Hub."""
    from transformers import AutoModel

    return _digest(AutoModel.from_pretrained(name, **settings))


def _digest(model: Any) -> str:
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(key.encode() + value.numpy().tobytes())
    return digest.hexdigest()


def load_rows(name: str, **settings: Any) -> list[dict[str, Any]]:
    from datasets import load_dataset

    return [dict(row) for row in load_dataset(name, **settings)]


def push_rows(name: str, rows: list[dict[str, Any]], **settings: Any) -> str:
    from datasets import Dataset

    return Dataset.from_list(rows).push_to_hub(name, **settings).oid


def snapshot(name: str, **settings: Any) -> dict[str, str]:
    """Path -> SHA-256 of what `snapshot_download` brings."""
    from huggingface_hub import snapshot_download

    folder = Path(snapshot_download(name, **settings))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def list_files(name: str, **settings: Any) -> list[str]:
    from huggingface_hub import HfApi

    return sorted(HfApi().list_repo_files(name, **settings))


def change_files(name: str, content: dict[str, str], deleted: list[str], **settings: Any) -> str:
    """One commit of small files and deletions; returns its hash."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    operations = [CommitOperationAdd(path, text.encode()) for path, text in content.items()]
    operations += [CommitOperationDelete(path) for path in deleted]
    return HfApi().create_commit(name, operations, commit_message="Change", **settings).oid
