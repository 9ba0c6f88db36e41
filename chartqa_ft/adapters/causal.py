"""Decoder-only models: the prompt holds chart and question, and the answer continues it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig

from .argument_checks import check_records
from .base import ANSWER_TOKENS, NO_LIMIT, Adapter
from .beam_inputs import check_beam_inputs
from .cache_name import CACHE
from .casting import cast_charts
from .chat_frame import check_date, default_template, reads_clock
from .chat_side import PROBE, TRIALS, ChatSide, SystemPromptError
from .generation_checks import check_lengths
from .greedy import shrinking_greedy_search, takes_shrinking_search
from .layout_trial import trial_charts
from .lockstep import is_sharded
from .pixels import unchanged
from .processor_call import processor_arguments
from .row_settings import numbered
from .sharing.packing import PROVEN, attention_of, can_pack, image_entries, pack_questions
from .sharing.prefixes import ChartPrefixes, encode_prefixes
from .sharing.vision import share_vision
from .text import IGNORE_INDEX, describe
from .token_rows import as_list, group_by_length, has_token_axis, pad_rows
from .wrappers import base_model

_TOKEN_NAMES = {
    *("input_ids", "attention_mask", "labels", "position_ids", "token_type_ids", "mm_token_type_ids"),
    *("cross_attention_mask", "image_embeds_position_mask"),
}

_BATCH_INDICES = {"image_token_pooling"}
"""Tensors whose values are indices into the patches of the whole batch (Molmo2), of which no part can be taken."""

_WITHOUT_CACHE = frozenset({"num_beams", "length_penalty", "early_stopping", "min_new_tokens"})
"""Arguments of `generate` that decide neither about the cache nor by the tokens of a prompt and its padding."""
_GIVEN = ("prompt_groups", "call_arguments", "model_inputs", "label_mask", "generate", "beams")
"""Methods that decide about what the model is given."""


class Causal(ChatSide, Adapter):
    """LLaVA, Qwen-VL, SmolVLM and any other model whose answer continues the token sequence of the prompt.

    A batch is the output of the family's processor for the prompt (from the chat template, or from `raw_layout`),
    followed by the tokens of answer + EOS and padded on the right: `input_ids`, `labels` (-100 except at answer +
    EOS), `attention_mask` and other tensors with one value per token, all of shape (rows, length), and the image
    tensors of the family. If rows share charts, it also holds `chart_index`, int64 of shape (rows,), and the vision
    tower encodes each chart once.

    Args:
        *args: See `Adapter`.
        system_prompt: System message of every conversation, for families whose chat template takes one.
        prompt_date: Date in ISO format for chat templates that write today's date into the prompt. `None` uses the day
            on which the adapter is created. It is saved with the checkpoint, so that training, a resumed training and
            inference use the same prompt.
        **kwargs: See `Adapter`.

    Example:
        An adapter for a family without a chat template:

        >>> from chartqa_ft.adapters import Causal, register_adapter
        >>> @register_adapter("my-family")
        ... class MyFamily(Causal):
        ...     raw_layout = "{image}{prompt}"
    """

    name = "causal"
    shares_vision = True
    setting_names = (*Adapter.setting_names, "system_prompt", "prompt_date")
    raw_layout: ClassVar[str | None] = None
    """Layout of the text for families without a chat template, with the fields `{image}` (the processor's placeholder)
    and `{prompt}`; `None` requires a chat template."""
    raw_answer: ClassVar[tuple[str, str]] = ("", " ")
    """Without a chat template: the text that the processor appends to the prompt, and the text before the answer."""
    fill: ClassVar[dict[str, int]] = {"attention_mask": 1}
    """Values of tensors with one value per token at answer tokens; others are 0 there."""
    pads_prompts: ClassVar[bool] = True
    """Whether generation may pad prompts on the left; `False` generates rows of equal length together."""
    shares_prefixes: bool = False
    """Whether evaluations compute the prompt up to the end of a chart once for the loss and the answers of all its
    questions. It is set for the model types of `sharing.packing.PROVEN`."""
    drops_finished: bool = False
    """Whether rows leave the batch of a greedy search when their answers end; set for the same model types."""

    def __init__(
        self, *args: Any, system_prompt: str | None = None, prompt_date: str | None = None, **kwargs: Any
    ) -> None:
        if system_prompt is not None and not (isinstance(system_prompt, str) and system_prompt.strip()):
            raise ValueError(f"system_prompt must be a text that is not empty, got {system_prompt!r}")
        self.system_prompt, self.prompt_date = system_prompt, prompt_date
        self._per_token: dict[str, bool] = {}
        super().__init__(*args, **kwargs)

    def setup(self, model: nn.Module) -> None:
        inner = base_model(model)
        config = inner.config
        self.model_type = config.model_type
        self.forward_names = frozenset(inspect.signature(inner.forward).parameters) - {"labels"}
        self.positions = getattr(config.get_text_config(), "max_position_embeddings", None) or NO_LIMIT
        self.limit = min(self.limit, self.positions)
        self.image_ids = as_list(getattr(config, "image_token_id", None) or getattr(config, "image_token_index", None))
        self.packs_questions = bool(self.image_ids) and can_pack(config, self.forward_names, self.limit)
        # A subclass that changes what the model is given would not be asked where prefixes are.
        proven = self.packs_questions and self.model_type in PROVEN and unchanged(self, _GIVEN)
        self.shares_prefixes = self.drops_finished = proven
        self.eager = attention_of(config) == "eager"
        image_token = getattr(self.processor, "image_token", None) or ""
        self.image_token: str = getattr(image_token, "content", image_token)  # BLIP-2 has an AddedToken
        self.control_tokens |= {self.image_token} - {""}
        self.skipped_ids |= set(self.tokenizer.all_special_ids)
        template = getattr(self.processor, "chat_template", None) or getattr(self.tokenizer, "chat_template", None)
        self.chat_template = default_template(template) if self.raw_layout is None else None
        if self.raw_layout is not None:
            if self.system_prompt is not None:
                raise SystemPromptError(
                    f"{self.model_type!r} models have no chat template, and so no system message: put the text of "
                    "system_prompt into prompt="
                )
        else:
            if self.prompt_date is not None or reads_clock(self.chat_template):
                self.prompt_date = check_date(self.prompt_date or date.today().isoformat())
                self.dateless_template = self.chat_template
                self.set_date(self.prompt_date)
            self.check_template(model, Causal)
            frame = self.chat_text(PROBE)
            written = self.prompt + (self.system_prompt or "")
            # Tokens that structure the conversation. Reasoning between <think> and </think> may be learned.
            self.control_tokens |= {
                token
                for token in self.tokenizer.get_added_vocab()
                if token in frame and token.strip()[:1] in ("<", "[") and "think" not in token and token not in written
            }
        opening, self.lead, self.eos = self.answer_frame()
        self.opening = self.tokenize([opening])[0] if opening else []

    # ------------------------------------------------------------------ text
    def prompt_text(self, question: str) -> str:
        """Return the prompt before the processor expands the image tokens."""
        if self.chat_template is not None or self.raw_layout is None:
            return self.chat_text(question)
        return self.raw_layout.replace("{image}", self.image_token).replace("{prompt}", self.question_text(question))

    def answer_rows(self, examples: Sequence[Mapping[str, Any]]) -> list[list[int]]:
        """Return the ids of each answer, tokenized after its prompt, with one EOS at the end."""
        return self.answers_after([self.prompt_text(example["question"]) for example in examples], examples)

    def answers_after(self, prompts: Sequence[str], examples: Sequence[Mapping[str, Any]]) -> list[list[int]]:
        """Return `answer_rows` of records whose prompts are known."""
        after = self.raw_answer[0] if self.chat_template is None else ""
        answers = [self.lead + self.answer_text(example) for example in examples]
        opening = self.tokenizer.decode(self.opening)
        prompts = [prompt + after + opening for prompt in prompts]
        rows = []
        for example, prompt, full, answer in zip(
            examples,
            self.tokenize(prompts),
            self.tokenize([prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]),
            answers,
            strict=True,
        ):
            # Where a token spans prompt and answer, generation can only produce the answer tokenized alone.
            ids = full[len(prompt) :] if full[: len(prompt)] == prompt else self.tokenize([answer])[0]
            rows.append(self.end(example, ids, self.eos))
        return rows

    def check_texts(self, examples: Sequence[Mapping[str, Any]], *, with_answers: bool = True) -> None:
        examples = self.asked(examples)
        super().check_texts(examples, with_answers=with_answers)
        texts = [self.prompt_text(example["question"]) for example in examples]
        prompts = self.tokenize(texts)
        answers: list[list[int]] = [[] for _ in examples]
        if with_answers:
            answers = self.answered_rows(
                examples, lambda rows: self.answers_after([texts[i] for i in rows], [examples[i] for i in rows])
            )
        self.check_ids(examples, prompts, answers)
        for example, prompt, answer in zip(examples, prompts, answers, strict=True):
            # A chart takes at least one token more than its placeholder, if it takes any.
            length = len(prompt) + len(self.opening)
            self.check_length(example, length, 0)
            if length + len(answer) > self.limit:
                self.cut_answer(example, answer, self.limit - length)

    # ------------------------------------------------------------------ batches
    def prompt_batch(self, examples: Sequence[Mapping[str, Any]], images: Sequence[Any]) -> Mapping[str, Any]:
        """Return the output of the processor for prompts without answers."""
        arguments = processor_arguments(self.processor)
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
        """Return the part of `prompt_batch` that the forward pass accepts.

        Raises:
            ValueError: The processor cannot handle a record; the message names it.
        """
        for example in examples:
            self.check_question(example)
        batch = self.processed(
            examples, lambda rows, images: self.prompt_batch([examples[row] for row in rows], images)
        )
        return {key: value for key, value in batch.items() if key in self.forward_names}

    def encode(self, examples: Sequence[Mapping[str, Any]], *, with_answers: bool = True) -> dict[str, torch.Tensor]:
        check_records(examples)
        examples = self.asked(examples)
        batch = self.prompts(examples)
        mask = batch["attention_mask"].bool()
        per_token = self.per_token(batch, mask)
        answers: list[list[int]] = [[] for _ in examples]
        if with_answers:
            answers = self.answered_rows(examples, lambda rows: self.answer_rows([examples[row] for row in rows]))
        lengths = [length + len(self.opening) for length in mask.sum(dim=1).tolist()]
        for row, example in enumerate(examples):
            self.check_length(example, lengths[row], int(self.image_mask(batch)[row].sum()))
            if lengths[row] + len(answers[row]) > self.limit:
                answers[row] = self.cut_answer(example, answers[row], self.limit - lengths[row])
        tails = [torch.tensor([*self.opening, *answer], dtype=torch.long) for answer in answers]
        rows: dict[str, torch.Tensor] = {}
        for key, value in per_token.items():
            grown = [
                torch.cat([value[row][mask[row]], self.tail(key, value[row][mask[row]], tail)])
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

    def per_token(self, batch: Mapping[str, Any], mask: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the tensors of a batch with one value per token; see `is_per_token`."""
        return {
            key: value
            for key, value in batch.items()
            if has_token_axis(value, mask) and not value.is_floating_point() and self.is_per_token(key)
        }

    def is_per_token(self, key: str) -> bool:
        """Return whether a tensor of the processor has one value per token, by its name.

        The shape does not show it: a chart may have as many patches as the batch has tokens. If neither the processor
        declares the name nor this library knows it, the processor is tried on a chart with two questions.
        """
        image_names = getattr(self.processor.image_processor, "model_input_names", ())
        if key in {"pixel_values", *image_names} - _TOKEN_NAMES:
            return False
        if key in _TOKEN_NAMES or key in getattr(self.tokenizer, "model_input_names", ()):
            return True
        if key not in self._per_token:
            self._per_token = {**self._per_token, key: True, **self.grows_with_text()}
        return self._per_token[key]

    def grows_with_text(self) -> dict[str, bool]:
        """Return for the names of the processor's tensors whether they have one value per token."""
        found: dict[str, bool] = {}
        for question in (PROBE, TRIALS[-1][0]):
            batch = self.prompt_batch([{"question": question}], trial_charts()[:1])
            mask = torch.as_tensor(batch["input_ids"])
            for key, value in batch.items():
                found[key] = found.get(key, True) and has_token_axis(value, mask)
        return found

    def tail(self, key: str, prompt: torch.Tensor, ids: torch.LongTensor) -> torch.Tensor:
        """Return the values of the tensor `key` at the tokens `ids` that follow the prompt of a row."""
        if key == "input_ids":
            return ids
        if prompt.ndim > 1:
            # Which charts a token attends to (Mllama): the answer attends to the same ones as the end of the prompt.
            return prompt[-1:].expand(len(ids), *prompt.shape[1:])
        return prompt.new_full((len(ids),), self.fill.get(key, 0))

    def check_length(self, example: Mapping[str, Any], length: int, chart: int) -> None:
        """Check that a prompt of `length` tokens, `chart` of them for the chart, leaves room for an answer.

        Raises:
            ValueError: It does not; the message names the record.
        """
        room = min(ANSWER_TOKENS, self.limit // 4)
        if length + room > self.limit:
            raise ValueError(
                f"{describe(example)}: the prompt takes {length} tokens ({chart} for the chart, {length - chart} for "
                f"the text), and together with {room} for an answer it must fit into {self.limit}. Reduce the cost of "
                "charts (image_size, max_pixels, max_tiles: see chartqa_ft.set_image_cost), or raise max_length up to "
                f"the limit of the model ({self.positions})."
            )

    def image_mask(self, batch: Mapping[str, torch.Tensor]) -> torch.BoolTensor:
        """Return which positions hold image tokens: bool of shape (rows, length)."""
        return torch.isin(batch["input_ids"], torch.tensor(self.image_ids, device=batch["input_ids"].device))

    def image_tokens(self, batch: Mapping[str, torch.Tensor]) -> list[int]:
        return self.image_mask(batch).sum(dim=1).tolist()

    def packed(self, batch: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        return pack_questions(batch, self.image_mask(batch), padding=self.pad_token_id, additive=self.eager)

    # ------------------------------------------------------------------ forward
    def label_mask(self, labels: torch.LongTensor) -> torch.BoolTensor:
        # The logits of a position predict the next token.
        return (labels != IGNORE_INDEX).roll(-1, dims=1)

    def attach(self, model: nn.Module) -> None:
        share_vision(base_model(model))

    def encode_charts(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> ChartPrefixes | None:
        if not self.shares_prefixes or is_sharded(model):
            return None
        inner = base_model(model)
        return encode_prefixes(
            inner,
            {key: value for key, value in cast_charts(batch, inner).items() if key != "rows"},
            self.image_mask(batch),
            self.prompt_mask(batch).sum(dim=1),
            padding=self.pad_token_id,
            always="labels" in batch,
        )

    def model_inputs(self, batch: Mapping[str, torch.Tensor], *, encoder_outputs: Any = None) -> dict[str, Any]:
        if isinstance(encoder_outputs, ChartPrefixes):
            return encoder_outputs.remaining(batch, padding=self.pad_token_id)
        return super().model_inputs(batch)

    def loss_mask(self, labels: torch.LongTensor, encoder_outputs: Any = None) -> torch.BoolTensor:
        mask = self.label_mask(labels)
        if not isinstance(encoder_outputs, ChartPrefixes):
            return mask
        return mask.gather(1, encoder_outputs.remaining_columns(mask.shape[1]))

    # ------------------------------------------------------------------ generation
    @torch.no_grad()
    def generate(
        self,
        model: nn.Module,
        batch: Mapping[str, torch.Tensor],
        *,
        max_new_tokens: int,
        encoder_outputs: Any = None,
        **kwargs: Any,
    ) -> torch.LongTensor:
        max_new_tokens, _ = check_lengths(max_new_tokens, kwargs.get("num_beams", 1), kwargs)
        # Padding would count as a token that was written already, and ban the EOS that has the same id.
        equal = bool(kwargs.get("no_repeat_ngram_size")) and self.pad_token_id in self.eos_token_ids
        # Rows that are padded to a prompt near the limit of the model would get as few tokens as it gets.
        parts = self.split_by_room(batch, max_new_tokens, equal_lengths=equal)
        shared = encoder_outputs if len(parts) == 1 else None
        answers = [
            super(Causal, self).generate(
                model,
                part,
                max_new_tokens=max_new_tokens,
                encoder_outputs=self.prefixes(model, part, shared, max_new_tokens, kwargs),
                **numbered(kwargs, rows),
            )
            for rows, part in parts
        ]
        # If more tokens are asked for than the model has positions, each part is as wide as its own longest answer.
        width = max(ids.shape[1] for ids in answers)
        joined = answers[0].new_full((sum(map(len, answers)), width), self.pad_token_id)
        for (rows, _), ids in zip(parts, answers, strict=True):
            joined[rows, : ids.shape[1]] = ids
        return joined

    def settings(self) -> dict[str, Any]:
        found = super().settings()
        # Left out if unset, as in checkpoints of earlier releases.
        return {key: found[key] for key in found if found[key] is not None or key in Adapter.setting_names}

    def prefixes(
        self,
        model: nn.Module,
        batch: Mapping[str, torch.Tensor],
        computed: ChartPrefixes | None,
        max_new_tokens: int,
        arguments: Mapping[str, Any],
    ) -> ChartPrefixes | None:
        """Return the prefixes with which a batch is generated; `None` if each row computes its whole prompt.

        Args:
            computed: return value of `encode_charts` for this batch, if it is known.
            arguments: what is passed to `generate` besides.
        """
        unset = {"do_sample": (None, False), "synced_gpus": (None, False)}
        used = {name for name, value in arguments.items() if not any(value is one for one in unset.get(name, (None,)))}
        own = base_model(model).generation_config
        if not self.shares_prefixes or not self.pads_prompts or used - _WITHOUT_CACHE:
            return None
        # A text that ends answers may begin in the prompt.
        unshared = ("cache_implementation", "prefill_chunk_size", "stop_strings")
        if any(getattr(own, name, None) is not None for name in unshared):
            return None
        mask = self.prompt_mask(batch)
        with torch.no_grad():
            prefixes = self.encode_charts(model, batch) if computed is None else computed
        if prefixes is None:
            return None
        lengths = mask.sum(dim=1)
        columns = prefixes.columns + int((lengths - prefixes.lengths).max())
        # Where prefixes differ in length, padding between them and the questions takes columns.
        fits = columns + max_new_tokens <= self.positions or columns == int(lengths.max())
        return prefixes if fits else None

    def split_by_room(
        self, batch: Mapping[str, torch.Tensor], max_new_tokens: int, *, equal_lengths: bool = False
    ) -> list[tuple[torch.LongTensor, Mapping[str, Any]]]:
        """Split a batch so that the rows of each part have room for equally many of `max_new_tokens` new tokens.

        Args:
            batch: From `encode`.
            max_new_tokens: Longest answer in tokens.
            equal_lengths: Let the prompts of each part have one length, so that none is padded.

        Returns:
            (row indices, batch of these rows) of each part. A batch whose image tensors cannot be split stays whole.

        Raises:
            ValueError: Lengths must be equal, and the batch cannot be split.
        """
        mask = self.prompt_mask(batch)
        lengths = mask.sum(dim=1)
        everything = torch.arange(len(mask), device=mask.device)
        rooms = lengths if equal_lengths else (self.positions - lengths).clamp(max=max_new_tokens)
        if not self.pads_prompts or len(rooms.unique()) == 1:
            return [(everything, batch)]
        others = set(batch) - {*self.per_token(batch, batch["attention_mask"]), "labels", "chart_index", "rows"}
        images = self.image_mask(batch)
        entries = {key: image_entries(batch[key], images) for key in others if torch.is_tensor(batch[key])}
        if others & _BATCH_INDICES or entries.keys() < others or None in entries.values():
            if equal_lengths:
                raise ValueError(
                    "no_repeat_ngram_size would ban the EOS of padded prompts, since it pads them too: answer one "
                    "question at a time, or set another processor.tokenizer.pad_token"
                )
            return [(everything, batch)]
        parts: list[tuple[torch.LongTensor, Mapping[str, Any]]] = []
        for room in rooms.unique():
            index = (rooms == room).nonzero().flatten()
            part: dict[str, Any] = {}
            for key, value in batch.items():
                if key == "rows":
                    part[key] = [value[row] for row in index.tolist()]
                elif (found := entries.get(key)) is not None:
                    part[key] = torch.cat([value[found[row]] for row in index.tolist()])
                else:
                    part[key] = value[index]
            parts.append((index, part))
        return parts

    def prompt_mask(self, batch: Mapping[str, torch.Tensor]) -> torch.BoolTensor:
        """Return which positions of a batch belong to the prompts: bool of shape (rows, length)."""
        mask = batch["attention_mask"].bool()
        return mask & (batch["labels"] == IGNORE_INDEX) if "labels" in batch else mask

    def prompt_groups(
        self, model: nn.Module, batch: Mapping[str, torch.Tensor], encoder_outputs: Any = None
    ) -> Iterator[tuple[torch.LongTensor, dict[str, Any]]]:
        # Either all rows, padded on the left, which masks and positions account for, or rows of equal length.
        mask = self.prompt_mask(batch)
        per_token = {key: value for key, value in self.per_token(batch, mask).items() if key != "labels"}
        others = {
            key: value for key, value in batch.items() if key not in {*per_token, "labels", "chart_index", "rows"}
        }
        lengths = mask.sum(dim=1)
        if encoder_outputs is not None:
            ids, shared_mask = encoder_outputs.prompts(batch["input_ids"], lengths, padding=self.pad_token_id)
            rows = torch.arange(len(mask), device=mask.device)
            yield rows, {"input_ids": ids, "attention_mask": shared_mask, "prefixes": encoder_outputs}
            return
        if self.pads_prompts:
            longest = int(lengths.max())
            # Prompts start at the first column: shift each to the right, so that they all end at the last one.
            columns = torch.arange(longest, device=mask.device)[None] - (longest - lengths)[:, None]
            inside = columns >= 0
            prompts = {}
            for key, value in per_token.items():
                padding = self.pad_token_id if key == "input_ids" else 0
                shifted = value[torch.arange(len(mask), device=mask.device)[:, None], columns.clamp(min=0)]
                prompts[key] = shifted.masked_fill(~inside.view(*inside.shape, *[1] * (value.ndim - 2)), padding)
            yield torch.arange(len(mask), device=mask.device), {**prompts, **others}
            return
        for length, index in group_by_length(lengths.tolist(), mask.device):
            prompts = {key: value[index, :length] for key, value in per_token.items()}
            yield index, {**prompts, **{key: value[index] for key, value in others.items()}}

    def call_arguments(
        self, model: nn.Module, inputs: dict[str, Any], config: GenerationConfig, arguments: Mapping[str, Any]
    ) -> dict[str, Any]:
        prefixes = inputs.pop("prefixes", None)
        if prefixes is not None:
            inputs[CACHE] = prefixes.cache_of_rows(beams=config.num_beams)
        if (config.num_beams or 1) > 1:
            check_beam_inputs(base_model(model), inputs)
        if self.drops_finished and len(inputs["input_ids"]) > 1 and takes_shrinking_search(config, arguments):
            inputs["custom_generate"] = shrinking_greedy_search
        return {**inputs, **arguments}
