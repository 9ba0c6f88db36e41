"""Several questions on one chart in one sequence, which contains the chart and the rest of their common prefix
once."""

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
"""Arguments of forward passes from which models compute a mask or positions themselves."""

PROVEN = frozenset({"idefics3", "internvl", "llava", "llava_next", "smolvlm"})
"""Model types for which tests compare losses and gradients of packed sequences with those of separate rows. For other
model types, `can_pack` relies on the configuration alone."""


def can_pack(config: Any, forward_names: frozenset[str], longest: int) -> bool:
    """Return whether, by its configuration, a model computes the same for a packed sequence as for separate rows.

    The forward pass must accept positions and a mask for each pair of tokens. Each layer of the text model must mix
    tokens by attention only, to all earlier tokens, with rotary embeddings of one dimension as positions.

    Args:
        config: Config of the whole model.
        forward_names: Names of the arguments of its forward pass.
        longest: Maximum length of a row in tokens.

    Example:
        >>> from transformers import LlamaConfig
        >>> names = frozenset({"input_ids", "position_ids", "attention_mask"})
        >>> can_pack(LlamaConfig(attn_implementation="sdpa"), names, 512)
        True
        >>> can_pack(LlamaConfig(attn_implementation="flash_attention_2"), names, 512)
        False
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
    """Return the attention implementation of the text model, for which transformers has no public attribute.

    Example:
        >>> from transformers import LlamaConfig
        >>> attention_of(LlamaConfig(attn_implementation="eager"))
        'eager'
    """
    return getattr(config.get_text_config(), "_attn_implementation", None)


class _Piece(NamedTuple):
    """Tokens `start` to `end` of a row. `segment` is 0 for the common prefix of a sequence, else unique within it."""

    row: int
    start: int
    end: int
    segment: int


def pack_questions(
    batch: Mapping[str, torch.Tensor], images: torch.BoolTensor, *, padding: int, additive: bool
) -> dict[str, Any]:
    """Pack the rows of each chart into one sequence, so that its image tokens are computed once.

    A sequence consists of the common prefix of its rows, which must contain the chart, followed by the rest of the
    prompt and the answer of each row. These attend to the prefix and to themselves, and have the same positions as in
    a sequence of their own. The token before an answer belongs to its row, so that no row predicts a token of another.

    Args:
        batch: From `Adapter.encode` with `labels`, padded on the right, and `chart_index`, the chart of each row.
        images: Positions of image tokens, bool of shape (rows, length).
        padding: Id that pads `input_ids`.
        additive: Return a float32 mask to be added to the logits of attention (eager attention) instead of bool.

    Returns:
        `input_ids`, `labels`, `position_ids`, int64 of shape (sequences, longest); `attention_mask`, bool or float32
        of shape (sequences, 1, longest, longest), true (or 0) where a token attends to another; the image tensors of
        the first row of each sequence; `chart_index` of the sequences if some still share a chart, because their
        common prefix does not contain it or their image tensors differ. The unchanged batch if no sequence would hold
        two rows.

    Example:
        >>> batch = {
        ...     "input_ids": torch.tensor([[9, 9, 1, 2, 7], [9, 9, 1, 3, 8]]),
        ...     "attention_mask": torch.ones(2, 5, dtype=torch.long),
        ...     "labels": torch.tensor([[-100, -100, -100, -100, 7], [-100, -100, -100, -100, 8]]),
        ...     "pixel_values": torch.zeros(2, 3, 4, 4),
        ...     "chart_index": torch.tensor([0, 0]),
        ... }
        >>> packed = pack_questions(batch, batch["input_ids"] == 9, padding=0, additive=False)
        >>> packed["input_ids"].tolist(), packed["position_ids"].tolist()
        ([[9, 9, 1, 2, 7, 3, 8]], [[0, 1, 2, 3, 4, 3, 4]])
        >>> packed["attention_mask"][0, 0, 5].int().tolist()
        [1, 1, 1, 0, 0, 1, 0]
    """
    ids = batch["input_ids"]
    lengths = batch["attention_mask"].bool().sum(dim=1).tolist()
    per_token = {key: v for key, v in batch.items() if torch.is_tensor(v) and v.shape[:2] == ids.shape}
    tensors = {k: v for k, v in batch.items() if torch.is_tensor(v) and k not in per_token and k != "chart_index"}
    entries = {key: found for key, v in tensors.items() if (found := image_entries(v, images)) is not None}
    if per_token.keys() - {"input_ids", "attention_mask", "labels"} or entries.keys() < tensors.keys():
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
        # Nothing is gained unless the common prefix contains the whole chart.
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
        "input_ids": joined(ids, padding),
        "labels": joined(batch["labels"], IGNORE_INDEX),
        "position_ids": joined(torch.arange(ids.shape[1]).expand(ids.shape), 0),
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
    """Return the length of the common prefix of rows, without the token before an answer, which predicts it."""
    ids, labels = batch["input_ids"][rows], batch["labels"][rows] != IGNORE_INDEX
    most = min(
        (int(labels[number].int().argmax()) if labels[number].any() else lengths[row]) - 1
        for number, row in enumerate(rows)
    )
    differs = (ids[:, :most] != ids[:1, :most]).any(dim=0)
    return int(differs.int().argmax()) if differs.any() else max(most, 0)


def image_entries(value: torch.Tensor, images: torch.BoolTensor) -> list[slice] | None:
    """Return the entries of an image tensor that belong to each row: one, or (for tiles of several rows in one tensor)
    a share in proportion to its image tokens. `None` if this is not known."""
    tokens = images.sum(dim=1)
    if value.ndim and len(value) == len(tokens):
        return [slice(row, row + 1) for row in range(len(tokens))]
    total = int(tokens.sum())
    if not value.ndim or not total or (tokens * len(value) % total).any():
        return None
    ends = (tokens * len(value) // total).cumsum(dim=0).tolist()
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def _mask(segments: torch.LongTensor) -> torch.BoolTensor:
    """Return which tokens (rows) attend to which (columns): to earlier ones of their own segment and of segment 0.

    This includes padding (segment -1), since attention to nothing is NaN.
    """
    length = segments.shape[1]
    before = torch.ones(length, length, dtype=torch.bool).tril()
    own = segments[:, :, None] == segments[:, None, :]
    return (before & (own | (segments == 0)[:, None, :]))[:, None]
