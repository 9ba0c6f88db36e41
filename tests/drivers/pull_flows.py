"""What tests of pulling let a client process do: load checkpoints and tell what came, as plain values."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any


def load(name: str, *, trust_remote_code: bool = False, **settings: Any) -> dict[str, Any]:
    """Digest of the weights, answers to questions on drawn charts, and the warnings of a loaded checkpoint."""
    from chartqa_ft import answer_questions, load_checkpoint

    said = _Warnings()
    logging.getLogger("chartqa_ft").addHandler(said)
    try:
        model, processor, adapter = load_checkpoint(name, trust_remote_code=trust_remote_code, **settings)
    finally:
        logging.getLogger("chartqa_ft").removeHandler(said)
    images, questions = _charts()
    answers = answer_questions(
        model, processor, images, questions, adapter=adapter, batch_size=2, num_beams=1, max_new_tokens=5
    )
    return {"weights": _digest(model), "answers": answers, "warnings": said.texts}


def fetch(name: str, **settings: Any) -> dict[str, Any]:
    """The folder's name and files after `fetch_checkpoint`, and its warnings."""
    from chartqa_ft.hub.download import fetch_checkpoint

    said = _Warnings()
    logging.getLogger("chartqa_ft").addHandler(said)
    try:
        folder = fetch_checkpoint(name, **settings)
    finally:
        logging.getLogger("chartqa_ft").removeHandler(said)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {"commit": folder.name, "files": files, "warnings": said.texts}


def cache_one_file(name: str, file: str) -> None:
    """What another program may do before: fetch one file of a repository."""
    from huggingface_hub import hf_hub_download

    hf_hub_download(name, file)


def processor_of(name: str) -> str:
    """The class of the processor in a checkpoint, loaded without trust."""
    from chartqa_ft.adapters.processors import load_processor
    from chartqa_ft.hub.download import fetch_checkpoint

    return type(load_processor(fetch_checkpoint(name))).__name__


class _Warnings(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def _charts() -> tuple[list[Any], list[str]]:
    from chartqa_ft import synthetic_chartqa

    charts = synthetic_chartqa(2, seed=4).select([0, 9])
    return list(charts["image"]), list(charts["question"])


def _digest(model: Any) -> str:
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(key.encode() + value.detach().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def write(path: str) -> None:
    """What a malicious pickle would call."""
    Path(path).write_text("ran")


def count_records(name: str) -> int:
    """The number of records in the first split of a data set on the Hub."""
    from chartqa_ft import load_chartqa

    return len(next(iter(load_chartqa(name).values())))
