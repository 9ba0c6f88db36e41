"""Line 1: a training batch holds prompt, question, chart, answer and end token, and labels on the answer alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from PIL import Image

from ...adapters import Adapter, Causal
from ...adapters.text import IGNORE_INDEX, single_answer
from ..preflight.batch_text import batch_as_text
from .report import CheckLine
from .subject import Subject

__all__ = ["check_training_batch", "text_of"]

_PROBE = "7531"


def check_training_batch(subject: Subject) -> CheckLine:
    """Read a training batch back: prompt, question, chart, answer, end token, and labels on answer and end alone."""
    adapter, examples = subject.adapter, list(subject.examples)
    batch = adapter.encode(examples)
    wrong = [*_wrong_rows(adapter, batch, examples), *_unread_questions(adapter, batch, examples), *_unseen(subject)]
    text = batch_as_text(adapter, {key: value[:1] if key == "labels" else value for key, value in batch.items()})
    end = _end_of(adapter)
    words = (
        f"question, answer and end token {adapter.tokenizer.decode([end])!r} of every row, labels on answer and end "
        f"alone\n{text}"
    )
    return CheckLine(
        "training_batch",
        "fail" if wrong else "pass",
        number=len(wrong),
        bound=0,
        unit="wrong",
        words="\n".join([*wrong[:4], text]) if wrong else words,
        details={"rows": len(examples), "wrong": wrong, "end_token": end},
    )


def _wrong_rows(adapter: Adapter, batch: Mapping[str, Any], examples: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    labels, end = batch["labels"], _end_of(adapter)
    decoder = "decoder_input_ids" in batch
    ids = batch["decoder_input_ids" if decoder else "input_ids"]
    for row, example in enumerate(examples):
        name = f"row {row}"
        places = (labels[row] != IGNORE_INDEX).nonzero().flatten().tolist()
        if not places:
            yield f"{name} has no labels: nothing would be learned from it"
            continue
        first, last = places[0], places[-1]
        if places != list(range(first, last + 1)):
            yield f"{name} has labels in {len(places)} places that are not next to each other"
            continue
        answer = labels[row, first : last + 1].tolist()
        read = text_of(adapter, answer[:-1])
        wanted = str(single_answer(example))
        if _plain(read) not in _readings(adapter, wanted):
            yield f"{name}: the labels read {read!r}, and the answer is {wanted!r}"
        if answer[-1] != end:
            yield (
                f"{name}: the labels end with {text_of(adapter, answer[-1:])!r}, and the family ends an answer with "
                f"{text_of(adapter, [end])!r}"
            )
        elif answer[-1] not in adapter.eos_token_ids:
            yield f"{name}: generation does not stop at {text_of(adapter, answer[-1:])!r}"
        shift = 1 if decoder else 0  # decoders are given the labels moved by one place
        sequence = ids[row].tolist()
        inputs = sequence[first + shift : last + 1]
        if inputs != answer[: len(inputs)]:
            yield f"{name}: the model is given {text_of(adapter, inputs)!r} as the answer, and learns {read!r}"
        if set(sequence[last + 1 :]) - {adapter.pad_token_id}:
            yield f"{name} goes on after its answer: {text_of(adapter, sequence[last + 1 :])!r}"
        if not decoder and "attention_mask" in batch and batch["attention_mask"].shape == ids.shape:
            mask = batch["attention_mask"][row].bool()
            if not mask[: last + 1].all() or mask[last + 1 :].any():
                yield f"{name}: the attention mask does not cover exactly the prompt and the answer"


def _unread_questions(
    adapter: Adapter, batch: Mapping[str, Any], examples: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """Yield the rows whose question or chart the model would not see."""
    texts = _texts_before_answers(adapter, batch)
    for row, example in enumerate(examples):
        question = example["question"]
        if texts is None:  # the question is drawn: another one has to give another picture
            other = adapter.encode([{**example, "question": f"{question} {_PROBE}"}])
            if _equal_inputs(adapter.encode([example]), other):
                yield f"row {row}: the inputs do not depend on the question {question!r}"
        elif not any(reading in _plain(texts[row]) for reading in _readings(adapter, question)):
            yield f"row {row}: the prompt {texts[row][-200:]!r} does not hold the question {question!r}"
    tokens = adapter.image_tokens({key: v for key, v in batch.items() if torch.is_tensor(v)})
    for row, count in enumerate(tokens or []):
        if not count:
            yield f"row {row} has no tokens for its chart"


def _unseen(subject: Subject) -> Iterator[str]:
    """Yield what the model gets and does not use: the chart or the question of the first row."""
    example = subject.examples[0]
    size = subject.adapter.image(example).size
    others = {
        "chart": {**example, "image": Image.new("RGB", size, "white")},
        "question": {**example, "question": f"Which {example['question']}"},
    }
    with subject.answering():
        logits = subject.training_logits(subject.collate([example]))
        for name, other in others.items():
            if torch.equal(subject.training_logits(subject.collate([other])), logits):
                yield f"row 0: the model computes exactly the same for another {name}: it does not see the {name}"


def _texts_before_answers(adapter: Adapter, batch: Mapping[str, Any]) -> list[str] | None:
    """Return what the model reads before each answer; `None` if it has no text, but pictures with the question."""
    labels = batch["labels"]
    if "input_ids" not in batch and adapter.name == "encoder-prompt":
        return None
    found = []
    for row in range(len(labels)):
        kept: list[int] = []
        first = int((labels[row] != IGNORE_INDEX).int().argmax())
        if "decoder_input_ids" in batch:
            kept += batch["decoder_input_ids"][row, : first + 1].tolist()
            if "input_ids" in batch:
                kept = batch["input_ids"][row].tolist() + kept
        else:
            kept += batch["input_ids"][row, :first].tolist()
        found.append(text_of(adapter, kept))
    return found


def _equal_inputs(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(
        value.shape == other[key].shape and torch.equal(value, other[key])
        for key, value in one.items()
        if torch.is_tensor(value)
    )


def _end_of(adapter: Adapter) -> int:
    """Return the token with which the family ends an answer: in its chat template, else that of the tokenizer."""
    tokenizer = adapter.tokenizer
    if isinstance(adapter, Causal) and adapter.chat_template is not None:
        turns = adapter.conversation("Which?", answer=_PROBE)
        text = adapter.processor.apply_chat_template(
            turns, chat_template=adapter.chat_template, add_generation_prompt=False
        )
        tail = text.rpartition(_PROBE)[2]
        special = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()}
        found = [token for token in tokenizer(tail, add_special_tokens=False)["input_ids"] if token in special]
        if found:
            return found[0]
    return tokenizer.eos_token_id


def text_of(adapter: Adapter, ids: Sequence[int]) -> str:
    """Return the text of token ids; -100 is skipped."""
    return adapter.tokenizer.decode([token for token in ids if token != IGNORE_INDEX])


def _readings(adapter: Adapter, text: str) -> tuple[str, str]:
    """Return a text, and what is left of it where a tokenizer changes characters, both without spaces."""
    return _plain(text), _plain(text_of(adapter, adapter.tokenizer(text, add_special_tokens=False)["input_ids"]))


def _plain(text: str) -> str:
    """Return a text without differences of space, which tokenizers do not keep."""
    return "".join(text.split())
