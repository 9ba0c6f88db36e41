"""Which tokens of a picture stand in which window of a Swin block, and which of them must not see each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch

HIDDEN = -100.0
"""What upstream adds to the score of two tokens of one window that are no neighbours in the picture."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some windows, one after the other, of one picture or several."""

    windows: slice
    """Which of all windows of all pictures."""
    rows: slice
    """Which of all tokens, in the order of the windows, without padding."""
    tokens: torch.LongTensor
    """Where these tokens are in the pictures, whose rows follow each other, shape (tokens,)."""
    places: torch.LongTensor | None
    """Where they stand in these windows, of windows x window area places; `None`: everywhere, there is no padding."""
    torn: torch.LongTensor
    """The numbers, within the chunk, of windows that hold parts of a picture which are not neighbours."""
    regions: torch.LongTensor
    """The part of the picture that each token of those windows belongs to, shape (torn windows, window area)."""

    def __len__(self) -> int:
        return self.windows.stop - self.windows.start

    def mask(self, dtype: torch.dtype) -> torch.Tensor:
        """What is added to the scores of the torn windows, shape (torn windows, 1, window area, window area)."""
        apart = self.regions.unsqueeze(1) != self.regions.unsqueeze(2)
        return (apart * HIDDEN).to(dtype).unsqueeze(1)


@lru_cache(maxsize=32)
def chunks_of(pictures: int, grid: tuple[int, int], window: int, shift: int, per_chunk: int) -> Sequence[Chunk]:
    """The windows of some pictures in the order of upstream's `window_partition`, at most `per_chunk` of them at once.

    Args:
        pictures: how many there are, all of one size.
        grid: height and width of a picture in tokens; its lower and right edge are padded to whole windows.
        window: height and width of a window in tokens.
        shift: by how many tokens a picture is rolled up and to the left before it is cut into windows.
        per_chunk: the most windows of a chunk; the chunks get about the same number each.
    """
    # What is kept serves other callers: under inference mode or another default device it could not.
    with torch.inference_mode(False), torch.device("cpu"):
        return tuple(_cut(pictures, grid, window, shift, per_chunk))


def _cut(pictures: int, grid: tuple[int, int], window: int, shift: int, per_chunk: int) -> Iterator[Chunk]:
    """The chunks of `chunks_of`, each with index tensors of its own."""
    height, width = (-(-side // window) * window for side in grid)
    place = torch.full((height, width), -1)
    place[: grid[0], : grid[1]] = torch.arange(grid[0] * grid[1]).view(grid)
    bands = [_bands(side, window, shift) for side in (height, width)]
    place, region = (
        table.view(height // window, window, width // window, window).transpose(1, 2).reshape(-1, window**2)
        for table in (place.roll((-shift, -shift), (0, 1)), bands[0].unsqueeze(1) * 3 + bands[1])
    )
    filled = (place >= 0).repeat(pictures, 1)
    starts = torch.arange(pictures).repeat_interleave(len(place)) * grid[0] * grid[1]
    place, region = place.repeat(pictures, 1) + starts.unsqueeze(1), region.repeat(pictures, 1)
    torn = (region != region[:, :1]).any(dim=1)
    window_end = row_end = 0
    for numbers in torch.arange(len(place)).tensor_split(-(-len(place) // per_chunk)):
        windows = slice(window_end, window_end := window_end + len(numbers))
        tokens = place[windows][filled[windows]]
        whole = len(tokens) == filled[windows].numel()
        apart = torn[windows].nonzero().flatten()
        yield Chunk(
            windows=windows,
            rows=slice(row_end, row_end := row_end + len(tokens)),
            tokens=tokens,
            places=None if whole else filled[windows].flatten().nonzero().flatten(),
            torn=apart,
            regions=region[windows][apart],
        )


def _bands(side: int, window: int, shift: int) -> torch.LongTensor:
    """Of each row (or column) of the rolled picture the band it is in, 0 to 2: the last window has two of them."""
    rows = torch.arange(side)
    if shift == 0:
        return torch.zeros_like(rows)
    return (rows >= side - window).long() + (rows >= side - shift).long()
