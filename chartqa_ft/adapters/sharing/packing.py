"""Several questions on one chart in one sequence: the chart, and whatever else they begin with, stands there once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence

from ..text import IGNORE_INDEX

_OTHER_POSITIONS = {
    "token_type_ids",
    "mm_token_type_ids",
    "image_embeds_position_mask",
    "cross_attention_mask",
    "image_grid_thw",
}
"""Arguments of forward passes that make a mask or positions of their own for every token."""


PROVEN = frozenset({"idefics3", "internvl", "llava", "llava_next", "smolvlm"})
"""The model types whose packed sequences tests hold to the losses and gradients of separate rows. Others that
`can_pack` admits have nothing but their configuration to say for themselves."""


def can_pack(config: Any, forward_names: frozenset[str], longest: int) -> bool:
    """Whether a model computes for a packed sequence what it does for separate rows, as far as its configuration says.

    It must take positions and a mask of every pair of tokens; each layer of its text model must look at tokens through
    attention alone, at all earlier ones, and know their places from rotary embeddings of one dimension.

    Args:
        config: of the whole model.
        forward_names: the arguments of its forward pass.
        longest: the longest row in tokens.
    """
    text = config.get_text_config()
    rotary = getattr(text, "rope_parameters", None) or {}
    layers = [*(getattr(text, "layer_types", None) or []), *(getattr(text, "layers_block_type", None) or [])]
    window = getattr(text, "sliding_window", None)
    return (
        forward_names >= {"input_ids", "position_ids", "attention_mask"}
        and not forward_names & _OTHER_POSITIONS
        and attention_of(config) in ("sdpa", "eager")
        and "rope_type" in rotary
        and not any(name.endswith("_section") for name in rotary)  # a part of each head for time, height and width
        and set(layers) <= {"full_attention", "attention"}
        and not any(name.startswith(("mamba_", "ssm_", "linear_conv_")) for name in text.to_dict())
        and not getattr(text, "use_bidirectional_attention", False)
        and (window is None or longest <= window)
    )


def attention_of(config: Any) -> str | None:
    """The name of the attention of the text model; transformers has no public name for what a model really uses."""
    return getattr(config.get_text_config(), "_attn_implementation", None)


class _Piece(NamedTuple):
    """Tokens `start` to `end` of a row. `segment` 0: common to all questions of the sequence, else its own number."""

    row: int
    start: int
    end: int
    segment: int


def pack_questions(
    batch: Mapping[str, torch.Tensor], images: torch.BoolTensor, *, padding: int, additive: bool
) -> dict[str, Any]:
    """Put the rows of each chart into one sequence, so that its image tokens are computed once.

    A sequence is the beginning that its rows have in common, which must hold the chart, then for every row the rest of
    its prompt and its answer. They see the beginning and themselves, and take the positions that they have alone. The
    token before the first of an answer belongs to its own row, so that no row predicts a token of another.

    Args:
        batch: of `Adapter.encode` with `labels`, padded on the right, and `chart_index`, the chart of every row.
        images: bool, shape (rows, length): the positions of image tokens.
        padding: id that fills `input_ids` up.
        additive: the mask is float32 and added to the attention's logits (eager attention), not bool.

    Returns:
        `input_ids`, `labels`, `position_ids`, int64 of shape (sequences, longest); `attention_mask`, bool or float32
        of shape (sequences, 1, longest, longest), true (or 0) where a token sees another; the image tensors of the
        first row of each sequence; `chart_index` of the sequences if some share a chart still, because their common
        beginning lacks it or their image tensors differ. The batch as it is where no sequence would hold two rows.
    """
    live = batch["attention_mask"].bool()
    lengths = live.sum(dim=1).tolist()
    aligned = {key: v for key, v in batch.items() if torch.is_tensor(v) and v.shape[:2] == live.shape}
    tensors = {k: v for k, v in batch.items() if torch.is_tensor(v) and k not in aligned and k != "chart_index"}
    entries = {key: _entries(value, images) for key, value in tensors.items()}
    if aligned.keys() - {"input_ids", "attention_mask", "labels"} or None in entries.values():
        return dict(batch)

    def one_image(rows: Sequence[int]) -> bool:
        first = rows[0]
        return all(
            torch.equal(value[parts[first]], value[parts[row]])
            for row in rows[1:]
            for value, parts in ((value, entries[key]) for key, value in tensors.items())
        )

    charts = batch["chart_index"].tolist()
    rows_of: defaultdict[int, list[int]] = defaultdict(list)
    for row, chart in enumerate(charts):
        rows_of[chart].append(row)
    sequences: list[list[_Piece]] = []
    for rows in rows_of.values():
        common = _common(batch, lengths, rows) if len(rows) > 1 else 0
        # Without the whole chart in what is common there is nothing to gain.
        if common and images[rows[0], :common].any() and not images[rows, common:].any() and one_image(rows):
            own = [_Piece(row, common, lengths[row], number) for number, row in enumerate(rows, start=1)]
            sequences.append([_Piece(rows[0], 0, common, 0), *own])
        else:
            sequences.extend([_Piece(row, 0, lengths[row], 1)] for row in rows)
    if len(sequences) == len(charts):
        return dict(batch)

    def joined(value: torch.Tensor, fill: int) -> torch.Tensor:
        parts = [torch.cat([value[p.row, p.start : p.end] for p in pieces]) for pieces in sequences]
        return pad_sequence(parts, batch_first=True, padding_value=fill)

    segments = [torch.cat([torch.full((p.end - p.start,), p.segment) for p in pieces]) for pieces in sequences]
    mask = _mask(pad_sequence(segments, batch_first=True, padding_value=-1))
    first = [pieces[0].row for pieces in sequences]
    packed = {
        "input_ids": joined(batch["input_ids"], padding),
        "labels": joined(batch["labels"], IGNORE_INDEX),
        "position_ids": joined(torch.arange(live.shape[1]).expand(live.shape), 0),
        "attention_mask": torch.zeros(mask.shape).masked_fill(~mask, torch.finfo().min) if additive else mask,
    }
    if len(sequences) > len(rows_of):
        packed["chart_index"] = batch["chart_index"][first]
    for key, value in batch.items():
        if key in tensors:
            packed[key] = torch.cat([value[entries[key][row]] for row in first])
        elif key not in packed and key != "chart_index":
            packed[key] = value
    return packed


def _common(batch: Mapping[str, torch.Tensor], lengths: Sequence[int], rows: Sequence[int]) -> int:
    """How many tokens rows begin with in common, short of the last one before an answer, whose logits give it."""
    ids, labels = batch["input_ids"][rows], batch["labels"][rows] != IGNORE_INDEX
    most = min(
        (int(labels[number].int().argmax()) if labels[number].any() else lengths[row]) - 1
        for number, row in enumerate(rows)
    )
    differs = (ids[:, :most] != ids[:1, :most]).any(dim=0)
    return int(differs.int().argmax()) if differs.any() else max(most, 0)


def _entries(value: torch.Tensor, images: torch.BoolTensor) -> list[slice] | None:
    """Which entries of an image tensor belong to each row: one, or a share by its image tokens (tiles of several rows
    in one list). `None`: nobody knows."""
    tokens = images.sum(dim=1)
    if value.ndim and len(value) == len(tokens):
        return [slice(row, row + 1) for row in range(len(tokens))]
    total = int(tokens.sum())
    if not value.ndim or not total or (tokens * len(value) % total).any():
        return None
    ends = (tokens * len(value) // total).cumsum(dim=0).tolist()
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def _mask(segments: torch.LongTensor) -> torch.BoolTensor:
    """Which tokens (rows) see which (columns): earlier ones of their own segment and of segment 0; padding (-1) too,
    since attention to nothing at all is no number."""
    length = segments.shape[1]
    before = torch.ones(length, length, dtype=torch.bool).tril()
    own = segments[:, :, None] == segments[:, None, :]
    return (before & (own | (segments == 0)[:, None, :]))[:, None]
