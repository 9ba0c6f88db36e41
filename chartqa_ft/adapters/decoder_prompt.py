"""Encoder-decoder models whose decoder is prompted with the question: Donut, UniChart, any encoder/decoder pair."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig
from transformers.modeling_outputs import BaseModelOutput

from ..images.resizing import canvas_of
from . import compat
from .argument_checks import check_records
from .base import ANSWER_TOKENS, NO_LIMIT, PaddingOffset
from .cache_name import CACHE
from .lockstep import call_inside
from .pixels import RawCharts
from .sharing.charts import as_sequence, share_charts
from .sharing.cross_attention import shared_cross_cache, takes_cross_cache
from .sharing.encoded_rows import EncodedRow, join_rows, split_rows
from .tasks.registry import task_named
from .tasks.task import QA_NAME
from .tasks.task_text import first_part
from .text import IGNORE_INDEX
from .token_rows import as_list, group_by_length, pad_rows
from .vocabulary import add_tokens
from .wrappers import base_model

logger = logging.getLogger(__name__)

MARKERS = ("<chartqa>", "<s_answer>")
"""Tokens around the question in UniChart's ChartQA prompt."""

MARKER = re.compile(r"<[^<>\s{}]+>")
"""Tokens of a prompt template that look like markers."""

TASK_TOKEN = re.compile(r"</?s_[^<>]+>")
"""Tokens with which Donut marks tasks and fields."""


class DecoderPrompt(RawCharts):
    """`VisionEncoderDecoderModel`: the encoder gets the chart, the decoder `<chartqa> {question} <s_answer>`.

    A batch holds `decoder_input_ids` and `labels`, both int64 of shape (rows, length): the ids of prompt + answer +
    EOS without the last one, and the same ids without the first one, with -100 except at answer + EOS. It also holds
    `pixel_values`, float32 of shape (rows, 3, height, width) or, if rows share charts, (charts, 3, height, width) with
    `chart_index`, int64 of shape (rows,). In batches of the trainer they are uint8, before rescaling, and
    `model_inputs` and `encode_charts` convert them to the same floats. The loss needs no attention mask, since the
    decoder is causal and rows are padded on the right. A batch without answers has `decoder_attention_mask` instead of
    labels.
    """

    name = "decoder-prompt"
    prompt_key = "decoder_input_ids"
    default_prompt = f"{MARKERS[0]} {{question}} {MARKERS[1]}"
    shares_encoder = True
    needs_equal_prompts = True

    def setup(self, model: nn.Module) -> None:
        config = base_model(model).config
        self.model_type = config.model_type
        if self.prompt == self.default_prompt:
            unknown = [marker for marker in MARKERS if marker not in self.tokenizer.get_vocab()]
            if unknown:
                raise ValueError(
                    f"{' and '.join(unknown)} of the prompt {self.prompt!r} is not in the vocabulary: pass "
                    "prompt='...{question}...' with tokens of this model, or add the markers with "
                    "chartqa_ft.adapters.add_prompt_tokens(model, processor) before training."
                )
        layers = getattr(config.decoder, "decoder_layers", 0)
        cached = getattr(config.decoder, "num_hidden_layers", layers)  # MBart maps it to encoder_layers
        if cached < layers:
            raise ValueError(
                f"the decoder has {layers} layers, but transformers sizes the cache of generation by encoder_layers="
                f"{cached} of its config: set model.config.decoder.encoder_layers = {layers} (nothing else reads it)"
            )
        # generate() prepends the start token to a prompt unless the encoder is Donut's: training must do the same.
        donut = "donut" in config.encoder.model_type
        settings = base_model(model).generation_config
        starts = as_list(settings.decoder_start_token_id) or as_list(settings.bos_token_id)
        if not donut and not starts:
            raise ValueError("generation_config has no decoder_start_token_id, and this decoder needs one")
        self.start = [] if donut else starts[:1]
        self.uses_all_parameters = donut
        patch, stages = getattr(config.encoder, "patch_size", None), len(getattr(config.encoder, "depths", ()))
        self.stride = patch * 2 ** (stages - 1) if isinstance(patch, int) and stages else None
        markers = {token: i for token, i in self.tokenizer.get_vocab().items() if token in MARKERS}
        added = {
            token: i
            for token, i in self.tokenizer.get_added_vocab().items()
            if token[0] in "<[" and token in self.prompt
        }
        self.skipped_ids |= {*markers.values(), *added.values()}
        self.control_tokens |= {*markers, *added}
        marker = last_marker(self.prompt)
        self.end_of_prompt = self.tokenizer.get_vocab().get(marker, markers.get(MARKERS[1]))
        # Donut's own fine-tuned models write XML: `<s_answer>` of the prompt is closed after the answer.
        self.closing = f"</{marker[1:]}" if marker else None
        self.control_tokens |= {token for token in self.tokenizer.get_added_vocab() if TASK_TOKEN.fullmatch(token)}
        self.positions = getattr(config.decoder, "max_position_embeddings", None) or NO_LIMIT
        self.limit = min(self.max_length or self.positions, self.positions)
        self.legacy = compat.is_legacy(config)
        if self.legacy and not isinstance(self.processor.image_processor, compat.LegacyDonutImageProcessor):
            logger.warning(
                "this model was loaded with the numerics of transformers %s, but its processor was not: load both "
                "with chartqa_ft.load_checkpoint(folder), or pass compat=False to load both without",
                compat.LEGACY_VERSION,
            )
        image_processor = self.processor.image_processor
        self.pads_charts = bool(getattr(image_processor, "do_pad", False)) and canvas_of(image_processor) is not None

    def check_new_prompt(self, prompt: str) -> None:
        unknown = self.unknown_markers(prompt)
        if unknown:
            raise ValueError(
                f"{' and '.join(unknown)} of the prompt {prompt!r} is not in the vocabulary, and would be spelled in "
                "pieces: correct the prompt, or add the tokens with "
                f"chartqa_ft.adapters.vocabulary.add_tokens(model, processor, {unknown}) before training"
            )

    def unknown_markers(self, prompt: str) -> list[str]:
        """Return the markers of a prompt that are no tokens."""
        known = self.tokenizer.get_vocab()
        return [marker for marker in dict.fromkeys(MARKER.findall(prompt)) if marker not in known]

    def check_task_prompt(self, name: str, prompt: str) -> None:
        markers, unknown = MARKER.findall(prompt), self.unknown_markers(prompt)
        if unknown and name not in self.given_prompts and name != QA_NAME:
            raise ValueError(
                f"{' and '.join(unknown)} of the prompt {prompt!r} is not in the vocabulary: pass "
                f"prompts={{{name!r}: '...'}} with tokens of this model, or add the markers with "
                f"chartqa_ft.adapters.add_prompt_tokens(model, processor, tasks=[{name!r}]) before training."
            )
        added = self.tokenizer.get_added_vocab()
        self.skipped_ids |= {added[marker] for marker in markers if marker in added}
        self.control_tokens |= {marker for marker in markers if marker in added}

    # ------------------------------------------------------------------ text
    def encode(self, examples: Sequence[Mapping[str, Any]], *, with_answers: bool = True) -> dict[str, torch.Tensor]:
        return {
            **self.encode_text(examples, with_answers=with_answers),
            **self.chart_tensors(examples),
        }

    def encode_text(
        self, examples: Sequence[Mapping[str, Any]], *, with_answers: bool = True
    ) -> dict[str, torch.Tensor]:
        """Return the row tensors of a batch; see the class."""
        check_records(examples)
        examples = self.asked(examples)
        prompts, answers = self.rows(examples, with_answers)
        if not with_answers:
            mask = pad_rows([[1] * len(prompt) for prompt in prompts], 0)
            return {"decoder_input_ids": pad_rows(prompts, self.pad_token_id), "decoder_attention_mask": mask}
        rows = list(zip(prompts, answers, strict=True))
        return {
            "decoder_input_ids": pad_rows([prompt + answer[:-1] for prompt, answer in rows], self.pad_token_id),
            "labels": pad_rows(
                [[IGNORE_INDEX] * (len(prompt) - 1) + (answer or [IGNORE_INDEX]) for prompt, answer in rows],
                IGNORE_INDEX,
            ),
        }

    def rows(
        self, examples: Sequence[Mapping[str, Any]], with_answers: bool
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Return (prompts, answers) as ids that together fit into `limit`.

        A prompt leaves `ANSWER_TOKENS` tokens free (or a quarter of `limit`, if that is less), independently of its
        answer, so that a question has the same tokens in training, evaluation and inference. A question that is too
        long is truncated at its end; the markers are kept. An answer is tokenized after its prompt and ends with one
        EOS. If it does not fit beside its prompt, it is truncated or raises (`on_long_answer`).
        """
        for example in examples:
            self.check_question(example)
        prompts = self.prompt_ids([example["question"] for example in examples])
        answers: list[list[int]] = [[] for _ in examples]
        if with_answers:
            answers = self.answered_rows(
                examples, lambda rows: self.answer_rows([examples[r] for r in rows], [prompts[r] for r in rows])
            )
        room = self.limit - min(ANSWER_TOKENS, self.limit // 4)
        for row, example in enumerate(examples):
            if len(prompts[row]) > room:
                prompts[row] = self.cut_question(example["question"], room)
            if len(prompts[row]) + len(answers[row]) > self.limit:
                answers[row] = self.cut_answer(example, answers[row], self.limit - len(prompts[row]))
        return prompts, answers

    def check_texts(self, examples: Sequence[Mapping[str, Any]], *, with_answers: bool = True) -> None:
        examples = self.asked(examples)
        super().check_texts(examples, with_answers=with_answers)
        self.check_ids(examples, *self.rows(examples, with_answers))

    def prompt_ids(self, questions: list[str]) -> list[list[int]]:
        """Return the ids of the prompts of questions."""
        return [self.start + ids for ids in self.tokenize([self.question_text(question) for question in questions])]

    def answer_rows(self, examples: Sequence[Mapping[str, Any]], prompts: list[list[int]]) -> list[list[int]]:
        """Return the ids of each answer, tokenized after its prompt, with one EOS at the end."""
        ends = [f" {self.answer_text(example)}{self.tokenizer.eos_token}" for example in examples]
        texts = [self.question_text(example["question"]) + end for example, end in zip(examples, ends, strict=True)]
        answers = []
        for prompt, full, end in zip(prompts, self.tokenize(texts), ends, strict=True):
            ids = self.start + full
            # Where a token spans prompt and answer, generation can only produce the answer tokenized alone.
            answers.append(ids[len(prompt) :] if ids[: len(prompt)] == prompt else self.tokenize([end])[0])
        return [self.end(example, ids) for example, ids in zip(examples, answers, strict=True)]

    def cut_question(self, question: str, room: int) -> list[int]:
        """Return the prompt of at most `room` tokens with as much of the start of `question` as possible."""
        low, high = 0, len(question)
        while low < high:
            middle = (low + high + 1) // 2
            if len(self.prompt_ids([first_part(question, middle)])[0]) <= room:
                low = middle
            else:
                high = middle - 1
        return self.prompt_ids([first_part(question, low)])[0]

    # ------------------------------------------------------------------ images
    def encode_images(
        self, images: Sequence[Any], *, offsets: Sequence[PaddingOffset] | None = None
    ) -> dict[str, torch.Tensor]:
        """Return `pixel_values`, float32 of shape (images, 3, height, width).

        Args:
            images: RGB charts.
            offsets: For each image a function that returns its offset on the canvas (augmentation in training); `None`
                leaves it to the processor, which centers the chart.

        Example:
            >>> from PIL import Image
            >>> from chartqa_ft import adapter_for, tiny_unichart
            >>> adapter = adapter_for(*tiny_unichart("test"))
            >>> chart = Image.new("RGB", (96, 48), "white")
            >>> top = lambda free_rows, free_columns: (0, 0)
            >>> pixels = adapter.encode_images([chart], offsets=[top])["pixel_values"]
            >>> pixels.shape, pixels[0, 0, 0, 0].item(), pixels[0, 0, 95, 0].item()
            (torch.Size([1, 3, 96, 96]), 0.0, -2.0)
        """
        image_processor = self.processor.image_processor
        if offsets is None:
            return {"pixel_values": image_processor(list(images), return_tensors="pt")["pixel_values"]}
        placed = [self.place(image, offset) for image, offset in zip(images, offsets, strict=True)]
        return {"pixel_values": torch.stack(placed)}

    def place(self, image: Any, offset: PaddingOffset) -> torch.Tensor:
        """Return a chart at an offset on its black canvas: float32 of shape (3, height, width)."""
        image_processor = self.processor.image_processor
        pixels = image_processor([image], do_pad=False, return_tensors="pt")["pixel_values"][0]
        canvas_size = canvas_of(image_processor)
        assert canvas_size is not None, "offsets are used only where pads_charts is True"
        height, width = canvas_size
        free_rows, free_columns = height - pixels.shape[1], width - pixels.shape[2]
        top, left = offset(free_rows, free_columns)
        black = torch.zeros(3, 1, 1)
        if image_processor.do_normalize:
            mean, std = (
                torch.tensor(v).view(3, 1, 1) for v in (image_processor.image_mean, image_processor.image_std)
            )
            black = (black - mean) / std
        canvas = black.to(pixels.dtype).repeat(1, height, width)
        canvas[:, top : top + pixels.shape[1], left : left + pixels.shape[2]] = pixels
        return canvas

    def image_tokens(self, batch: Mapping[str, torch.Tensor]) -> list[int] | None:
        # Each stage of a Swin encoder halves the grid of patches, rounding up.
        if self.stride is None:
            return None
        height, width = batch["pixel_values"].shape[-2:]
        return [-(-height // self.stride) * -(-width // self.stride)] * len(batch["pixel_values"])

    # ------------------------------------------------------------------ forward
    def model_inputs(
        self, batch: Mapping[str, torch.Tensor], *, encoder_outputs: BaseModelOutput | None = None
    ) -> dict[str, torch.Tensor]:
        inputs = super().model_inputs(batch)
        if "chart_index" in inputs:
            # VisionEncoderDecoderModel passes `decoder_*` to its decoder without the prefix, also inside DDP.
            inputs["decoder_chart_index"] = inputs.pop("chart_index")
        pixels = inputs.pop("pixel_values")
        if encoder_outputs is None:
            inputs["pixel_values"] = self.to_float(pixels)
        else:
            inputs["encoder_outputs"] = encoder_outputs
        return inputs

    def attach(self, model: nn.Module) -> None:
        share_charts(base_model(model))

    def encode_charts(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> BaseModelOutput:
        """Run the encoder once on the charts of a batch: `last_hidden_state` of shape (charts, patches, hidden)."""
        encoder = base_model(model).get_encoder()
        pixels = self.to_float(batch["pixel_values"]).to(next(encoder.parameters()).dtype)
        states = call_inside(base_model(model), encoder, pixel_values=pixels, return_dict=True).last_hidden_state
        return BaseModelOutput(last_hidden_state=as_sequence(states))

    # ------------------------------------------------------------------ generation
    @property
    def counts_prompt(self) -> bool:
        return self.legacy

    def prompt_groups(
        self, model: nn.Module, batch: Mapping[str, torch.Tensor], encoder_outputs: BaseModelOutput | None = None
    ) -> Iterator[tuple[torch.LongTensor, dict[str, Any]]]:
        # Charts are encoded once. Rows are decoded in groups of equal prompt length: MBart counts padding as
        # positions, so that the prompt of a padded row would be another one.
        states = (encoder_outputs or self.encode_charts(model, batch)).last_hidden_state
        ids = batch["decoder_input_ids"]
        chart_of_row = chart_numbers(batch)
        for length, index in group_by_length(self.prompt_lengths(batch), ids.device):
            inputs = {"states": states, "chart_of_row": chart_of_row[index], "decoder_input_ids": ids[index, :length]}
            yield index, inputs

    def call_arguments(
        self, model: nn.Module, inputs: dict[str, Any], config: GenerationConfig, arguments: Mapping[str, Any]
    ) -> dict[str, Any]:
        states, chart_of_row = inputs.pop("states"), inputs.pop("chart_of_row")
        synced = bool(arguments.get("synced_gpus"))
        if takes_cross_cache(config, arguments) and not synced:  # it would take another pass, on some of the ranks
            token = int(inputs["decoder_input_ids"][0, 0])
            cache = shared_cross_cache(model, states, chart_of_row, beams=config.num_beams, token=token)
            if cache is not None:
                inputs[CACHE] = cache
        if self.legacy and config.num_beams > 1:
            # Checkpoints of transformers 4.28.1 get the beam scores of that version.
            inputs["custom_generate"] = (
                partial(compat.legacy_beam_search, synced_gpus=True) if synced else compat.legacy_beam_search
            )
        inputs["encoder_outputs"] = BaseModelOutput(last_hidden_state=states.index_select(0, chart_of_row))
        return {**inputs, **arguments}

    def encoded_rows(self, batch: Mapping[str, torch.Tensor], encoder_outputs: BaseModelOutput) -> list[EncodedRow]:
        ids, states = batch["decoder_input_ids"], encoder_outputs.last_hidden_state
        return split_rows(ids, self.prompt_lengths(batch), states, chart_numbers(batch).tolist())

    def rejoined(self, rows: Sequence[EncodedRow]) -> tuple[dict[str, torch.Tensor], BaseModelOutput]:
        prompts, states, chart_index = join_rows(rows)
        batch = {
            "decoder_input_ids": prompts,
            "decoder_attention_mask": torch.ones_like(prompts),
            "chart_index": chart_index,
        }
        return batch, BaseModelOutput(last_hidden_state=states)

    def prompt_lengths(self, batch: Mapping[str, torch.Tensor]) -> list[int]:
        """Return how many of each row's `decoder_input_ids` belong to the prompt: those before the first label."""
        if "labels" in batch:
            labeled = batch["labels"] != IGNORE_INDEX
            # A row without labels holds nothing but its prompt.
            own = batch["decoder_input_ids"] != self.pad_token_id
            whole = own.shape[1] - own.flip(1).int().argmax(dim=1)
            return torch.where(labeled.any(dim=1), labeled.int().argmax(dim=1) + 1, whole).tolist()
        return batch["decoder_attention_mask"].sum(dim=1).tolist()

    def answer_ids(self, row: Sequence[int]) -> list[int]:
        # A second answer marker ends the answer, as in the official scorer.
        row = list(row)
        return super().answer_ids(row[: row.index(self.end_of_prompt)] if self.end_of_prompt in row else row)

    def clean(self, text: str) -> str:
        return super().clean(text if self.closing is None else text.partition(self.closing)[0])


def last_marker(prompt: str) -> str | None:
    """Return the marker that opens the answer at the end of a prompt, or `None`.

    Example:
        >>> last_marker("<s_docvqa><s_question>{question}</s_question><s_answer>")
        '<s_answer>'
    """
    found = re.search(r"(<[^<>/\s][^<>]*>)\s*$", prompt.partition("{question}")[2])
    return found[1] if found else None


def chart_numbers(batch: Mapping[str, torch.Tensor]) -> torch.LongTensor:
    """Return the index of each row's chart, int64 of shape (rows,).

    Example:
        >>> chart_numbers({"decoder_input_ids": torch.zeros(3, 5)}).tolist()
        [0, 1, 2]
    """
    ids = batch["decoder_input_ids"]
    return batch.get("chart_index", torch.arange(len(ids), device=ids.device))


def add_prompt_tokens(model: nn.Module, processor: Any, *, tasks: Sequence[str] = ()) -> int:
    """Add the markers of the default prompt to the vocabulary, and resize the embeddings of the decoder.

    Args:
        model: A `VisionEncoderDecoderModel`.
        processor: Its processor.
        tasks: Tasks whose published markers are added too, such as `["table", "summary"]`.

    Returns:
        The number of tokens that were added.

    Example:
        >>> from chartqa_ft import tiny_unichart
        >>> from chartqa_ft.adapters import add_prompt_tokens
        >>> add_prompt_tokens(*tiny_unichart("test"))  # it has them already
        0
    """
    known = processor.tokenizer.get_vocab()
    model_type = base_model(model).config.model_type
    wanted = [*MARKERS, *(m for task in tasks for m in MARKER.findall(task_named(task).prompt_for(model_type)))]
    new = [marker for marker in dict.fromkeys(wanted) if marker not in known]
    add_tokens(model, processor, new)
    return len(new)
