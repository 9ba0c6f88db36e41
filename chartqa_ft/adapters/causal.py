"""Decoder-only models: chart and question stand in the prompt, the answer continues it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from .base import ANSWER_ROOM, IGNORE_INDEX, NO_LIMIT, Adapter, as_list, base_model, equal_lengths, pad_rows
from .image_cost import image_kwargs
from .sharing.packing import attention_of, can_pack, pack_questions
from .sharing.vision import share_vision
from .text import describe

_PROBE = "7"


class Causal(Adapter):
    """LLaVA, Qwen-VL, SmolVLM and every other model whose answer is the continuation of one token stream.

    A batch is what the family's own processor makes for the prompt (by the chat template, or by `raw_layout`), with
    the tokens of answer + eos behind it and padding on the right: `input_ids`, `labels` (-100 everywhere but at answer
    + eos), `attention_mask` and whatever else has one value per token, all of shape (rows, length), and the family's
    image tensors. `chart_index`, int64 of shape (rows,), is there when rows share charts: the vision tower then
    encodes each of them once.
    """

    name = "causal"
    shares_vision = True
    raw_layout: ClassVar[str | None] = None
    """The text of a prompt, with the fields `{image}` (the processor's placeholder) and `{prompt}`, for families
    without a chat template; `None` needs one."""
    raw_answer: ClassVar[tuple[str, str]] = ("", " ")
    """Without a chat template: what the processor puts behind the prompt, and what stands before the answer."""
    fill: ClassVar[dict[str, int]] = {"attention_mask": 1}
    """What tensors with one value per token hold at answer tokens; others hold 0."""
    pads_prompts: ClassVar[bool] = True
    """Whether generation may pad prompts on the left; `False` puts rows of one length into a batch."""

    def setup(self, model: nn.Module) -> None:
        inner = base_model(model)
        config = inner.config
        self.model_type = config.model_type
        self.forward_names = frozenset(inspect.signature(inner.forward).parameters) - {"labels"}
        self.positions = getattr(config.get_text_config(), "max_position_embeddings", None) or NO_LIMIT
        self.limit = min(self.limit, self.positions)
        self.image_ids = as_list(getattr(config, "image_token_id", None) or getattr(config, "image_token_index", None))
        self.packs_questions = bool(self.image_ids) and can_pack(config, self.forward_names, self.limit)
        self.eager = attention_of(config) == "eager"
        self.image_token: str = getattr(self.processor, "image_token", None) or ""
        self.control_tokens |= {self.image_token} - {""}
        self.skipped_ids |= set(self.tokenizer.all_special_ids)
        self.chat_template = getattr(self.processor, "chat_template", None) or getattr(
            self.tokenizer, "chat_template", None
        )
        if self.raw_layout is not None:
            self.chat_template = None
        else:
            self.check_template()
        opening, self.lead, self.eos = self.answer_frame()
        self.opening = self.tokenize([opening])[0] if opening else []

    def check_template(self) -> None:
        """Refuse a chat template that does not take a chart and a question, or that is not there.

        Raises:
            ValueError: naming what is wrong, with the lines that mend it.
        """
        wrong = "has no chat template"
        if self.chat_template is not None:
            try:
                text = self.chat_text("Which?")
                takes_chart = text != self.chat_text("Which?", chart=False)
                good = "Which?" in text and takes_chart and "{'type'" not in text
                wrong = "" if good else f"has a chat template that shows no chart or no question ({text!r})"
            except Exception as error:  # a template may raise anything
                wrong = f"has a chat template that fails for a chart and a question ({type(error).__name__}: {error})"
        if wrong:
            raise ValueError(
                f"the processor of this {self.model_type!r} model {wrong}, so nobody knows how it takes "
                "an image and a question. Set processor.chat_template, or write these lines (see "
                f"chartqa_ft.adapters.Causal):\n@register_adapter({self.model_type!r})\n"
                'class MyFamily(Causal):\n    raw_layout = "{image}{prompt}"'
            )

    def answer_frame(self) -> tuple[str, str, int]:
        """What stands between prompt and answer (part of the prompt where it is more than white space, such as an
        empty line of thought, else of the answer), and the token that ends an answer, found by a probe."""
        if self.chat_template is None:
            return "", self.raw_answer[1], self.tokenizer.eos_token_id
        prompt = self.chat_text(_PROBE)
        full = self.chat_text(_PROBE, answer=_PROBE)
        if not full.startswith(prompt) or _PROBE not in full[len(prompt) :]:
            # A template that shows past answers otherwise than it asks for new ones (without their reasoning).
            return "", "" if prompt[-1:].isspace() else " ", self.tokenizer.eos_token_id
        lead, _, tail = full[len(prompt) :].partition(_PROBE)
        special = {*self.eos_token_ids, *self.tokenizer.all_special_ids, *self.tokenizer.get_added_vocab().values()}
        eos = next((token for token in self.tokenize([tail])[0] if token in special), self.tokenizer.eos_token_id)
        self.eos_token_ids |= {eos}
        return (lead, "", eos) if lead.strip() else ("", lead, eos)

    # ------------------------------------------------------------------ text
    def chat_text(self, question: str, *, answer: str | None = None, chart: bool = True) -> str:
        """The conversation as text: with the mark where the answer begins, or with the answer."""
        turns = self.conversation(question, answer=answer)
        if not chart:
            turns[0]["content"].pop(0)
        return self.processor.apply_chat_template(
            turns,
            chat_template=self.chat_template,
            add_generation_prompt=answer is None,
        )

    def conversation(self, question: str, *, image: Any = None, answer: str | None = None) -> list[dict[str, Any]]:
        chart = {"type": "image"} if image is None else {"type": "image", "image": image}
        turns = [{"role": "user", "content": [chart, {"type": "text", "text": self.question_text(question)}]}]
        if answer is not None:
            turns.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        return turns

    def prompt_text(self, question: str) -> str:
        """The prompt before the processor puts the image tokens in."""
        if self.chat_template is not None:
            return self.chat_text(question)
        return self.raw_layout.replace("{image}", self.image_token).replace("{prompt}", self.question_text(question))

    def answer_rows(self, examples: Sequence[Mapping[str, Any]]) -> list[list[int]]:
        """The ids of every answer, tokenized where it stands, ended by one eos."""
        behind = self.raw_answer[0] if self.chat_template is None else ""
        prompts = [self.prompt_text(example["question"]) + behind for example in examples]
        answers = [self.lead + self.answer_text(example) for example in examples]
        opening = self.tokenizer.decode(self.opening)
        prompts = [prompt + opening for prompt in prompts]
        rows = []
        for example, prompt, full, answer in zip(
            examples,
            self.tokenize(prompts),
            self.tokenize([prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]),
            answers,
            strict=True,
        ):
            # Where prompt and answer melt into one token, the answer alone is what generation can produce.
            ids = full[len(prompt) :] if full[: len(prompt)] == prompt else self.tokenize([answer])[0]
            rows.append(self.end(example, ids, self.eos))
        return rows

    # ------------------------------------------------------------------ batches
    def prompt_batch(self, examples: Sequence[Mapping[str, Any]], images: Sequence[Any]) -> Mapping[str, Any]:
        """The processor's own batch for prompts without answers."""
        arguments = {"padding": True, "return_tensors": "pt", "images_kwargs": image_kwargs(self.processor)}
        if self.chat_template is None:
            return self.processor(
                images=[[image] for image in images],
                text=[self.prompt_text(example["question"]) for example in examples],
                **arguments,
            )
        return self.processor.apply_chat_template(
            [self.conversation(e["question"], image=image) for e, image in zip(examples, images, strict=True)],
            chat_template=self.chat_template,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs=arguments,
        )

    def prompts(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """`prompt_batch` as far as the model takes it.

        Raises:
            ValueError: the processor cannot take a record; the message names it.
        """
        for example in examples:
            self.check_question(example)
        batch = self.processed(
            examples, lambda rows, images: self.prompt_batch([examples[row] for row in rows], images)
        )
        return {key: value for key, value in batch.items() if key in self.forward_names}

    def encode(self, examples: Sequence[Mapping[str, Any]], *, with_answers: bool = True) -> dict[str, torch.Tensor]:
        batch = self.prompts(examples)
        live = batch["attention_mask"].bool()
        aligned = {key: value for key, value in batch.items() if _per_token(value, live)}
        answers = self.answer_rows(examples) if with_answers else [[] for _ in examples]
        lengths = [length + len(self.opening) for length in live.sum(dim=1).tolist()]
        for row, example in enumerate(examples):
            self.check_room(example, lengths[row], int(self.image_mask(batch)[row].sum()))
            if lengths[row] + len(answers[row]) > self.limit:
                answers[row] = self.cut_answer(example, answers[row], self.limit - lengths[row])
        tails = [torch.tensor([*self.opening, *answer], dtype=torch.long) for answer in answers]
        rows: dict[str, torch.Tensor] = {}
        for key, value in aligned.items():
            grown = [
                torch.cat([value[row][live[row]], self.tail(key, value[row][live[row]], tail)])
                for row, tail in enumerate(tails)
            ]
            padding = self.pad_token_id if key == "input_ids" else 0
            rows[key] = pad_sequence(grown, batch_first=True, padding_value=padding)
        if with_answers:
            rows["labels"] = pad_rows(
                [[IGNORE_INDEX] * length + answer for length, answer in zip(lengths, answers, strict=True)],
                IGNORE_INDEX,
            )
        return {**rows, **{key: value for key, value in batch.items() if key not in rows}}

    def tail(self, key: str, prompt: torch.Tensor, ids: torch.LongTensor) -> torch.Tensor:
        """What the tensor `key`, of one row's prompt, holds at the tokens `ids` behind it."""
        if key == "input_ids":
            return ids
        if prompt.ndim > 1:  # which chart a token may see (Mllama): the answer sees what the prompt's end does
            return prompt[-1:].expand(len(ids), *prompt.shape[1:])
        return prompt.new_full((len(ids),), self.fill.get(key, 0))

    def check_room(self, example: Mapping[str, Any], length: int, chart: int) -> None:
        """Refuse a prompt that leaves no room for an answer, with the numbers."""
        room = min(ANSWER_ROOM, self.limit // 4)
        if length + room > self.limit:
            raise ValueError(
                f"{describe(example)}: the prompt takes {length} tokens ({chart} for the chart, {length - chart} for "
                f"the text), and {self.limit} must hold it and {room} for an answer. Make charts cheaper (image_size, "
                "max_pixels, max_tiles: see chartqa_ft.set_image_cost), or raise max_length as far as the model goes "
                f"({self.positions})."
            )

    def image_mask(self, batch: Mapping[str, torch.Tensor]) -> torch.BoolTensor:
        """Positions (rows, length) that hold a chart."""
        return torch.isin(batch["input_ids"], torch.tensor(self.image_ids, device=batch["input_ids"].device))

    def image_tokens(self, batch: Mapping[str, torch.Tensor]) -> list[int]:
        return self.image_mask(batch).sum(dim=1).tolist()

    def packed(self, batch: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        return pack_questions(batch, self.image_mask(batch), padding=self.pad_token_id, additive=self.eager)

    # ------------------------------------------------------------------ forward
    def label_mask(self, labels: torch.LongTensor) -> torch.BoolTensor:
        # The logits of a position are those of the token after it.
        return (labels != IGNORE_INDEX).roll(-1, dims=1)

    def attach(self, model: nn.Module) -> None:
        share_vision(base_model(model))

    # ------------------------------------------------------------------ generation
    def prompt_groups(
        self, model: nn.Module, batch: Mapping[str, torch.Tensor], encoder_outputs: Any = None
    ) -> Iterator[tuple[torch.LongTensor, dict[str, Any]]]:
        # All rows padded on the left, which these models' masks and positions account for, or those of equal length.
        live = batch["attention_mask"].bool()
        if "labels" in batch:
            live = live & (batch["labels"] == IGNORE_INDEX)
        aligned = {key: value for key, value in batch.items() if key != "labels" and _per_token(value, live)}
        others = {key: value for key, value in batch.items() if key not in {*aligned, "labels", "chart_index", "rows"}}
        lengths = live.sum(dim=1)
        if self.pads_prompts:
            longest = int(lengths.max())
            # Prompts begin at the first column: rolled to the right by what each lacks, they end at the last one.
            columns = torch.arange(longest, device=live.device)[None] - (longest - lengths)[:, None]
            inside = columns >= 0
            prompts = {}
            for key, value in aligned.items():
                padding = self.pad_token_id if key == "input_ids" else 0
                shifted = value[torch.arange(len(live), device=live.device)[:, None], columns.clamp(min=0)]
                prompts[key] = shifted.masked_fill(~inside.view(*inside.shape, *[1] * (value.ndim - 2)), padding)
            yield torch.arange(len(live), device=live.device), {**prompts, **others}
            return
        for length, index in equal_lengths(lengths.tolist(), live.device):
            prompts = {key: value[index, :length] for key, value in aligned.items()}
            yield index, {**prompts, **{key: value[index] for key, value in others.items()}}


def _per_token(value: Any, live: torch.Tensor) -> bool:
    return torch.is_tensor(value) and value.shape[:2] == live.shape


class PaliGemma(Causal):
    """PaliGemma, ChartGemma: the processor adds bos and the line break itself, and answers are no part of the prefix
    that sees itself in both directions."""

    raw_layout = "{image}{prompt}"
    raw_answer = ("\n", "")
    fill: ClassVar[dict[str, int]] = {"attention_mask": 1, "token_type_ids": 1}

    def prompt_batch(self, examples: Sequence[Mapping[str, Any]], images: Sequence[Any]) -> Mapping[str, Any]:
        # With "pt" this processor makes arrays of tensors in a way that numpy deprecates.
        batch = self.processor(
            images=[[image] for image in images],
            text=[self.prompt_text(example["question"]) for example in examples],
            padding=True,
            return_tensors="np",
        )
        return {key: torch.from_numpy(np.asarray(value)) for key, value in batch.items()}


class Kosmos2(Causal):
    """KOSMOS-2. Left padding is wrong upstream from the second generated token on, so prompts are not padded."""

    raw_layout = "{prompt}"
    pads_prompts = False

    def setup(self, model: nn.Module) -> None:
        # Not kept by the processor, whose default need not be the model's.
        self.chart_length: int = base_model(model).config.latent_query_num
        super().setup(model)

    def prompt_batch(self, examples: Sequence[Mapping[str, Any]], images: Sequence[Any]) -> Mapping[str, Any]:
        return self.processor(
            images=list(images),
            text=[self.prompt_text(example["question"]) for example in examples],
            num_image_tokens=self.chart_length,
            padding=True,
            return_tensors="pt",
        )

    def image_mask(self, batch: Mapping[str, torch.Tensor]) -> torch.BoolTensor:
        return batch["image_embeds_position_mask"].bool()

    def clean(self, text: str) -> str:
        # Phrases may come with their places in the image, which are no part of an answer.
        return self.processor.post_process_generation(text)[0].strip()
