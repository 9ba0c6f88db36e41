"""A training batch read back as text: what the model is given, and which of its tokens the loss counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

import torch

from ...adapters import Adapter
from ...adapters.text import IGNORE_INDEX

__all__ = ["batch_as_text"]

_SHOWN = 2
"""Number of rows that are shown."""
_FIRST, _LAST = 120, 320
"""Characters that are shown from the beginning and the end of a long prompt, at the end of which the question is."""
_REPEATS = 4
"""Number of equal tokens in a row from which on they are counted rather than shown: image tokens."""


def batch_as_text(adapter: Adapter, batch: Mapping[str, Any]) -> str:
    """Return the first rows of a training batch as text, with the tokens that carry loss in `>> ... <<`.

    The tokens are read back from the tensors, not from the records.

    Args:
        adapter: the adapter of the model's family.
        batch: a batch of the trainer's collator, packed or not, with `labels`.

    Example:
        >>> from chartqa_ft import ChartQACollator, adapter_for, synthetic_chartqa, tiny_unichart
        >>> adapter = adapter_for(*tiny_unichart("test"))
        >>> print(batch_as_text(adapter, ChartQACollator(adapter)([synthetic_chartqa(1, seed=0)[0]])))
        row 0: <chartqa> How much is gray? <s_answer> >> 4</s> << (loss on 2 of 9 tokens)
    """
    labels = batch["labels"]
    lines = []
    for row in range(min(_SHOWN, len(labels))):
        text = " ".join(
            f">> {part} <<" if counts else _cut(part) for counts, part in _parts(adapter, batch, row) if part
        )
        question = _question(batch, row)
        if question and question not in text:
            text = f"(question in the image: {question}) {text}"
        counted, length = int((labels[row] != IGNORE_INDEX).sum()), _length(adapter, batch, row)
        lines.append(f"{_name(batch, row)}: {text} (loss on {counted} of {length} tokens)")
    return "\n".join(lines)


def _texts(batch: Mapping[str, Any], row: int) -> Mapping[str, Any]:
    """Return what the collator keeps of a record; nothing for packed sequences, which hold several."""
    texts = batch.get("rows", ())
    return texts[row] if len(texts) == len(batch["labels"]) else {}


def _name(batch: Mapping[str, Any], row: int) -> str:
    texts = _texts(batch, row)
    chart = texts.get("chart_id")
    return f"row {texts.get('index', row)}" + (f" (chart_id {chart!r})" if chart is not None else "")


def _question(batch: Mapping[str, Any], row: int) -> str:
    """Return the question of a row if its family draws it into the image: then no prompt comes before the answer."""
    has_prompt = "input_ids" in batch or int(batch["labels"][row, 0]) == IGNORE_INDEX
    return "" if has_prompt else str(_texts(batch, row).get("question") or "")


def _parts(adapter: Adapter, batch: Mapping[str, Any], row: int) -> Iterator[tuple[bool, str]]:
    """Yield (whether the loss counts it, text) for the parts of a row, in the order in which the model reads them."""
    labels = batch["labels"][row].tolist()
    if "decoder_input_ids" in batch:
        if "input_ids" in batch:  # what the encoder reads
            yield False, _decoded(adapter, _unpadded(adapter, batch["input_ids"][row]))
        tokens = batch["decoder_input_ids"][row, :1].tolist()
        # Decoders are given the labels moved by one; where there is no label, the next input is the token.
        following = [*batch["decoder_input_ids"][row, 1:].tolist(), adapter.pad_token_id]
        tokens += [label if label != IGNORE_INDEX else token for label, token in zip(labels, following, strict=True)]
        counts = [False, *(label != IGNORE_INDEX for label in labels)]
    else:
        tokens, counts = batch["input_ids"][row].tolist(), [label != IGNORE_INDEX for label in labels]
    end = max(
        (place for place, token in enumerate(tokens) if token != adapter.pad_token_id or counts[place]), default=-1
    )
    for counted, run in groupby(zip(counts[: end + 1], tokens, strict=False), key=lambda pair: pair[0]):
        yield counted, _decoded(adapter, [token for _, token in run])


def _length(adapter: Adapter, batch: Mapping[str, Any], row: int) -> int:
    labels = batch["labels"][row]
    ids = batch["decoder_input_ids" if "decoder_input_ids" in batch else "input_ids"][row]
    used = (labels != IGNORE_INDEX) | (ids != adapter.pad_token_id)
    return int(used.nonzero().max()) + 1 if bool(used.any()) else 0


def _unpadded(adapter: Adapter, ids: torch.Tensor) -> list[int]:
    return [token for token in ids.tolist() if token != adapter.pad_token_id]


def _decoded(adapter: Adapter, tokens: list[int]) -> str:
    text = ""
    shown: list[int] = []
    for token, run in groupby(tokens):
        count = len(list(run))
        if count < _REPEATS:
            shown += [token] * count
            continue
        text += f"{_text(adapter, shown)}{_text(adapter, [token])} x {count} "
        shown = []
    return (text + _text(adapter, shown)).strip(" ").replace("\n", "\\n")


def _text(adapter: Adapter, tokens: list[int]) -> str:
    return adapter.tokenizer.decode(tokens) if tokens else ""


def _cut(text: str) -> str:
    return text if len(text) <= _FIRST + _LAST else f"{text[:_FIRST]} [...] {text[-_LAST:]}"
