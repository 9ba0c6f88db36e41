"""What every model family has in common: a record becomes tensors, and generated tokens become an answer."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import GenerationConfig

from ..images.check import ImageShapeError, check_pixels
from ..images.opening import open_image
from ..images.resizing import check_size
from ..images.rgb import to_rgb
from ..resources import is_out_of_memory, same_kind
from .argument_checks import check_count, check_model, check_processor, check_prompt
from .casting import cast_charts
from .chart_shapes import check_tower, shape_of_chart, unequal_charts
from .generation_checks import check_lengths, check_own_settings
from .generation_settings import answer_config, only_settings, split_settings
from .lockstep import call_inside, running_lockstep
from .prompt_inputs import check_places, check_prompt_inputs
from .prompts import CHAT_PROMPT, PROMPTS
from .renamed import RenamedAttribute, translates_argument, update_subclass
from .row_settings import numbered, with_stop_strings
from .sharing.encoded_rows import EncodedRow
from .sharing.vision import share_vision, sharing_vision
from .tasks.asked import TaskSide
from .tasks.registry import as_tasks, check_prompts
from .tasks.task import QA_NAME, Task
from .text import IGNORE_INDEX, TextSide, describe
from .token_ids import check_embeddings, check_end, control_tokens, end_ids, padding_id, reads_places
from .token_rows import as_list
from .wrappers import base_model

logger = logging.getLogger(__name__)

ANSWER_TOKENS = 128
"""Number of tokens that a prompt leaves free for its answer (at most a quarter of the longest sequence)."""

NO_LIMIT = 10**9

MAX_COLUMNS = 2**16
"""Longest `max_new_tokens` up to which `generate` pads its result to that length."""

PaddingOffset = Callable[[int, int], tuple[int, int]]
"""Function (free rows, free columns) -> (top, left), in pixels: the offset of a chart on its canvas."""


class Adapter(TaskSide, TextSide, ABC):
    """Turns (image, question, answer) into the tensors of one model family, and generated tokens back into answers.

    An adapter reads what it needs from the model and the processor when it is created. It keeps no reference to the
    model, so that it can be pickled into the worker processes of a `DataLoader`. A subclass defines how text and
    images are encoded and how answers are generated; collator, trainer and evaluation are the same for all families.

    Args:
        model: A loaded model, PEFT-wrapped or not. Only its configuration is read.
        processor: The processor of the model, with a `tokenizer` and an `image_processor`.
        prompt: Template of the prompt with the field `{question}`. `None` uses the default of the family.
        max_length: Maximum length of prompt + answer in tokens. Longer questions are truncated; the rest of the prompt
            is kept. `None` uses the limit of the model.
        on_long_answer: What to do with an answer that does not fit even beside an empty question: `"raise"` raises an
            error that names the record, `"warn"` truncates the answer and logs how many were truncated.
        prompts: Task -> template of its prompt, for other tasks than `qa`; see `chartqa_ft.Task`. Others have that
            of the family.
        tasks: Tasks, as objects or classes, in addition to registered ones.
        task: The task of records that name none.
    """

    name: ClassVar[str]
    prompt_key: ClassVar[str] = "input_ids"
    """Key of the tensor of prompt ids that generation continues: `input_ids`, or `decoder_input_ids` of
    encoder-decoders."""
    default_prompt: ClassVar[str | None] = None
    """Default prompt with the field `{question}`. `None` selects it by `config.model_type`: the published ChartQA
    prompt where there is one (`adapters.prompts`), else `other_prompt`."""
    other_prompt: ClassVar[str] = CHAT_PROMPT
    """Prompt for model types without a published one."""
    shares_encoder: ClassVar[bool] = False
    """Whether questions on one chart can share one encoder pass. If so, the subclass defines `encode_text` and
    `encode_images`, from which the collator builds its batches, and supports `chart_index` in its forward pass."""
    shares_vision: ClassVar[bool] = False
    """Whether questions on one chart can share the pass of the vision tower although text and chart are encoded
    together. If so, `attach` makes the forward pass accept `chart_index`."""
    packs_questions: bool = False
    """Whether questions on one chart can share one sequence in training without attending to each other. If so, the
    subclass defines `packed`."""
    needs_equal_prompts: ClassVar[bool] = False
    """Whether only rows with prompts of equal length can be generated together, after their charts were encoded. If
    so, the subclass defines `encoded_rows` and `rejoined`, which combine rows of several batches
    (`evaluation.answer_queue.AnswerQueue`)."""
    pads_charts: bool = False
    """Whether `encode_images` can place a chart anywhere on a fixed canvas (`offsets`), for `random_padding`."""
    setting_names: ClassVar[tuple[str, ...]] = ("prompt", "max_length")
    """Arguments that are saved with a checkpoint, so that it is prompted in the same way after loading."""
    uses_all_parameters: bool = False
    """Whether every parameter contributes to every loss, so that DDP need not search for unused ones."""

    stream = RenamedAttribute()
    shares_charts = RenamedAttribute()
    decodes_by_length = RenamedAttribute()
    unseen_ids = RenamedAttribute()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        update_subclass(cls)

    def __init__(
        self,
        model: nn.Module,
        processor: Any,
        *,
        prompt: str | None = None,
        max_length: int | None = None,
        on_long_answer: str = "raise",
        prompts: Mapping[str, str] | None = None,
        tasks: Iterable[Task | type[Task]] | None = None,
        task: str | None = None,
    ):
        if on_long_answer not in ("raise", "warn"):
            raise ValueError(f"on_long_answer must be 'raise' or 'warn', got {on_long_answer!r}")
        check_model(model)
        check_processor(processor)
        self.model_type: str = base_model(model).config.model_type
        self.processor = processor
        self.tokenizer = processor.tokenizer
        if prompt is None:
            prompt = self.default_prompt or PROMPTS.get(base_model(model).config.model_type, self.other_prompt)
        self.prompt = check_prompt(prompt)
        self.set_tasks(task, check_prompts(prompts), as_tasks(tasks))
        self.on_long_answer = on_long_answer
        self.cut_answers = 0
        check_own_settings(base_model(model))
        generation_config = base_model(model).generation_config
        self.eos_token_ids = end_ids(generation_config, self.tokenizer)
        self.pad_token_id = padding_id(generation_config, self.tokenizer)
        specials = ("bos", "unk", "cls", "sep", "mask")
        special_ids = (getattr(self.tokenizer, f"{name}_token_id", None) for name in specials)
        self.unknown: int | None = getattr(self.tokenizer, "unk_token_id", None)
        self.skipped_ids = {self.pad_token_id, *(i for i in special_ids if i is not None)}
        self.control_tokens = control_tokens(model, processor, self.tokenizer)
        self.reads_places = reads_places(processor, self.tokenizer)
        self.max_length = None if max_length is None else check_count("max_length", max_length, or_none=True)
        self.positions: int = NO_LIMIT
        """Number of positions that the model has embeddings for; `setup` of a family reads it."""
        self.limit = max_length or NO_LIMIT
        check_size(getattr(processor, "image_processor", None))
        check_tower(model, processor)
        self.setup(model)
        check_end(self.tokenizer, getattr(self, "eos", None), self.eos_token_ids)
        used = {self.pad_token_id, *as_list(self.tokenizer.eos_token_id), *self.tokenize([self.question_text("7")])[0]}
        self.embeddings = check_embeddings(model, self.tokenizer, used)
        """Number of token embeddings of the model; `None` if it is not known."""
        check_prompt_inputs(self)

    def setup(self, model: nn.Module) -> None:
        """Read what this family needs from `model`; called once, at the end of `__init__`."""

    def check_task_prompt(self, name: str, prompt: str) -> None:
        check_places(self, prompt)

    # ------------------------------------------------------------------ defined by each family
    @abstractmethod
    def encode(self, examples: Sequence[Mapping[str, Any]], *, with_answers: bool = True) -> dict[str, torch.Tensor]:
        """Encode records into a batch for `model(**batch)`.

        Args:
            examples: Records with `image`, `question` and, if `with_answers`, `answer`. They are not modified.
            with_answers: Include answers and labels. Use `False` for generation.

        Returns:
            Tensors with one row per record. `labels` are -100 except at the tokens of answer + EOS.

        Raises:
            ValueError: A record cannot be encoded; the message names it.

        Example:
            >>> from PIL import Image
            >>> from chartqa_ft import adapter_for, tiny_unichart
            >>> adapter = adapter_for(*tiny_unichart("test"))
            >>> chart = Image.new("RGB", (96, 96), "white")
            >>> batch = adapter.encode([{"image": chart, "question": "How much is red?", "answer": "3"}])
            >>> {key: tuple(tensor.shape) for key, tensor in batch.items()}
            {'decoder_input_ids': (1, 9), 'labels': (1, 9), 'pixel_values': (1, 3, 96, 96)}
            >>> adapter.decode(batch["labels"])
            ['3']
        """

    @property
    def counts_prompt(self) -> bool:
        """Whether beam search divides scores by the length of prompt and answer without EOS, as transformers 4 does,
        and not by that of the answer with EOS."""
        return False

    def prompt_groups(
        self, model: nn.Module, batch: Mapping[str, torch.Tensor], encoder_outputs: Any = None
    ) -> Iterator[tuple[torch.LongTensor, dict[str, Any]]]:
        """Yield (row indices, inputs of `model.generate`) for each group of rows that are generated together.

        The inputs hold the prompts without answers, under `prompt_key` the ids that `generate` returns at the start of
        its output, and anything else that `call_arguments` reads. A row must get the same answer in its group as
        alone.
        """
        raise NotImplementedError(f"{type(self).__name__} must define prompt_groups, or override generate")

    @torch.no_grad()
    def generate(
        self,
        model: nn.Module,
        batch: Mapping[str, torch.Tensor],
        *,
        max_new_tokens: int,
        num_beams: int = 1,
        encoder_outputs: Any = None,
        **kwargs: Any,
    ) -> torch.LongTensor:
        """Generate an answer for each row of a batch of `encode` (with or without answers).

        Each row gets the answer that it gets when generated alone.

        Args:
            model: The model, wrapped or not.
            batch: From `encode` or the collator.
            max_new_tokens: Maximum length of an answer in tokens.
            num_beams: Number of beams.
            encoder_outputs: Return value of `encode_charts` for this batch, so that charts are not encoded again.
            **kwargs: Fields of the generation config or arguments of `model.generate`, such as `logits_processor`,
                which sees one group of rows at a time.

        Returns:
            Ids of the answers without prompts, int64 of shape (rows, max_new_tokens), padded on the right with
            `pad_token_id`. If `max_new_tokens` is more than the model has positions for, the length is that of the
            longest answer.

        Raises:
            TypeError: An argument is neither a field of the generation config nor an argument of `model.generate`, or
                has another type than that takes.
            ValueError: An argument would change what is returned, is set by this method, or would have no effect.

        Example:
            >>> from PIL import Image
            >>> from chartqa_ft import adapter_for, tiny_unichart
            >>> model, processor = tiny_unichart("test")
            >>> adapter = adapter_for(model, processor)
            >>> chart = Image.new("RGB", (96, 96), "white")
            >>> batch = adapter.encode([{"image": chart, "question": "How much is red?"}], with_answers=False)
            >>> adapter.generate(model.eval(), batch, max_new_tokens=4).shape
            torch.Size([1, 4])
        """
        check_model(model)
        model = base_model(model)
        max_new_tokens, num_beams = check_lengths(max_new_tokens, num_beams, kwargs)
        settings, arguments = split_settings(model, {"num_beams": num_beams, **kwargs})
        answers: list[tuple[torch.LongTensor, torch.LongTensor]] = []
        for rows, length, ids in self._generated(
            model, batch, encoder_outputs, max_new_tokens, num_beams, settings, arguments
        ):
            answers.append((rows, ids[:, length:]))
        first = answers[0][1]
        if max_new_tokens > min(self.positions, MAX_COLUMNS):  # no answer can be that long: do not allocate it
            max_new_tokens = max(ids.shape[1] for _, ids in answers)
        padded = first.new_full((sum(len(rows) for rows, _ in answers), max_new_tokens), self.pad_token_id)
        for rows, ids in answers:
            padded[rows, : ids.shape[1]] = self.padded(ids)
        return padded

    @torch.no_grad()
    def beams(
        self, model: nn.Module, batch: Mapping[str, torch.Tensor], *, max_new_tokens: int, num_beams: int
    ) -> tuple[torch.LongTensor, torch.Tensor]:
        """Return all beams with which a beam search for one record ends, the best first, and how likely they are.

        Args:
            model: The model, wrapped or not.
            batch: From `encode`, with one row.
            max_new_tokens: Maximum length of an answer in tokens.
            num_beams: Number of beams, at least 2.

        Returns:
            The ids without the prompt, int64 of shape (beams, length), padded on the right with `pad_token_id`; and
            the sum of the log-probabilities of each beam's tokens in nats, EOS included, float32 of shape (beams,).

        Raises:
            ValueError: The batch has several rows, or `num_beams` is 1.
        """
        if num_beams < 2 or len(next(iter(batch.values()))) != 1:
            raise ValueError(f"beams() takes one record and at least 2 beams, got num_beams={num_beams}")
        model = base_model(model)
        max_new_tokens, num_beams = check_lengths(max_new_tokens, num_beams, {})
        settings = {"num_return_sequences": num_beams, "return_dict_in_generate": True, "output_scores": True}
        ((_, length, found),) = self._generated(model, batch, None, max_new_tokens, num_beams, settings, {})
        ids = self.padded(found.sequences[:, length:])
        ends = torch.isin(ids, torch.tensor(sorted(self.eos_token_ids), device=ids.device))
        complete = ends.any(dim=1)
        counted = torch.where(complete, ends.int().argmax(dim=1) + 1, ids.shape[1])
        if self.counts_prompt:
            counted = counted - complete.int() + length
        return ids, found.sequences_scores.float() * counted  # with a length penalty of 1, it is their mean

    def _generated(
        self,
        model: nn.Module,
        batch: Mapping[str, torch.Tensor],
        encoder_outputs: Any,
        max_new_tokens: int,
        num_beams: int,
        settings: Mapping[str, Any],
        arguments: Mapping[str, Any],
    ) -> Iterator[tuple[torch.LongTensor, int, Any]]:
        """Yield (row indices, length of the prompt, what `model.generate` returns) for each group of rows."""
        lockstep = running_lockstep(model)
        settings, arguments = with_stop_strings(model, self.tokenizer, settings, arguments)
        if self.shares_vision:
            share_vision(model)
        with sharing_vision(model, "chart_index" in batch):
            for rows, prompts in self.prompt_groups(model, batch, encoder_outputs):
                length = prompts[self.prompt_key].shape[1]
                config = self.generation_config(
                    model, min(max_new_tokens, self.positions - length), num_beams, settings
                )
                if lockstep is not None:
                    lockstep.begin_call()
                own = numbered(arguments, rows)
                calls = self.call_arguments(model, cast_charts(prompts, model), config, own)
                with only_settings(model, config):
                    found = call_inside(model, model.generate, generation_config=config, **calls)
                yield rows, length, found

    def call_arguments(
        self, model: nn.Module, inputs: dict[str, Any], config: GenerationConfig, arguments: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return all arguments of one call of `model.generate` except the generation config.

        Args:
            model: The unwrapped model.
            inputs: Inputs of one group of `prompt_groups`.
            config: The generation config of the call.
            arguments: Arguments passed by the user; they take precedence.
        """
        return {**inputs, **arguments}

    def encoded_rows(self, batch: Mapping[str, torch.Tensor], encoder_outputs: Any) -> list[EncodedRow]:
        """Split a batch and the return value of `encode_charts` into rows; used if `needs_equal_prompts` is True."""
        raise NotImplementedError(f"{type(self).__name__} has needs_equal_prompts=True and must define encoded_rows")

    def rejoined(self, rows: Sequence[EncodedRow]) -> tuple[dict[str, torch.Tensor], Any]:
        """Combine rows of equal `shape`, possibly of several batches, into (batch, encoder outputs) for `generate`."""
        raise NotImplementedError(f"{type(self).__name__} has needs_equal_prompts=True and must define rejoined")

    def packed(self, batch: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """Pack a training batch with `labels` and `chart_index` into one sequence per chart with the same sum of
        losses (`sharing.packing.pack_questions`); used if `packs_questions` is True."""
        raise NotImplementedError(f"{type(self).__name__} has packs_questions=True and must define packed")

    def encode_text(
        self, examples: Sequence[Mapping[str, Any]], *, with_answers: bool = True
    ) -> dict[str, torch.Tensor]:
        """Encode the part of a batch that has one row per record, without images; a row tensor comes first.

        Used by the collator if `shares_encoder` is True. The collator adds `encode_images` of the distinct charts and,
        if rows share charts, `chart_index`: the index of each row's chart, int64 of shape (rows,).
        """
        raise NotImplementedError(f"{type(self).__name__} has shares_encoder=True and must define encode_text")

    @translates_argument
    def encode_images(
        self, images: Sequence[Any], *, offsets: Sequence[PaddingOffset] | None = None
    ) -> dict[str, torch.Tensor]:
        """Encode charts into tensors whose first dimension is the number of charts; used if `shares_encoder` is True.

        Args:
            images: RGB charts, as returned by `images`.
            offsets: For each image a function that returns its offset on the canvas; only if `pads_charts` is True.
        """
        raise NotImplementedError(f"{type(self).__name__} has shares_encoder=True and must define encode_images")

    def encode_charts(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> Any:
        """Compute what loss and generation of a batch can share; `None` if the family shares nothing."""
        return None

    def model_inputs(self, batch: Mapping[str, torch.Tensor], *, encoder_outputs: Any = None) -> dict[str, Any]:
        """Return the arguments of the forward pass: the batch without labels and without what only the trainer
        reads."""
        return {key: value for key, value in batch.items() if key not in ("labels", "rows")}

    def label_mask(self, labels: torch.LongTensor) -> torch.BoolTensor:
        """Return the positions of the logits that predict an answer token: bool of shape (rows, length)."""
        return labels != IGNORE_INDEX

    def loss_mask(self, labels: torch.LongTensor, encoder_outputs: Any = None) -> torch.BoolTensor:
        """Return `label_mask` for the columns that `model_inputs` passes to the model with these `encoder_outputs`."""
        return self.label_mask(labels)

    def attach(self, model: nn.Module) -> None:
        """Prepare a model (in place, through public hooks) for batches in which rows share charts."""

    def image_tokens(self, batch: Mapping[str, torch.Tensor]) -> list[int] | None:
        """Return the number of positions of the model that each row's chart takes, or `None` if it is not known."""
        return None

    def settings(self) -> dict[str, Any]:
        """Return the settings to save with a checkpoint, so that it is prompted in the same way again (JSON types)."""
        others: dict[str, Any] = {"prompts": dict(self.given_prompts)} if self.given_prompts else {}
        if self.task != QA_NAME:
            others["task"] = self.task
        return {"adapter": self.name, **{name: getattr(self, name) for name in self.setting_names}, **others}

    # ------------------------------------------------------------------ common to all families
    def images(self, examples: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Return the charts of `examples` as RGB images, as a browser displays them.

        Raises:
            ValueError: An image cannot be decoded; the message names the record.
        """
        return [self.image(example) for example in examples]

    @translates_argument
    def chart_tensors(
        self, examples: Sequence[Mapping[str, Any]], *, offsets: Sequence[PaddingOffset] | None = None
    ) -> dict[str, torch.Tensor]:
        """Return `encode_images` of the charts of `examples`.

        Raises:
            ValueError: An image cannot be decoded or processed; the message names the record.
        """

        def encode(rows: Sequence[int], images: list[Any]) -> dict[str, torch.Tensor]:
            return self.encode_images(images, offsets=None if offsets is None else [offsets[row] for row in rows])

        return self.processed(examples, encode)

    def processed(self, examples: Sequence[Mapping[str, Any]], make: Callable[[Sequence[int], list[Any]], Any]) -> Any:
        """Return `make(row indices, images)` for all examples.

        Raises:
            ValueError: `make` fails; the message names the record for which it does.
        """
        images = self.images(examples)
        try:
            return make(range(len(examples)), images)
        except Exception as failed:
            if is_out_of_memory(failed):
                raise
            # The error of a processor (a width of 0 for 1 x 3000 pixels) does not say which record it is: find it.
            shapes = []
            for row, (example, image) in enumerate(zip(examples, images, strict=True)):
                try:
                    shapes.append(shape_of_chart(make([row], [image])))
                except Exception as error:
                    raise ValueError(
                        f"{describe(example)}: the processor takes no image of {image.size[0]} x {image.size[1]} "
                        f"pixels with this question ({type(error).__name__}: {error})"
                    ) from error
            unequal = unequal_charts(examples, shapes, self.processor.image_processor)
            if unequal is not None:
                raise unequal from failed
            raise

    def image(self, example: Mapping[str, Any]) -> Any:
        """Return the chart of a record as an RGB image.

        The record may hold a PIL image, the path of a file, or a uint8 array of shape (height, width[, 3 or 4]).

        Raises:
            ValueError: The record has no image, or it cannot be decoded.
        """
        image = example.get("image")
        if image is None:
            raise ValueError(f"{describe(example)} has no image")
        try:
            opened = open_image(image)
            check_pixels(opened, max_pixels=None)  # before they are decoded
            return to_rgb(opened)
        except ImageShapeError as error:
            width, height = opened.size
            raise ValueError(
                f"{describe(example)}: the processor takes no image of {width} x {height} pixels with this question "
                f"({error})"
            ) from error
        except Exception as error:  # decoders raise errors of many types
            path = image.get("path") if isinstance(image, Mapping) else image
            reason = f"{error}" or type(error).__name__
            if is_out_of_memory(error):  # that says nothing about the file
                raise same_kind(error, f"{describe(example)}: no memory to decode the image ({reason})") from error
            if isinstance(path, (str, Path)) and str(path) not in reason:
                reason = f"{path}: {reason}"
            raise ValueError(f"{describe(example)}: the image cannot be decoded ({reason})") from error

    @property
    def groups_charts(self) -> bool:
        """Whether a batch should contain questions on the same chart."""
        return self.shares_encoder or self.shares_vision

    def generation_config(
        self, model: nn.Module, max_new_tokens: int, num_beams: int, settings: Mapping[str, Any]
    ) -> GenerationConfig:
        """Return the generation config of one call of `model.generate`; see `answer_config`."""
        return answer_config(
            model,
            max_new_tokens=max_new_tokens,
            num_beams=num_beams,
            pad_token_id=self.pad_token_id,
            eos_token_ids=self.eos_token_ids,
            unknown=self.unknown,
            settings=settings,
        )
