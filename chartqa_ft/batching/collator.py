"""Collate records into batches: a thin layer over an adapter, which encodes every chart once."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import get_worker_info

from ..adapters import IGNORE_INDEX, Adapter, compat
from ..adapters.argument_checks import check_count, check_records, check_switch
from ..adapters.pixels import RawCharts, makes_raw_charts, unchanged
from ..adapters.registry import check_adapter
from ..adapters.tasks.task import QA_NAME
from ..adapters.text import AnswerTooLong, describe, shown, single_answer
from ..data.chart_groups import check_chart_id, digest, has_chart
from ..images.cache import ChartCache
from ..images.opening import stored_bytes
from .rows import CHART_KEY, ROW_KEY

logger = logging.getLogger(__name__)


@dataclass
class ChartQACollator:
    """Collate records with `image`, `question` and `answer` into a batch, used for both the loss and generation.

    Questions on the same chart (equal `chart_id` and equal image) share one encoder pass if the family supports it:
    encoding the chart is most of the cost of a step. They then also share its dropout mask, and a batch contains fewer
    distinct charts. With `group_by_chart=False` every row is encoded separately, as in the official recipe.

    The collator holds no model and modifies no record. Rows from the trainer carry their row number, epoch and, where
    nothing stands between storage and model, their chart (`ROW_KEY` and `CHART_KEY` of `batching.rows`). Other rows
    with the same `chart_id` share a chart if their pictures are the same, in their files' bytes or in their pixels.
    The random padding of the trainer's rows depends on (seed, epoch, `chart_id`), or on the row where charts are not
    shared, so a step has the same pixels however it is split into batches, and so has a resumed run with any number of
    workers. For other rows it depends on the seed and on the number of charts that this collator has padded before, in
    each worker process separately.

    Args:
        adapter: The family's adapter, from `adapter_for`.
        with_answers: Whether batches contain the answers and `labels`; `False` for generation only.
        allow_unanswered: Encode records without an answer (None, NaN or a blank text) with labels of -100 only, for
            evaluation: they are asked, and do not count in the loss. Otherwise they are an error.
        group_by_chart: Whether questions on a chart share an encoder pass; `None` if the adapter supports it.
        random_padding: Place charts at random on their canvas (the official training augmentation). `"seeded"` is
            reproducible; `"global"` uses numpy's global generator as transformers 4.28.1 did, which a resumed run or a
            second worker cannot repeat; `None` centers the charts.
        seed: Seed of the random padding.
        keep_rows: Add `rows` for evaluation, a list with one dict of texts and row number per row.
        raw_charts: Leave rescaling and normalizing to the device: `pixel_values` is uint8, a quarter of the memory.
            The adapter's `model_inputs` and `encode_charts`, and so its `generate`, convert it to the processor's own
            floats, bit for bit; a model that is called directly does not. Requires an adapter that
            `makes_raw_charts`.
        chart_cache: Disk cache of resized charts, only with `raw_charts`; `None` for no cache.
        pack_questions: Pack the questions on a chart into one sequence, for training only (see
            `adapters.sharing.packing`). A batch without shared charts stays as it is.
        pad_to_multiple_of: Pad tokens on the right to a multiple of this number, so that batches have few shapes;
            `None` pads them to the longest row. The losses are the same.

    Raises:
        TypeError: An argument has another type than that documented.
        ValueError: The adapter does not support an argument, or `seed` is negative.

    Example:
        >>> from chartqa_ft import ChartQACollator, adapter_for, synthetic_chartqa, tiny_unichart
        >>> adapter = adapter_for(*tiny_unichart("test", image_size=64, window_size=4))
        >>> charts = synthetic_chartqa(2, seed=0)
        >>> batch = ChartQACollator(adapter)([charts[0], charts[1]])  # two questions on one chart
        >>> batch["pixel_values"].shape, batch["chart_index"]
        (torch.Size([1, 3, 64, 64]), tensor([0, 0]))
        >>> batch["decoder_input_ids"].shape == batch["labels"].shape
        True
    """

    adapter: Adapter
    with_answers: bool = True
    group_by_chart: bool | None = None
    random_padding: str | None = None
    seed: int = 0
    keep_rows: bool = False
    raw_charts: bool = False
    chart_cache: ChartCache | None = None
    pack_questions: bool = False
    allow_unanswered: bool = False
    pad_to_multiple_of: int | None = None
    _padded: int = field(default=0, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.check_types()
        if self.group_by_chart is None:
            self.group_by_chart = self.adapter.groups_charts
        if self.group_by_chart and not self.adapter.groups_charts:
            raise ValueError(f"the adapter {self.adapter.name!r} cannot share charts: use group_by_chart=False")
        if self.random_padding not in (None, "seeded", "global"):
            raise ValueError(f"random_padding must be None, 'seeded' or 'global', got {self.random_padding!r}")
        if self.random_padding and not self.adapter.pads_charts:
            raise ValueError("random_padding needs an image processor that pads charts to a fixed canvas (do_pad)")
        if self.random_padding and not self.adapter.shares_encoder:
            raise ValueError(
                f"random_padding needs encode_images(offsets=...), which only adapters with shares_encoder=True have: "
                f"{self.adapter.name!r} has it False"
            )
        if self.raw_charts and not makes_raw_charts(self.adapter):
            raise ValueError(
                f"raw_charts=True needs an image processor that resizes, pads, rescales and normalizes, and an "
                f"adapter that does not change images: {self.adapter.name!r} does not qualify. Use raw_charts=False"
            )
        if self.chart_cache is not None and not self.raw_charts:
            raise ValueError("chart_cache keeps charts before rescaling: it needs raw_charts=True")
        if self.pack_questions and not (self.adapter.packs_questions and self.group_by_chart and self.with_answers):
            raise ValueError(
                f"pack_questions=True needs group_by_chart, with_answers and an adapter with packs_questions=True: "
                f"{self.adapter.name!r} has it {self.adapter.packs_questions}"
            )

    def check_types(self) -> None:
        """Check the types of the fields: a text such as "no" would count as True."""
        check_adapter(self.adapter)
        for name in ("with_answers", "keep_rows", "raw_charts", "pack_questions", "allow_unanswered"):
            check_switch(name, getattr(self, name))
        check_switch("group_by_chart", self.group_by_chart, or_none=True)
        check_count("seed", self.seed, least=0)
        if self.pad_to_multiple_of is not None:
            check_count("pad_to_multiple_of", self.pad_to_multiple_of, or_none=True)
        if self.chart_cache is not None and not isinstance(self.chart_cache, ChartCache):
            raise TypeError(f"chart_cache must be a ChartCache, got {self.chart_cache!r}: pass ChartCache(folder)")

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the batch of some records, with the labels of filler rows ignored."""
        check_records(examples)
        batch = self.encode_answerable(examples) if self.with_answers else self.encode(examples)
        if "labels" in batch:
            for row, example in enumerate(examples):
                if ROW_KEY in example and not example[ROW_KEY].counts:
                    batch["labels"][row] = IGNORE_INDEX
        if self.pack_questions and "chart_index" in batch:
            batch = self.adapter.packed(batch)
        elif self.pad_to_multiple_of is not None and "labels" in batch:
            per_token = getattr(self.adapter, "is_per_token", None)
            multiple, most = self.pad_to_multiple_of, self.adapter.positions
            batch = pad_tokens(batch, multiple, self.adapter.pad_token_id, most, is_per_token=per_token)
        if self.keep_rows:
            batch["rows"] = [row_texts(example, self.adapter.task_of(example)) for example in examples]
        return batch

    def encode_answerable(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the tensors of some records with answers. In an evaluation, an answer that is longer than the model
        can hold has no labels, as one that is missing: its question is asked all the same."""
        taken = self.answerable(examples)
        try:
            return self.encode(taken)
        except AnswerTooLong:
            if not self.allow_unanswered:
                raise
        short = [example if self.fits(example) else {**example, "answer": ""} for example in taken]
        return self.encode(short)

    def fits(self, example: Mapping[str, Any]) -> bool:
        """Return whether the model has room for the answer of a record."""
        try:
            self.adapter.encode([example])
        except AnswerTooLong as error:
            logger.warning("%s. It is left out of the loss of this evaluation.", str(error).partition(". Raise ")[0])
            return False
        return True

    def answerable(self, examples: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Return the records as adapters take them, with "" for an answer that is missing.

        Raises:
            ValueError: A record has no answer, and `allow_unanswered` is off.
        """
        taken: list[Mapping[str, Any]] = []
        for example in examples:
            # Filler rows count nowhere. In an evaluation they are prompts alone, so that none outgrows the model.
            filler = self.allow_unanswered and ROW_KEY in example and not example[ROW_KEY].counts
            answer = None if filler else single_answer(example)
            if answer is not None and answer != "":
                taken.append({**example, "answer": answer})
            elif self.allow_unanswered:
                taken.append({**example, "answer": ""})
            else:
                raise ValueError(
                    f"{describe(example)} has no answer ({shown(example.get('answer'))}): give it one, or leave the "
                    "record out of the training data"
                )
        return taken

    def encode(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the tensors of some records; `chart_index` says which chart each row shows, if any are shared."""
        examples = self.adapter.asked(examples)
        chart_of_row, charts = self.distinct_charts(examples)
        if not self.adapter.shares_encoder:
            batch = dict(self.adapter.encode(examples, with_answers=self.with_answers))
            if self.adapter.shares_vision and len(charts) < len(examples):
                batch["chart_index"] = torch.tensor(chart_of_row)
            return batch
        offsets = None if self.random_padding is None else [self.draw(chart) for chart in charts]
        batch = self.adapter.encode_text(examples, with_answers=self.with_answers)
        if self.raw_charts and isinstance(self.adapter, RawCharts):
            batch.update(self.adapter.raw_tensors(charts, offsets=offsets, cache=self.chart_cache))
        else:
            batch.update(self.adapter.chart_tensors(charts, offsets=offsets))
        if len(charts) < len(examples):
            batch["chart_index"] = torch.tensor(chart_of_row)
        return batch

    def distinct_charts(self, examples: Sequence[Mapping[str, Any]]) -> tuple[list[int], list[Mapping[str, Any]]]:
        """Return the number of the chart for every row, and the first record that shows it for every chart."""
        if self.group_by_chart:
            for example in examples:
                check_chart_id(example.get("chart_id"), describe(example))
        ids = Counter(example.get("chart_id") for example in examples) if self.group_by_chart else {}
        # An adapter's own `image` may depend on the question: what it returns decides.
        plain = unchanged(self.adapter, ("image", "images"))
        numbers: dict[Any, int] = {}
        pictures: dict[int, Any] = {}
        chart_of_row: list[int] = []
        charts: list[Mapping[str, Any]] = []
        for row, example in enumerate(examples):
            key: Any = ("row", row)
            if self.group_by_chart and plain and CHART_KEY in example:
                key = ("group", example[CHART_KEY])
            elif self.group_by_chart and has_chart(example.get("chart_id")) and ids[example["chart_id"]] > 1:
                # One id may stand for different pictures (of concatenated datasets, or made by a transform).
                image = id(example["image"]) if plain else row
                if image not in pictures:
                    content = stored_bytes(example["image"]) if plain else None
                    pictures[image] = (
                        _pixels_key(self.adapter.image(example)) if content is None else digest([content])
                    )
                key = ("chart", example["chart_id"], pictures[image])
            number = numbers.setdefault(key, len(charts))
            chart_of_row.append(number)
            if number == len(charts):
                charts.append(example)
        return chart_of_row, charts

    def draw(self, example: Mapping[str, Any]) -> Callable[[int, int], tuple[int, int]]:
        """Return a function of the free rows and columns of a canvas that chooses the offsets of a chart on it."""
        if self.random_padding == "global":
            return compat.legacy_random_offsets
        key = example.get(ROW_KEY)
        if key is not None:
            chart = example.get("chart_id")
            if not self.group_by_chart or not has_chart(chart):
                return partial(_seeded_offsets, (self.seed, key.epoch, key.row))
            number = int.from_bytes(digest([str(chart).encode("utf-8", "surrogatepass")]))
            return partial(_seeded_offsets, (self.seed, key.epoch, number))
        worker = get_worker_info()
        self._padded += 1
        return partial(_seeded_offsets, (self.seed, worker.seed if worker else 0, self._padded - 1))


def pad_tokens(
    batch: Mapping[str, Any],
    multiple: int,
    padding: int,
    most: int,
    *,
    is_per_token: Callable[[str], bool] | None = None,
) -> dict[str, Any]:
    """Pad the tensors of a batch with one value per label on the right, to a multiple of a number.

    Args:
        batch: A batch with `labels`, int64 of shape (rows, length).
        multiple: Number that divides the new length, unless that is `most`.
        padding: Id of the padding token.
        most: Longest sequence of the model.
        is_per_token: Returns whether a tensor of a processor has one value per token, by its name; `None`: its shape
            decides.

    Example:
        >>> ids = torch.tensor([[5, 6, 2]])
        >>> {key: value.tolist() for key, value in pad_tokens({"input_ids": ids, "labels": ids}, 4, 1, 512).items()}
        {'input_ids': [[5, 6, 2, 1]], 'labels': [[5, 6, 2, -100]]}
    """
    shape = batch["labels"].shape
    more = min(-(-shape[1] // multiple) * multiple, most) - shape[1]
    fill = {"labels": IGNORE_INDEX, "input_ids": padding, "decoder_input_ids": padding}

    def grows(key: str, value: Any) -> bool:
        if not torch.is_tensor(value) or value.shape[:2] != shape or value.is_floating_point() or more <= 0:
            return False
        return key in fill or (value.ndim == 2 if is_per_token is None else is_per_token(key))

    return {
        # Behind the length, the mask of Mllama has dimensions for charts and tiles.
        key: F.pad(value, (*[0, 0] * (value.ndim - 2), 0, more), value=fill.get(key, 0))
        if grows(key, value)
        else value
        for key, value in batch.items()
    }


def _pixels_key(image: Any) -> tuple[tuple[int, int], bytes]:
    return image.size, digest([image.tobytes()])


def _seeded_offsets(seed: tuple[int, ...], free_rows: int, free_columns: int) -> tuple[int, int]:
    top, left = np.random.default_rng(seed).integers(0, (free_rows + 1, free_columns + 1))
    return int(top), int(left)


def row_texts(example: Mapping[str, Any], task: str = QA_NAME) -> dict[str, Any]:
    """Return what an evaluation reports about a record.

    This is `index` (-1 without a row number or for a filler row), its texts, its task if that is not `qa` and, if the
    record has them, the columns that the metric of ChartQAPro reads: `question_type` and `year_flags`.
    """
    key = example.get(ROW_KEY)
    texts = {name: example.get(name) for name in ("chart_id", "question", "answer", "source")}
    texts["answer"] = single_answer(example)
    pro = {name: example[name] for name in ("question_type", "year_flags") if name in example}
    named = {} if task == QA_NAME else {"task": task}
    return {"index": key.row if key is not None and key.counts else -1, **texts, **named, **pro}
