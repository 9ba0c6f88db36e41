"""Lines 1 and 2: the training batch reads as it should, and its prompts are the tokens of the processor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from ...adapters import Adapter, Causal, EncoderPrompt
from ...adapters.text import IGNORE_INDEX, single_answer
from ..preflight.batch_text import batch_as_text
from .report import CheckLine
from .subject import Subject

__all__ = ["check_prompt_tokens", "check_training_batch"]

_PROBE = "7531"


# ------------------------------------------------------------------ 1. the batch
def check_training_batch(subject: Subject) -> CheckLine:
    """Read a training batch back: prompt, question, chart, answer, end token, and labels on answer and end alone."""
    adapter, examples = subject.adapter, list(subject.examples)
    batch = adapter.encode(examples)
    wrong = [*_wrong_rows(adapter, batch, examples), *_unread_questions(adapter, batch, examples)]
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
        read = _text(adapter, answer[:-1])
        wanted = str(single_answer(example))
        if _plain(read) != _plain(wanted):
            yield f"{name}: the labels read {read!r}, and the answer is {wanted!r}"
        if answer[-1] != end:
            yield (
                f"{name}: the labels end with {_text(adapter, answer[-1:])!r}, and the family ends an answer with "
                f"{_text(adapter, [end])!r}"
            )
        elif answer[-1] not in adapter.eos_token_ids:
            yield f"{name}: generation does not stop at {_text(adapter, answer[-1:])!r}"
        shift = 1 if decoder else 0  # decoders are given the labels moved by one place
        sequence = ids[row].tolist()
        inputs = sequence[first + shift : last + 1]
        if inputs != answer[: len(inputs)]:
            yield f"{name}: the model is given {_text(adapter, inputs)!r} as the answer, and learns {read!r}"
        if set(sequence[last + 1 :]) - {adapter.pad_token_id}:
            yield f"{name} goes on after its answer: {_text(adapter, sequence[last + 1 :])!r}"
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
        elif _plain(question) not in _plain(texts[row]):
            yield f"row {row}: the prompt {texts[row][-200:]!r} does not hold the question {question!r}"
    tokens = adapter.image_tokens({key: v for key, v in batch.items() if torch.is_tensor(v)})
    for row, count in enumerate(tokens or []):
        if not count:
            yield f"row {row} has no tokens for its chart"


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
        found.append(_text(adapter, kept))
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


def _text(adapter: Adapter, ids: Sequence[int]) -> str:
    return adapter.tokenizer.decode([token for token in ids if token != IGNORE_INDEX])


def _plain(text: str) -> str:
    """Return a text without differences of space, which tokenizers do not keep."""
    return "".join(text.split())


# ------------------------------------------------------------------ 2. the prompts
def check_prompt_tokens(subject: Subject) -> CheckLine:
    """Compare the inputs before the answers with what the family's own processor makes of chart and prompt."""
    adapter, examples = subject.adapter, list(subject.examples)
    batch = adapter.encode(examples)
    wrong: list[str] = []
    compared = 0
    expected = _of_processor(adapter, examples)
    for key, value in expected.items():
        if key not in batch:
            if key in getattr(adapter, "forward_names", (key,)):
                wrong.append(f"the batch lacks {key}, which the processor returns")
            continue
        for row, (found, own) in enumerate(_pairs(batch, key, value, expected)):
            compared += own.numel()
            if found.shape != own.shape or not torch.equal(found, own.to(found.dtype)):
                wrong.append(
                    f"row {row}: {key} differs from the processor's{_first_difference(adapter, key, found, own)}"
                )
    for row, example in enumerate(examples):  # the tokens of a prompt do not depend on its neighbors
        alone = _of_processor(adapter, [example])
        if adapter.prompt_key in expected or "input_ids" in expected:
            key = "input_ids" if "input_ids" in expected else adapter.prompt_key
            own, together = _unpadded(alone, key, 0), _unpadded(expected, key, row)
            if not torch.equal(own, together):
                wrong.append(f"row {row}: the processor makes other tokens of this prompt beside other prompts")
    return CheckLine(
        "prompt_tokens",
        "fail" if wrong else "pass",
        number=len(wrong),
        bound=0,
        unit="differ",
        words="\n".join(wrong[:4]) if wrong else f"{', '.join(expected)}: {compared:,} values are equal",
        details={"values": compared, "wrong": wrong},
    )


def _of_processor(adapter: Adapter, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """Return the tensors that the family's processor makes of charts and prompts, without the adapter's `encode`."""
    images = [adapter.image(example) for example in examples]
    texts = [adapter.prompt.replace("{question}", example["question"]) for example in examples]
    if isinstance(adapter, Causal):
        own_way = type(adapter).prompt_batch is not Causal.prompt_batch or adapter.chat_template is None
        batch = adapter.prompt_batch(examples, images) if own_way else _of_template(adapter, texts, images)
        return {key: value for key, value in batch.items() if key in adapter.forward_names and torch.is_tensor(value)}
    if isinstance(adapter, EncoderPrompt):
        batch = adapter.prompt_batch(examples, images)
        return {key: value for key, value in batch.items() if key in adapter.forward_names and torch.is_tensor(value)}
    pictures = adapter.processor.image_processor(images, return_tensors="pt")["pixel_values"]
    start = list(getattr(adapter, "start", []))
    ids = [torch.tensor(start + adapter.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=IGNORE_INDEX)
    return {"decoder_input_ids": padded, "pixel_values": pictures}


def _of_template(adapter: Causal, texts: Sequence[str], images: Sequence[Any]) -> Mapping[str, Any]:
    from ...adapters.image_cost import image_kwargs

    conversations = [
        [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": text}]}]
        for image, text in zip(images, texts, strict=True)
    ]
    return adapter.processor.apply_chat_template(
        conversations,
        chat_template=adapter.chat_template,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True, "return_tensors": "pt", "images_kwargs": image_kwargs(adapter.processor)},
    )


def _pairs(
    batch: Mapping[str, Any], key: str, value: torch.Tensor, expected: Mapping[str, torch.Tensor]
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield (tensor of the batch, tensor of the processor) that must be equal: per row for tokens, else whole."""
    ids = expected.get("input_ids", expected.get("decoder_input_ids"))
    if "decoder_input_ids" in batch and key != "decoder_input_ids":
        yield batch[key], value
    elif ids is not None and value.shape[:2] == ids.shape and batch[key].shape[:2] == batch["labels"].shape:
        for row in range(len(value)):
            own = value[row][_mask(expected, row)]
            yield batch[key][row, : len(own)], own
    else:
        yield batch[key], value


def _mask(expected: Mapping[str, torch.Tensor], row: int) -> torch.Tensor:
    if "decoder_input_ids" in expected and "input_ids" not in expected:
        return expected["decoder_input_ids"][row] != IGNORE_INDEX
    mask = expected.get("attention_mask")
    ids = expected["input_ids"]
    return mask[row].bool() if mask is not None else torch.ones_like(ids[row], dtype=torch.bool)


def _unpadded(expected: Mapping[str, torch.Tensor], key: str, row: int) -> torch.Tensor:
    return expected[key][row][_mask(expected, row)]


def _first_difference(adapter: Adapter, key: str, found: torch.Tensor, own: torch.Tensor) -> str:
    if not key.endswith("input_ids"):
        return f" (shape {tuple(found.shape)}, the processor's {tuple(own.shape)})" if found.shape != own.shape else ""
    length = min(len(found), len(own))
    place = int((found[:length] != own[:length]).int().argmax()) if length else 0
    return (
        f" from token {place} on: {_text(adapter, found[place : place + 8].tolist())!r} instead of "
        f"{_text(adapter, own[place : place + 8].tolist())!r}"
    )
