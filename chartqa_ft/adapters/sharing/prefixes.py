"""The part of a prompt up to the end of its chart, computed once for the loss and the answers of all its questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache, PreTrainedModel

from ..cache_name import CACHE
from .packing import image_entries


@dataclass(frozen=True, eq=False)
class ChartPrefixes:
    """Keys and values of the prompts of a batch, each up to the end of its chart, once per chart.

    Args:
        cache: the cache of a forward pass with one row per chart.
        ids: ids of these rows, int64 of shape (charts, columns), padded on the left.
        mask: where these are no padding, bool of shape (charts, columns).
        chart_of_row: index of the chart of each row of the batch, int64 of shape (rows,).
        config: config of the text model.
    """

    cache: DynamicCache
    ids: torch.LongTensor
    mask: torch.BoolTensor
    chart_of_row: torch.LongTensor
    config: Any

    @property
    def columns(self) -> int:
        """Length of the longest of the prefixes."""
        return self.ids.shape[1]

    @property
    def lengths(self) -> torch.LongTensor:
        """Length of the prefix of each row, int64 of shape (rows,)."""
        return self.mask.sum(dim=1)[self.chart_of_row]

    def cache_of_rows(self, *, beams: int = 1) -> DynamicCache:
        """Return a new cache for a forward pass that continues each row, or each of `beams` beams of each row."""
        index = self.chart_of_row.repeat_interleave(beams)
        copied = DynamicCache(config=self.config)
        for number, layer in enumerate(self.cache.layers):
            copied.update(layer.keys.index_select(0, index), layer.values.index_select(0, index), number)
        return copied

    def prompts(
        self, ids: torch.LongTensor, lengths: torch.LongTensor, *, padding: int
    ) -> tuple[torch.LongTensor, torch.LongTensor]:
        """Return (ids, attention mask) of prompts that begin with the cached columns, for `model.generate`.

        Padding stands between the prefix and the rest of a prompt, so that all prompts end in the last column.

        Args:
            ids: ids of the batch, int64 of shape (rows, length), padded on the right.
            lengths: length of the prompt of each row, int64 of shape (rows,).
            padding: id of the padding token.
        """
        before = self.lengths
        rest = lengths - before
        columns = torch.arange(int(rest.max()), device=ids.device)[None] - (rest.max() - rest)[:, None]
        inside = columns >= 0
        own = ids.gather(1, (before[:, None] + columns).clamp(min=0)).masked_fill(~inside, padding)
        mask = torch.cat([self.mask[self.chart_of_row], inside], dim=1)
        return torch.cat([self.ids[self.chart_of_row], own], dim=1), mask.long()

    def remaining_columns(self, length: int) -> torch.LongTensor:
        """Return which columns of the batch follow the prefix of each row, int64 of shape (rows, longest rest).

        Rows with a longer prefix have fewer; the last column of the batch is repeated for them.

        Args:
            length: number of columns of the batch.
        """
        before = self.lengths
        longest = length - int(before.min())
        return (before[:, None] + torch.arange(longest, device=before.device)).clamp(max=length - 1)

    def remaining(self, batch: Mapping[str, torch.Tensor], *, padding: int) -> dict[str, Any]:
        """Return the arguments of a forward pass that computes the columns of a batch after the prefixes.

        Args:
            batch: the batch of the prefixes, padded on the right.
            padding: id of the padding token.
        """
        columns = self.remaining_columns(batch["input_ids"].shape[1])
        places = self.lengths[:, None] + torch.arange(columns.shape[1], device=columns.device)
        inside = places < batch["attention_mask"].sum(dim=1, keepdim=True)
        return {
            "input_ids": batch["input_ids"].gather(1, columns).masked_fill(~inside, padding),
            "attention_mask": torch.cat([self.mask[self.chart_of_row], inside], dim=1).long(),
            "position_ids": columns,
            CACHE: self.cache_of_rows(),
        }


def encode_prefixes(
    model: PreTrainedModel,
    batch: Mapping[str, torch.Tensor],
    images: torch.BoolTensor,
    lengths: torch.LongTensor,
    *,
    padding: int,
    always: bool,
) -> ChartPrefixes | None:
    """Compute the prompts of a batch up to the end of their charts, once for all rows that begin alike.

    Args:
        model: an unwrapped decoder-only model for which `can_pack` is true: positions count tokens, and each layer
            attends to all earlier ones.
        batch: from `Adapter.encode`, padded on the right, with `chart_index` if rows share charts.
        images: which positions hold image tokens, bool of shape (rows, length).
        lengths: length of the prompt of each row, int64 of shape (rows,).
        padding: id of the padding token.
        always: compute them also if no two rows begin alike, for a loss and an answer of the same row.

    Returns:
        The prefixes, or `None` if they would save nothing, if a prompt ends with its chart, or if the model has
        another cache than `DynamicCache`.
    """
    ids = batch["input_ids"]
    per_token = {"input_ids", "attention_mask", "labels"}
    tensors = {
        key: value for key, value in batch.items() if torch.is_tensor(value) and key not in {*per_token, "chart_index"}
    }
    entries = {key: found for key, value in tensors.items() if (found := image_entries(value, images)) is not None}
    ends = (images * torch.arange(1, ids.shape[1] + 1, device=ids.device)).amax(dim=1)
    if not tensors or entries.keys() < tensors.keys() or bool((ends == 0).any() | (ends >= lengths).any()):
        return None
    charts = batch["chart_index"].tolist() if "chart_index" in batch else range(len(ids))
    stops = ends.tolist()
    first: dict[int, list[int]] = {}
    chosen: list[int] = []
    chart_of_row: list[int] = []
    for row, chart in enumerate(charts):
        alike = (
            number
            for number in first.setdefault(chart, [])
            if _begin_alike(ids, stops, chosen[number], row)
            and all(torch.equal(v[entries[k][chosen[number]]], v[entries[k][row]]) for k, v in tensors.items())
        )
        number = next(alike, len(chosen))
        if number == len(chosen):
            chosen.append(row)
            first[chart].append(number)
        chart_of_row.append(number)
    if len(chosen) == len(charts) and not always:
        return None
    rows, mask = _left_padded([ids[row, : stops[row]] for row in chosen], padding)
    arguments = {key: torch.cat([value[entries[key][row]] for row in chosen]) for key, value in tensors.items()}
    output = model(
        input_ids=rows,
        attention_mask=mask.long(),
        position_ids=(mask.long().cumsum(dim=1) - 1).clamp(min=0),
        **arguments,
        use_cache=True,
        logits_to_keep=1,
        return_dict=True,
    )
    cache = output.get(CACHE)
    if type(cache) is not DynamicCache:
        return None
    index = torch.tensor(chart_of_row, device=ids.device)
    return ChartPrefixes(cache, rows, mask, index, model.config.get_text_config(decoder=True))


def _begin_alike(ids: torch.LongTensor, stops: Sequence[int], one: int, other: int) -> bool:
    return stops[one] == stops[other] and torch.equal(ids[one, : stops[one]], ids[other, : stops[other]])


def _left_padded(rows: Sequence[torch.LongTensor], padding: int) -> tuple[torch.LongTensor, torch.BoolTensor]:
    """Pad rows of ids on the left: (ids, where they are no padding)."""
    padded = pad_sequence([row.flip(0) for row in rows], batch_first=True, padding_value=padding).flip(1)
    lengths = torch.tensor([len(row) for row in rows], device=padded.device)
    columns = torch.arange(padded.shape[1], device=padded.device)
    return padded, columns >= padded.shape[1] - lengths[:, None]
