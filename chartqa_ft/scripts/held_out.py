"""The charts that are held out to score a model, as a file that later commands take (`--split_file`)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.splitting import split_by_chart_id
from ..data.stored_columns import column_values
from ..files import read_json, write_json

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

__all__ = ["SPLIT_NAME", "read_drawn", "read_split", "resumed_split", "split_by_file", "write_split"]

SPLIT_NAME = "split.json"
"""Name of the file in the output folder."""
_KEY = "held_out_charts"
_ADVICE = f'it must hold {{"{_KEY}": ["a.png", ...]}}, as finetune_own_data writes it'


def write_split(path: str | Path, chart_ids: Iterable[str], drawn: Mapping[str, float] | None = None) -> Path:
    """Write the held-out charts, each once, in the order of their questions; return the path.

    Args:
        path: The file to write.
        chart_ids: The `chart_id` of every held-out record.
        drawn: The arguments by which these charts were drawn, if they were; see `resumed_split`.

    Example:
        >>> import tempfile
        >>> path = write_split(Path(tempfile.mkdtemp()) / "split.json", ["b.png", "a.png", "b.png"])
        >>> read_split(path)
        ['b.png', 'a.png']
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return write_json(path, {_KEY: list(dict.fromkeys(chart_ids)), **(drawn or {})})


def read_split(path: str | Path) -> list[str]:
    """Return the held-out charts of a file that `write_split` has written, or that was written by hand.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or names no charts.
    """
    charts = read_json(path, advice=_ADVICE).get(_KEY)
    if not isinstance(charts, list) or not charts or not all(isinstance(name, str) and name for name in charts):
        raise ValueError(f"{path} names no held-out charts: {_ADVICE}")
    return charts


def read_drawn(path: str | Path) -> dict[str, float]:
    """Return the arguments by which the charts of a file were drawn, `{}` if they were not or it does not say.

    Example:
        >>> import tempfile
        >>> path = write_split(Path(tempfile.mkdtemp()) / "split.json", ["a.png"], {"held_out": 0.2, "split_seed": 0})
        >>> read_drawn(path)
        {'held_out': 0.2, 'split_seed': 0}
    """
    found = read_json(path, advice=_ADVICE)
    return {name: value for name, value in found.items() if type(value) in (int, float)}


def resumed_split(
    checkpoint: str | Path, given: Mapping[str, float | None], split_file: str | None = None
) -> Path | None:
    """Return the file of the charts that a training held out which goes on from a checkpoint.

    A new draw would hold out charts that the model was trained on, even with the same seed if the data have new rows.

    Args:
        checkpoint: The checkpoint; the file is beside it.
        given: The arguments of the draw, as for `write_split`; `None` if they are unset.
        split_file: The file that the arguments name instead.

    Returns:
        The file; `None` with a warning if there is none.

    Raises:
        ValueError: The arguments say that other charts are held out.
    """
    path = Path(checkpoint).parent / SPLIT_NAME
    if not path.is_file():
        logger.warning(
            "there is no %s, which would list the charts that the training held out before: if it was started with "
            "--eval_data, give it again",
            path,
        )
        return None
    start = f"{checkpoint} is from a training that holds out the charts of {path}"
    if split_file is not None:
        new = [name for name in read_split(split_file) if name not in set(read_split(path))]
        if new:
            raise ValueError(
                f"{start}, and {split_file} has {len(new):,} others, such as {new[0]!r}: leave out --split_file, "
                "or start a new training in another --output_dir"
            )
    drawn = read_drawn(path)
    for name, value in given.items():
        if value is not None and drawn.get(name, value) != value:
            raise ValueError(
                f"{start}, which were drawn with --{name} {drawn[name]}, not {value}: leave it out, or start a new "
                "training in another --output_dir"
            )
    return path


def split_by_file(
    records: Dataset, path: str | Path, source: str, *, training: bool = True
) -> tuple[Dataset, Dataset]:
    """Split records into those to train on and those on the held-out charts of a file.

    Args:
        records: Records as `load_chartqa` returns them.
        path: A file that `write_split` has written.
        source: What messages call the records.
        training: Whether the others are trained on, so that there must be some.

    Returns:
        `(train, held out)`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or names none of the charts of the records, or all of them.
    """
    charts = read_split(path)
    there = set(column_values(records, "chart_id"))
    missing = [name for name in charts if name not in there]
    if len(missing) == len(charts):
        raise ValueError(
            f"none of the {len(charts):,} charts of {path}, such as {charts[0]!r}, is in {source}, whose charts have "
            f"names such as {min(there, default='')!r}"
        )
    if missing:
        logger.warning("%d of %d charts of %s are not in %s", len(missing), len(charts), path, source)
    train, held_out = split_by_chart_id(records, charts)
    if training and not len(train):
        raise ValueError(f"{path} holds out all charts of {source}: none is left to train on")
    return train, held_out
