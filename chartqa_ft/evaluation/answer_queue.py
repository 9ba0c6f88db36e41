"""`AnswerQueue`: charts are encoded batch by batch, questions decoded in batches of prompts of equal length."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..adapters import Adapter
from ..adapters.lockstep import Lockstep, lockstep_for
from ..adapters.sharing.encoded_rows import EncodedRow

WINDOW = 16
"""Default number of batches whose questions may wait for others of the same length. With 8 rows per batch and about
one token per word, this fills the calls for ChartQA's test questions as well as an unlimited window."""


class AnswerQueue:
    """Answers the rows of batches so that each row gets the answer it would get alone.

    Some families can only decode rows with prompts of equal length together (`Adapter.needs_equal_prompts`), and a
    single batch has few of those. For them the charts of a batch are encoded at once, and the rows wait. They are
    decoded when `rows_per_call` rows of one length are waiting. If too many rows are waiting, the length with the most
    rows is decoded first. Other families answer every batch at once.

    Where several ranks share the weights of the model (DeepSpeed ZeRO stage 3, FSDP), each rank has a queue, and all
    make the same number of calls (see `Lockstep`). `add` and `flush` must then be called equally often on all ranks;
    `announce_batch` and `follow_batches` are for ranks that have different numbers of batches.

    Args:
        adapter: the adapter of the model's family.
        rows_per_call: the maximum number of rows that are decoded together.
        window: number of batches of `rows_per_call` rows that may wait. As many encoded charts are held in memory
            (fewer if questions share charts). With 1, every batch is answered at once.
        settings: settings of `Adapter.generate`, such as `max_new_tokens` and `num_beams`.

    Raises:
        ValueError: `window` is less than 1.
    """

    def __init__(self, adapter: Adapter, *, rows_per_call: int, window: int, **settings: Any):
        if window < 1:
            raise ValueError(f"the window must be at least 1 batch, got {window}")
        self.adapter, self.rows_per_call, self.settings = adapter, rows_per_call, settings
        self.waits = adapter.needs_equal_prompts and window > 1
        self.most_waiting = (window - 1) * rows_per_call
        self._waiting: defaultdict[tuple[int, ...], list[tuple[Any, EncodedRow]]] = defaultdict(list)
        self._model: nn.Module | None = None
        self._lockstep: Lockstep | None = None

    def begin(self, model: nn.Module) -> None:
        """Take the model that answers. `add` does it too, if it was not done before."""
        if self._model is None:
            self._model = model
            self._lockstep = lockstep_for(self.adapter, model, num_beams=self.settings.get("num_beams") or 1)
            if self._lockstep is not None:
                # Charts are then encoded once per batch on every rank, whatever the prompts are.
                self.waits = self.adapter.needs_equal_prompts

    def announce_batch(self) -> None:
        """Tell the other ranks, before `add`, that this one has another batch."""
        if self._lockstep is not None:
            self._lockstep.any_rank(True)

    def follow_batches(self) -> None:
        """Take part in the batches that other ranks still have, after the last one of this rank."""
        while self._lockstep is not None and self._lockstep.any_rank(False):
            self._lockstep.encode_blank()
            self._lockstep.fill_up()

    def add(
        self, model: nn.Module, batch: Mapping[str, torch.Tensor], keys: Sequence[Any], encoder_outputs: Any = None
    ) -> Iterator[tuple[Any, str]]:
        """Take the rows of one batch and yield (key, answer) of all rows that are ready, also of earlier batches.

        Args:
            model: the model that answers; it must be the same in every call.
            batch: a batch from `Adapter.encode` or a collator.
            keys: one value per row, by which the caller recognizes the row.
            encoder_outputs: the result of `Adapter.encode_charts` for this batch; `None` encodes the charts here.
        """
        self.begin(model)
        if not self.waits:
            ids = self._generate(model, batch, encoder_outputs)
            yield from zip(keys, self.adapter.decode(ids), strict=True)
            self._fill_up()
            return
        if encoder_outputs is None:
            with torch.no_grad():
                encoder_outputs = self.adapter.encode_charts(model, batch)
        for key, row in zip(keys, self.adapter.encoded_rows(batch, encoder_outputs), strict=True):
            self._waiting[row.shape].append((key, row))
        for rows in self._longest_first():
            while len(rows) >= self.rows_per_call:
                yield from self._answer(rows)
        while sum(map(len, self._waiting.values())) > self.most_waiting:
            yield from self._answer(max(self._longest_first(), key=len))
        self._fill_up()

    def flush(self) -> Iterator[tuple[Any, str]]:
        """Answer all rows that are still waiting and yield (key, answer) of each."""
        for rows in self._longest_first():
            while rows:
                yield from self._answer(rows)
        self._fill_up()

    def _longest_first(self) -> list[list[tuple[Any, EncodedRow]]]:
        return [rows for _, rows in sorted(self._waiting.items(), reverse=True)]

    def _answer(self, rows: list[tuple[Any, EncodedRow]]) -> list[tuple[Any, str]]:
        """Decode the first `rows_per_call` of `rows` and remove them from the list."""
        now = rows[: self.rows_per_call]
        batch, encoder_outputs = self.adapter.rejoined([row for _, row in now])
        ids = self._generate(self._model, batch, encoder_outputs)
        answers = self.adapter.decode(ids)
        del rows[: self.rows_per_call]
        return [(key, answer) for (key, _), answer in zip(now, answers, strict=True)]

    def _generate(
        self, model: nn.Module | None, batch: Mapping[str, torch.Tensor], encoder_outputs: Any
    ) -> torch.LongTensor:
        if self._lockstep is not None:
            return self._lockstep.generate(batch, encoder_outputs=encoder_outputs, **self.settings)
        return self.adapter.generate(model, batch, encoder_outputs=encoder_outputs, **self.settings)

    def _fill_up(self) -> None:
        if self._lockstep is not None:
            self._lockstep.fill_up()
