"""What tests of data sets on the Hub let a client process do: push and load charts, as plain values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any


def load(name: str, **settings: Any) -> dict[str, list[list[str]]]:
    """Split -> rows as `rows` gives them."""
    from chartqa_ft import load_chartqa

    loaded = load_chartqa(name, **settings)
    return {split: rows(part) for split, part in (loaded.items() if isinstance(loaded, Mapping) else [("", loaded)])}


def push(folder: str, name: str, *, only: str | None = None, **settings: Any) -> str:
    """Push the data set that `save_to_disk` left in a folder; returns the address of the commit or pull request."""
    from datasets import load_from_disk

    from chartqa_ft.data.push_dataset import push_dataset

    dataset = load_from_disk(folder)
    commit = push_dataset(dataset[only] if only else dataset, name, **settings)
    return commit.pr_url or commit.commit_url


def rows(dataset: Any) -> list[list[str]]:
    """Digest of the pixels, question, answer, source, chart id."""
    texts = ("question", "answer", "source", "chart_id")
    return [[_digest(row["image"]), *(row[name] for name in texts)] for row in dataset]


def _digest(image: Any) -> str:
    return hashlib.sha256(f"{image.mode}{image.size}".encode() + image.tobytes()).hexdigest()
