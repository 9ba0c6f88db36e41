"""What every model family has in common: a record becomes tensors, tensors become an answer."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from accelerate.utils import extract_model_from_parallel, is_compiled_module
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig

from ..images.opening import open_image
from ..images.rgb import to_rgb
from .generation_settings import answer_config, split_settings
from .prompts import CHAT_PROMPT, PROMPTS
from .sharing.encoded_rows import EncodedRow
from .sharing.vision import share_vision, sharing_vision
from .text import IGNORE_INDEX, TextSide, describe

logger = logging.getLogger(__name__)

ANSWER_ROOM = 128
"""Tokens that a prompt leaves free for its answer (at most a quarter of the longest sequence)."""

NO_LIMIT = 10**9

PaddingDraw = Callable[[int, int], tuple[int, int]]
"""(free rows, free columns) in pixels -> (top, left): where the chart goes on its canvas."""


def as_list(value: Any) -> list:
    """`None` -> [], a list or tuple -> its items, anything else -> a list of one: configs store ids either way."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple, set)) else [value]


def pad_rows(rows: Iterable[Sequence[int]], value: int) -> torch.Tensor:
    """Pad integer sequences on the right to the longest: an int64 tensor of shape (rows, longest)."""
    return pad_sequence([torch.tensor(row, dtype=torch.long) for row in rows], batch_first=True, padding_value=value)


class Adapter(TextSide, ABC):
    """Turns (image, question, answer) into the tensors of one model family, and generated tokens back into answers.

    An adapter reads what it needs from the model and the processor when it is made and keeps no reference to the
    model, so that it pickles into the worker processes of a `DataLoader`. A subclass says how text and images are
    encoded and how answers are generated; everything above (collator, trainer, evaluation) is the same for all.

    Args:
        model: a loaded model, PEFT-wrapped or not. Only its configuration is read.
        processor: the processor that belongs to it, with a `tokenizer` and an `image_processor`.
        prompt: how a question is put to the model, with the field `{question}`; `None` takes the family's own.
        max_length: the longest prompt + answer in tokens; longer questions are cut, in the question alone. `None`
            takes what the model can hold.
        on_long_answer: what happens to an answer that does not fit even beside an empty question: `"raise"` names
            the record, `"warn"` cuts the answer and counts it in the log.
    """

    name: ClassVar[str]
    stream: ClassVar[str] = "input_ids"
    """The tensor of prompt ids that generation continues: `input_ids`, or `decoder_input_ids` of encoder-decoders."""
    default_prompt: ClassVar[str | None] = None
    """How a question is put when nobody says, with the field `{question}`. `None`: by `config.model_type`, the
    published ChartQA prompt where there is one (`adapters.prompts`)."""
    other_prompt: ClassVar[str] = CHAT_PROMPT
    """The prompt of model types that are not listed there."""
    shares_encoder: ClassVar[bool] = False
    """Whether questions on one chart can share one encoder pass. Such a family writes `encode_text` and
    `encode_images`, of which the collator makes its batches, and reads `chart_index` in its forward pass."""
    shares_vision: ClassVar[bool] = False
    """Whether questions on one chart can share the vision tower's pass, though text and chart are encoded together.
    Such a family's `attach` makes its forward pass take `chart_index`."""
    packs_questions: bool = False
    """Whether questions on one chart can share one sequence, in training, without seeing each other. Such a family
    writes `packed`."""
    needs_equal_prompts: ClassVar[bool] = False
    """Whether only rows with prompts of equal length generate together, after their charts were encoded. Such a family
    writes `encoded_rows` and `rejoined`, by which rows of several batches meet (`two_stage.AnswerQueue`)."""
    pads_charts: bool = False
    """Whether `encode_images` can place a chart anywhere on a fixed canvas (`draws`), for `random_padding`."""
    setting_names: ClassVar[tuple[str, ...]] = ("prompt", "max_length")
    """Arguments that are stored with a checkpoint, so that it answers the same way again."""
    uses_all_parameters: bool = False
    """Whether every parameter takes part in every loss, so that DDP need not look for those that do not."""

    def __init__(
        self,
        model: nn.Module,
        processor: Any,
        *,
        prompt: str | None = None,
        max_length: int | None = None,
        on_long_answer: str = "raise",
    ):
        if on_long_answer not in ("raise", "warn"):
            raise ValueError(f"on_long_answer must be 'raise' or 'warn', got {on_long_answer!r}")
        self.processor = processor
        self.tokenizer = getattr(processor, "tokenizer", processor)
        if prompt is None:
            prompt = self.default_prompt or PROMPTS.get(base_model(model).config.model_type, self.other_prompt)
        self.prompt = prompt
        if "{question}" not in self.prompt:
            raise ValueError(f"the prompt {self.prompt!r} has no field {{question}}: the question would never be seen")
        self.on_long_answer = on_long_answer
        self.cut_answers = 0
        generation_config = model.generation_config
        self.eos_token_ids = frozenset(
            as_list(generation_config.eos_token_id) + as_list(getattr(self.tokenizer, "eos_token_id", None))
        )
        if not self.eos_token_ids:
            raise ValueError(
                "neither generation_config nor the tokenizer has an eos_token_id: answers could never end"
            )
        pads = (self.tokenizer.pad_token_id, generation_config.pad_token_id, self.tokenizer.eos_token_id)
        self.pad_token_id: int = next(i for i in pads if i is not None)
        specials = ("bos", "unk", "cls", "sep", "mask")
        special_ids = (getattr(self.tokenizer, f"{name}_token_id", None) for name in specials)
        self.unknown: int | None = getattr(self.tokenizer, "unk_token_id", None)
        self.skipped_ids = {self.pad_token_id, *(i for i in special_ids if i is not None)}
        added = getattr(self.tokenizer, "added_tokens_decoder", {}).values()
        special = {*getattr(self.tokenizer, "all_special_tokens", ()), *(t.content for t in added if t.special)}
        self.control_tokens: set[str] = special - {getattr(self.tokenizer, "unk_token", None), ""}
        """Tokens that no question may spell."""
        self.max_length = max_length
        self.positions: int = NO_LIMIT
        """How many tokens the model has positions for; a family's `setup` reads it."""
        self.limit = max_length or NO_LIMIT
        """The longest prompt + answer that this model takes, in tokens; a family's `setup` may lower it."""
        self.setup(model)

    def setup(self, model: nn.Module) -> None:
        """Read what this family needs from `model`; called once, at the end of construction."""

    # ------------------------------------------------------------------ what a family defines
    @abstractmethod
    def encode(self, examples: Sequence[Mapping[str, Any]], *, with_answers: bool = True) -> dict[str, torch.Tensor]:
        """A batch that `model(**batch)` takes: one row per example, `labels` only at the tokens of answer + eos.

        Args:
            examples: records with `image`, `question` and, with `with_answers`, `answer`. They are not changed.
            with_answers: leave out answers and labels (`False`) for generation alone.
        """

    def prompt_groups(
        self, model: nn.Module, batch: Mapping[str, torch.Tensor], encoder_outputs: Any = None
    ) -> Iterator[tuple[torch.LongTensor, dict[str, Any]]]:
        """(row numbers, inputs of `model.generate` for these rows) of the groups of rows that generate together.

        The inputs hold the prompts alone, the ids that `generate` returns again under the name `stream`, and whatever
        else `call_arguments` reads; every row must answer in its group as it would alone.
        """
        raise NotImplementedError(f"{type(self).__name__} must define prompt_groups, or generate as a whole")

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
        """Answer every row of a batch of `encode` (with or without answers): int64 ids of the answers alone, shape
        (rows, max_new_tokens), padded on the right with `pad_token_id`. Rows answer as if each were alone.

        Args:
            encoder_outputs: what `encode_charts` returned for this batch, so that charts are not encoded again.
            kwargs: fields of the generation config or arguments of `model.generate`, such as `logits_processor`, which
                sees one group of rows at a time.

        Raises:
            TypeError: an argument that neither of the two knows.
            ValueError: one that would change what is returned, or that is set here.
        """
        model = base_model(model)
        settings, arguments = split_settings(model, kwargs)
        answers: list[tuple[torch.LongTensor, torch.LongTensor]] = []
        if self.shares_vision:
            share_vision(model)
        with sharing_vision(model, "chart_index" in batch):
            for rows, prompts in self.prompt_groups(model, batch, encoder_outputs):
                length = prompts[self.stream].shape[1]
                config = self.generation_config(
                    model, min(max_new_tokens, self.positions - length), num_beams, settings
                )
                calls = self.call_arguments(model, _cast(prompts, model), config, arguments)
                answers.append((rows, model.generate(generation_config=config, **calls)[:, length:]))
        first = answers[0][1]
        padded = first.new_full((sum(len(rows) for rows, _ in answers), max_new_tokens), self.pad_token_id)
        for rows, ids in answers:
            padded[rows, : ids.shape[1]] = self.padded(ids)
        return padded

    def call_arguments(
        self, model: nn.Module, inputs: dict[str, Any], config: GenerationConfig, arguments: Mapping[str, Any]
    ) -> dict[str, Any]:
        """All arguments of one call of `model.generate` but its `config`: the `inputs` of a group of `prompt_groups`,
        and what a user passed, which wins."""
        return {**inputs, **arguments}

    def encoded_rows(self, batch: Mapping[str, torch.Tensor], encoder_outputs: Any) -> list[EncodedRow]:
        """The rows of a batch with what `encode_charts` made of it; called when `needs_equal_prompts` is True."""
        raise NotImplementedError(f"{type(self).__name__} has needs_equal_prompts=True and must define encoded_rows")

    def rejoined(self, rows: Sequence[EncodedRow]) -> tuple[dict[str, torch.Tensor], Any]:
        """(batch, encoder outputs) for `generate` of rows of one `shape`, which may come from several batches."""
        raise NotImplementedError(f"{type(self).__name__} has needs_equal_prompts=True and must define rejoined")

    def packed(self, batch: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """A training batch with `labels` and `chart_index` as one with a sequence per chart, which has the same sum of
        losses (`packing.pack_questions`); called when `packs_questions` is True."""
        raise NotImplementedError(f"{type(self).__name__} has packs_questions=True and must define packed")

    def encode_text(
        self, examples: Sequence[Mapping[str, Any]], *, with_answers: bool = True
    ) -> dict[str, torch.Tensor]:
        """The part of `encode` that has one row per example, a row tensor first; images are not looked at.

        The collator calls it when `shares_encoder` is True, and adds `encode_images` of the distinct charts and, where
        rows share them, `chart_index` (int64 of shape (rows,)): the number of each row's chart.
        """
        raise NotImplementedError(f"{type(self).__name__} has shares_encoder=True and must define encode_text")

    def encode_images(
        self, images: Sequence[Any], *, draws: Sequence[PaddingDraw] | None = None
    ) -> dict[str, torch.Tensor]:
        """The tensors of charts, the first dimension of each their number; called when `shares_encoder` is True.

        Args:
            images: RGB charts, as `images` returns them.
            draws: per image, where on its canvas the chart goes; only where `pads_charts` is True.
        """
        raise NotImplementedError(f"{type(self).__name__} has shares_encoder=True and must define encode_images")

    def encode_charts(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> Any:
        """What loss and generation of one batch can share, computed once; `None` when the family shares nothing."""
        return None

    def model_inputs(self, batch: Mapping[str, torch.Tensor], *, encoder_outputs: Any = None) -> dict[str, Any]:
        """The arguments of the forward pass: the batch without labels and without what only the trainer reads."""
        return {key: value for key, value in batch.items() if key not in ("labels", "rows")}

    def label_mask(self, labels: torch.LongTensor) -> torch.BoolTensor:
        """Positions (rows, length) of the logits that predict an answer token."""
        return labels != IGNORE_INDEX

    def attach(self, model: nn.Module) -> None:
        """Prepare a model (in place, through public hooks) so that its forward pass takes grouped batches."""

    def image_tokens(self, batch: Mapping[str, torch.Tensor]) -> list[int] | None:
        """How many positions of the model each row's chart takes: what a chart costs. `None`: not known."""
        return None

    def settings(self) -> dict[str, Any]:
        """What must be stored with a checkpoint so that it answers the same way again (JSON types)."""
        return {"adapter": self.name, **{name: getattr(self, name) for name in self.setting_names}}

    # ------------------------------------------------------------------ shared
    def images(self, examples: Sequence[Mapping[str, Any]]) -> list[Any]:
        """The charts of `examples` as plain RGB, as a browser shows them.

        Raises:
            ValueError: an image cannot be decoded; the message names the record.
        """
        return [self.image(example) for example in examples]

    def chart_tensors(
        self, examples: Sequence[Mapping[str, Any]], *, draws: Sequence[PaddingDraw] | None = None
    ) -> dict[str, torch.Tensor]:
        """`encode_images` of the charts of `examples`.

        Raises:
            ValueError: an image cannot be decoded or prepared; the message names the record.
        """
        return self.processed(
            examples,
            lambda rows, images: self.encode_images(images, draws=None if draws is None else [draws[r] for r in rows]),
        )

    def processed(self, examples: Sequence[Mapping[str, Any]], make: Callable[[Sequence[int], list[Any]], Any]) -> Any:
        """`make(row numbers, their images)` of all examples.

        Raises:
            ValueError: it fails; the message names the record at which it does.
        """
        images = self.images(examples)
        try:
            return make(range(len(examples)), images)
        except Exception:
            # A processor says what went wrong (a width of 0 for 1 x 3000 pixels) and not where: find the record.
            for row, (example, image) in enumerate(zip(examples, images, strict=True)):
                try:
                    make([row], [image])
                except Exception as error:
                    raise ValueError(
                        f"{describe(example)}: the processor takes no image of {image.size[0]} x {image.size[1]} "
                        f"pixels with this question ({type(error).__name__}: {error})"
                    ) from error
            raise

    def image(self, example: Mapping[str, Any]) -> Any:
        """The chart of one record: a PIL image, the path of a file, or an array of uint8 (height, width[, 3 or 4])."""
        image = example["image"]
        if image is None:
            raise ValueError(f"{describe(example)} has no image")
        try:
            return to_rgb(open_image(image))
        except (OSError, SyntaxError, TypeError, ValueError) as error:
            raise ValueError(f"{describe(example)}: the image cannot be decoded ({error})") from error

    @property
    def groups_charts(self) -> bool:
        """Whether questions on one chart should meet in a batch."""
        return self.shares_encoder or self.shares_vision

    def generation_config(
        self, model: nn.Module, max_new_tokens: int, num_beams: int, settings: Mapping[str, Any]
    ) -> GenerationConfig:
        """The settings of one call of `model.generate`; see `answer_config`."""
        return answer_config(
            model,
            max_new_tokens=max_new_tokens,
            num_beams=num_beams,
            pad_token_id=self.pad_token_id,
            eos_token_ids=self.eos_token_ids,
            unknown=self.unknown,
            settings=settings,
        )


def _cast(inputs: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    """Charts in the precision of a model that is held in 16 bits; autocast sees to that by itself."""
    return {
        key: value.to(model.dtype)
        if torch.is_tensor(value) and value.is_floating_point() and not torch.is_autocast_enabled(value.device.type)
        else value
        for key, value in inputs.items()
    }


def equal_lengths(lengths: Sequence[int], device: torch.device) -> Iterator[tuple[int, torch.LongTensor]]:
    """(length, numbers of the rows that have it), the longest first."""
    rows_of = defaultdict(list)
    for row, length in enumerate(lengths):
        rows_of[length].append(row)
    for length, rows in sorted(rows_of.items(), reverse=True):
        yield length, torch.tensor(rows, device=device)


def base_model(model: nn.Module) -> nn.Module:
    """The transformers model inside PEFT, DDP and compiled wrappers."""
    while True:
        if is_compiled_module(model):
            model = extract_model_from_parallel(model, keep_torch_compile=False)
        elif hasattr(model, "get_base_model"):
            model = model.get_base_model()
        elif hasattr(model, "module") and isinstance(model.module, nn.Module):
            model = model.module
        else:
            return model
