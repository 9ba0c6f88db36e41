"""Answers in two stages: charts are encoded batch by batch, questions decoded in the company that suits them best."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..adapters import Adapter
from ..adapters.sharing.encoded_rows import EncodedRow

WINDOW = 16
"""Batches whose questions wait for others of the same length, where nobody says how many. With 8 rows a batch and
about one token a word this fills the calls of ChartQA's test questions as well as a window without end."""


class AnswerQueue:
    """Answers the rows of batches, each as if it were alone.

    Where only rows with prompts of equal length can be decoded together (`Adapter.needs_equal_prompts`), a single
    batch has few such rows. Their charts are therefore encoded, and the rows wait: they are decoded as soon as
    `rows_per_call` of one length have come together, or, the most numerous first, when too many wait. Other families
    answer every batch at once.

    Args:
        adapter: of the model's family.
        rows_per_call: the most rows that are decoded together.
        window: how many batches of `rows_per_call` rows may wait, and with them the encoder states of as many charts
            (fewer, where questions share charts); with 1 every batch is answered at once.
        settings: of `Adapter.generate`: `max_new_tokens`, `num_beams` and others.
    """

    def __init__(self, adapter: Adapter, *, rows_per_call: int, window: int, **settings: Any):
        if window < 1:
            raise ValueError(f"the window must be at least 1 batch, got {window}")
        self.adapter, self.rows_per_call, self.settings = adapter, rows_per_call, settings
        self.waits = adapter.needs_equal_prompts and window > 1
        self.most_waiting = (window - 1) * rows_per_call
        self._waiting: defaultdict[tuple[int, ...], list[tuple[Any, EncodedRow]]] = defaultdict(list)
        self._model: nn.Module | None = None

    def add(
        self, model: nn.Module, batch: Mapping[str, torch.Tensor], keys: Sequence[Any], encoder_outputs: Any = None
    ) -> Iterator[tuple[Any, str]]:
        """Take the rows of one batch, and answer what is ready: (key, answer) of rows of this and of earlier batches.

        Args:
            model: the model that answers, the same at every call.
            batch: of `Adapter.encode` or a collator.
            keys: what the caller knows each row by.
            encoder_outputs: what `Adapter.encode_charts` returned for this batch, if it was called.
        """
        if not self.waits:
            ids = self.adapter.generate(model, batch, encoder_outputs=encoder_outputs, **self.settings)
            yield from zip(keys, self.adapter.decode(ids), strict=True)
            return
        self._model = model
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

    def flush(self) -> Iterator[tuple[Any, str]]:
        """Answer all rows that still wait."""
        for rows in self._longest_first():
            while rows:
                yield from self._answer(rows)

    def _longest_first(self) -> list[list[tuple[Any, EncodedRow]]]:
        return [rows for _, rows in sorted(self._waiting.items(), reverse=True)]

    def _answer(self, rows: list[tuple[Any, EncodedRow]]) -> list[tuple[Any, str]]:
        """Decode the first of `rows`, which then wait no longer."""
        now = rows[: self.rows_per_call]
        batch, encoder_outputs = self.adapter.rejoined([row for _, row in now])
        ids = self.adapter.generate(self._model, batch, encoder_outputs=encoder_outputs, **self.settings)
        answers = self.adapter.decode(ids)
        del rows[: self.rows_per_call]
        return [(key, answer) for (key, _), answer in zip(now, answers, strict=True)]
