"""Assign the tokens of an image to the windows of a Swin block, and mask tokens that must not attend to each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch

HIDDEN = -100.0
"""The value that upstream adds to the score of two tokens in a window that are not neighbors in the image."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """Consecutive windows of one or several images."""

    windows: slice
    """Their range among the windows of all images."""
    rows: slice
    """The range of their tokens among those of all images, in the order of the windows, without padding."""
    tokens: torch.LongTensor
    """Indices of these tokens in the concatenated images, int64 of shape (tokens,)."""
    positions: torch.LongTensor | None
    """Indices of these tokens among the windows x area positions, int64 of shape (tokens,); `None` without padding."""
    masked: torch.LongTensor
    """Indices within the chunk of windows with regions of an image that are not neighbors, int64."""
    regions: torch.LongTensor
    """The region of the image that each token of those windows belongs to, shape (masked windows, area)."""

    def __len__(self) -> int:
        return self.windows.stop - self.windows.start

    def mask(self, dtype: torch.dtype) -> torch.Tensor:
        """Return what is added to the scores of the masked windows, shape (masked windows, 1, area, area)."""
        apart = self.regions.unsqueeze(1) != self.regions.unsqueeze(2)
        return (apart * HIDDEN).to(dtype).unsqueeze(1)


@lru_cache(maxsize=32)
def chunks_of(images: int, grid: tuple[int, int], window_size: int, shift: int, per_chunk: int) -> Sequence[Chunk]:
    """Divide the windows of images into chunks, in the order of upstream's `window_partition`.

    Args:
        images: Number of images, all of the same size.
        grid: Height and width of an image in tokens. Its lower and right edges are padded to whole windows.
        window_size: Height and width of a window in tokens.
        shift: Number of tokens that an image is rolled up and to the left before it is divided into windows.
        per_chunk: Largest number of windows in a chunk; all chunks get about the same number.

    Example:
        >>> [len(chunk) for chunk in chunks_of(2, (10, 10), 5, 0, 3)]
        [3, 3, 2]
    """
    # Cached tensors serve other callers too, which tensors made in inference mode or on another device could not.
    with torch.inference_mode(False), torch.device("cpu"):
        return tuple(_divide(images, grid, window_size, shift, per_chunk))


def _divide(images: int, grid: tuple[int, int], window_size: int, shift: int, per_chunk: int) -> Iterator[Chunk]:
    """Yield the chunks of `chunks_of`."""
    height, width = (-(-side // window_size) * window_size for side in grid)
    token = torch.full((height, width), -1)
    token[: grid[0], : grid[1]] = torch.arange(grid[0] * grid[1]).view(grid)
    bands = [_bands(side, window_size, shift) for side in (height, width)]
    token, region = (
        table.view(height // window_size, window_size, width // window_size, window_size)
        .transpose(1, 2)
        .reshape(-1, window_size**2)
        for table in (token.roll((-shift, -shift), (0, 1)), bands[0].unsqueeze(1) * 3 + bands[1])
    )
    filled = (token >= 0).repeat(images, 1)
    starts = torch.arange(images).repeat_interleave(len(token)) * grid[0] * grid[1]
    token, region = token.repeat(images, 1) + starts.unsqueeze(1), region.repeat(images, 1)
    masked = (region != region[:, :1]).any(dim=1)
    window_end = row_end = 0
    for numbers in torch.arange(len(token)).tensor_split(-(-len(token) // per_chunk)):
        windows = slice(window_end, window_end := window_end + len(numbers))
        tokens = token[windows][filled[windows]]
        is_whole = len(tokens) == filled[windows].numel()
        chunk_masked = masked[windows].nonzero().flatten()
        yield Chunk(
            windows=windows,
            rows=slice(row_end, row_end := row_end + len(tokens)),
            tokens=tokens,
            positions=None if is_whole else filled[windows].flatten().nonzero().flatten(),
            masked=chunk_masked,
            regions=region[windows][chunk_masked],
        )


def _bands(side: int, window_size: int, shift: int) -> torch.LongTensor:
    """Return the band, 0 to 2, of each row (or column) of the rolled image; the last window contains two of them."""
    rows = torch.arange(side)
    if shift == 0:
        return torch.zeros_like(rows)
    return (rows >= side - window_size).long() + (rows >= side - shift).long()
