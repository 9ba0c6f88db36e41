"""Line 2: the prompts of a training batch are the tokens and pictures that the family's own processor makes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from ...adapters import Adapter, Causal, EncoderPrompt
from ...adapters.processor_call import processor_arguments
from ...adapters.text import IGNORE_INDEX
from .reading import text_of
from .report import CheckLine
from .subject import Subject

__all__ = ["check_prompt_tokens"]


def check_prompt_tokens(subject: Subject) -> CheckLine:
    """Compare the inputs before the answers with what the family's own processor makes of chart and prompt."""
    adapter, examples = subject.adapter, list(subject.examples)
    batch = adapter.encode(examples)
    wrong: list[str] = []
    compared = 0
    expected = _of_processor(subject, examples)
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
        alone = _of_processor(subject, [example])
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


def _of_processor(subject: Subject, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """Return the tensors that the family's processor makes of charts and prompts, without the adapter's `encode`."""
    adapter = subject.adapter
    images = [adapter.image(example) for example in examples]
    texts = [adapter.prompt.replace("{question}", example["question"]) for example in examples]
    if isinstance(adapter, Causal):
        own_way = type(adapter).prompt_batch is not Causal.prompt_batch or adapter.chat_template is None
        batch = adapter.prompt_batch(examples, images) if own_way else _of_template(adapter, texts, images)
        return {key: value for key, value in batch.items() if key in adapter.forward_names and torch.is_tensor(value)}
    if isinstance(adapter, EncoderPrompt):
        own_way = type(adapter).prompt_batch is not EncoderPrompt.prompt_batch
        batch = adapter.prompt_batch(examples, images) if own_way else _of_texts(adapter, texts, images)
        return {key: value for key, value in batch.items() if key in adapter.forward_names and torch.is_tensor(value)}
    pictures = adapter.processor.image_processor(images, return_tensors="pt")["pixel_values"]
    start = _start_of(subject)
    ids = [torch.tensor(start + adapter.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=IGNORE_INDEX)
    return {"decoder_input_ids": padded, "pixel_values": pictures}


def _start_of(subject: Subject) -> list[int]:
    """Return the token that `generate` puts before the prompt of a decoder: none if the encoder is Donut's."""
    config, settings = subject.base.config, subject.base.generation_config
    if "donut" in config.encoder.model_type:
        return []
    found = settings.bos_token_id if settings.decoder_start_token_id is None else settings.decoder_start_token_id
    return [found[0] if isinstance(found, list) else found]


def _of_texts(adapter: EncoderPrompt, texts: Sequence[str], images: Sequence[Any]) -> Mapping[str, Any]:
    return adapter.processor(images=list(images), text=list(texts), **processor_arguments(adapter.processor))


def _of_template(adapter: Causal, texts: Sequence[str], images: Sequence[Any]) -> Mapping[str, Any]:
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
        processor_kwargs=processor_arguments(adapter.processor),
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
        f" from token {place} on: {text_of(adapter, found[place : place + 8].tolist())!r} instead of "
        f"{text_of(adapter, own[place : place + 8].tolist())!r}"
    )
