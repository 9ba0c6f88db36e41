"""`AnswerQueue`: charts are encoded batch by batch, questions decoded in batches of prompts of equal length."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..adapters import Adapter
from ..adapters.lockstep import Lockstep, lockstep_for
from ..adapters.row_settings import numbered
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
        of_tasks: task -> settings of its rows, which precede the others.
        settings: settings of `Adapter.generate`, such as `max_new_tokens` and `num_beams`. A
            `prefix_allowed_tokens_fn` gets the key of a row in place of its number.

    Raises:
        ValueError: `window` is less than 1.
    """

    def __init__(
        self,
        adapter: Adapter,
        *,
        rows_per_call: int,
        window: int,
        of_tasks: Mapping[str, Mapping[str, Any]] | None = None,
        **settings: Any,
    ):
        if window < 1:
            raise ValueError(f"the window must be at least 1 batch, got {window}")
        self.adapter, self.rows_per_call, self.settings = adapter, rows_per_call, settings
        self.of_tasks = {task: dict(own) for task, own in (of_tasks or {}).items() if {**settings, **own} != settings}
        self.waits = adapter.needs_equal_prompts and window > 1
        self.most_waiting = (window - 1) * rows_per_call
        self._waiting: defaultdict[tuple[Any, ...], list[tuple[Any, EncodedRow]]] = defaultdict(list)
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
        self,
        model: nn.Module,
        batch: Mapping[str, torch.Tensor],
        keys: Sequence[Any],
        encoder_outputs: Any = None,
        tasks: Sequence[str | None] = (),
    ) -> Iterator[tuple[Any, str]]:
        """Take the rows of one batch and yield (key, answer) of all rows that are ready, also of earlier batches.

        Args:
            model: the model that answers; it must be the same in every call.
            batch: a batch from `Adapter.encode` or a collator.
            keys: one value per row, by which the caller recognizes the row.
            encoder_outputs: the result of `Adapter.encode_charts` for this batch; `None` encodes the charts here.
            tasks: the task of each row; none: no row has settings of its own.
        """
        self.begin(model)
        # The key of rows with settings of their own; "" for all others.
        kinds = [task if task in self.of_tasks else "" for task in tasks] or [""] * len(keys)
        if not self.waits:
            ids = self._generate_each(model, batch, encoder_outputs, kinds, keys)
            yield from zip(keys, self.adapter.decode(ids), strict=True)
            self._fill_up()
            return
        if encoder_outputs is None:
            with torch.no_grad():
                encoder_outputs = self.adapter.encode_charts(model, batch)
        encoded = self.adapter.encoded_rows(batch, encoder_outputs)
        for key, kind, row in zip(keys, kinds, encoded, strict=True):
            self._waiting[*row.shape, kind].append((key, row))
        for kind, rows in self._longest_first():
            while len(rows) >= self.rows_per_call:
                yield from self._answer(kind, rows)
        while sum(map(len, self._waiting.values())) > self.most_waiting:
            yield from self._answer(*max(self._longest_first(), key=lambda entry: len(entry[1])))
        self._fill_up()

    def flush(self) -> Iterator[tuple[Any, str]]:
        """Answer all rows that are still waiting and yield (key, answer) of each."""
        for kind, rows in self._longest_first():
            while rows:
                yield from self._answer(kind, rows)
        self._fill_up()

    def _longest_first(self) -> list[tuple[str, list[tuple[Any, EncodedRow]]]]:
        return [(key[-1], rows) for key, rows in sorted(self._waiting.items(), reverse=True)]

    def _answer(self, kind: str, rows: list[tuple[Any, EncodedRow]]) -> list[tuple[Any, str]]:
        """Decode the first `rows_per_call` of `rows` and remove them from the list."""
        now = rows[: self.rows_per_call]
        batch, encoder_outputs = self.adapter.rejoined([row for _, row in now])
        settings = numbered(self.settings_of(kind), [key for key, _ in now])
        ids = self._generate(self._model, batch, encoder_outputs, settings)
        answers = self.adapter.decode(ids)
        del rows[: self.rows_per_call]
        return [(key, answer) for (key, _), answer in zip(now, answers, strict=True)]

    def settings_of(self, kind: str) -> dict[str, Any]:
        """Return the settings of a task, or of "" for rows without settings of their own."""
        return {**self.settings, **self.of_tasks.get(kind, {})}

    def _generate_each(
        self,
        model: nn.Module,
        batch: Mapping[str, torch.Tensor],
        encoder_outputs: Any,
        kinds: Sequence[str],
        keys: Sequence[Any],
    ) -> torch.LongTensor:
        """Return the answers of a batch, each row's with the settings of its kind."""
        found = sorted(set(kinds))
        ways = [numbered(self.settings_of(kind), keys) for kind in found]
        if len(found) == 1:
            return self._generate(model, batch, encoder_outputs, ways[0])
        longest = max(ways, key=lambda way: way["max_new_tokens"])
        if all(map(_is_greedy, ways)):
            # The first tokens of a greedy answer do not depend on how many may follow.
            ids = self._generate(model, batch, encoder_outputs, longest)
            for row, kind in enumerate(kinds):
                ids[row, self.settings_of(kind)["max_new_tokens"] :] = self.adapter.pad_token_id
            return ids
        # A batch of any family cannot be divided into rows: all rows are answered in each way, and one is kept.
        answers = [self._generate(model, batch, encoder_outputs, way) for way in ways]
        width = max(ids.shape[1] for ids in answers)
        joined = answers[0].new_full((len(kinds), width), self.adapter.pad_token_id)
        for kind, ids in zip(found, answers, strict=True):
            rows = [row for row, own in enumerate(kinds) if own == kind]
            joined[rows, : ids.shape[1]] = ids[rows]
        return joined

    def _generate(
        self,
        model: nn.Module | None,
        batch: Mapping[str, torch.Tensor],
        encoder_outputs: Any,
        settings: Mapping[str, Any],
    ) -> torch.LongTensor:
        if self._lockstep is not None:
            return self._lockstep.generate(batch, encoder_outputs=encoder_outputs, **settings)
        return self.adapter.generate(model, batch, encoder_outputs=encoder_outputs, **settings)

    def _fill_up(self) -> None:
        if self._lockstep is not None:
            self._lockstep.fill_up()


def _is_greedy(settings: Mapping[str, Any]) -> bool:
    """Return whether nothing but the model's scores, token by token, decides about an answer."""
    return settings.get("num_beams", 1) == 1 and settings.keys() <= {"num_beams", "max_new_tokens"}
