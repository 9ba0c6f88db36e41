"""Every layout of ChartQA, and a user's own charts, as one schema with checked records and images that stay lazy."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..images.check import DEFAULT_MAX_PIXELS
from .chart_ids import ChartIds
from .convert import SplitReader, convert
from .hub_datasets import MissingDatasetError, load_hub_dataset
from .record_files import (
    SPLIT_ALIASES,
    FileSplit,
    find_splits,
    image_folders,
    is_saved_dataset,
    read_records,
    top_folder,
)
from .records import ErrorPolicy, RecordError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

__all__ = ["load_chartqa"]


def load_chartqa(
    source: str | os.PathLike[str] | Any = "HuggingFaceM4/ChartQA",
    *,
    split: str | None = None,
    image_dir: str | os.PathLike[str] | None = None,
    column_map: Mapping[str, str] | None = None,
    streaming: bool = False,
    on_error: str | Callable[[RecordError], None] = "raise",
    revision: str | None = None,
    token: str | bool | None = None,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
    require_answers: bool = True,
    **load_kwargs: Any,
) -> DatasetDict | Dataset | IterableDatasetDict | IterableDataset:
    """Load charts with questions from any copy of ChartQA, or from your own files, as one checked schema.

    The result has exactly these columns, whatever the source calls its own:

    | column     | type             | content                                                                   |
    |------------|------------------|---------------------------------------------------------------------------|
    | `image`    | `datasets.Image` | the chart, decoded when a row is read and never before                    |
    | `question` | `str`            | the question as it is written in the source                               |
    | `answer`   | `str`            | the answer; a list is the official text, `"[2017, 2023]"`                 |
    | `source`   | `str`            | `"human"`, `"augmented"` or `"unknown"`                                   |
    | `chart_id` | `str`            | the image's file name, else a digest of its bytes; one for each chart     |

    Where charts have one name (`train/png/1.png` and `val/png/1.png`), a mark of the content follows: `"1.png#..."`.
    A stream of several splits or shards cannot know them all: it marks every name, but for those of image files.

    ChartQAPro keeps two more that its metric needs: `question_type` (`str`) and `year_flags` (`list[str]`, YES or NO).
    It gives one row a dialogue, as its official evaluation does: the last question is asked, the earlier turns with
    their answers and the paragraph, if any, stand before it in `question`, and `answer` is the last answer.

    Own data can look like this (`charts.json`, or the same as JSON lines, CSV, TSV or Parquet, next to the images;
    a CSV file may have `;` or tabs between its columns):

    ```json
    [
      {"imgname": "sales.png", "query": "What was sold most?", "label": "Tea"},
      {"imgname": "sales.png", "query": "How many cups of tea?", "label": 120}
    ]
    ```

    and `load_chartqa("charts.json")`; with other column names, `load_chartqa("charts.json", column_map={"image":
    "picture", "question": "text", "answer": "value"})`. Labels that are numbers become their plain text, lists of one
    label that label. `source` comes from a column (`source`, `type`, `human_or_machine`) or the file's name
    (`test_human.json`).

    Layouts are recognised by their files and columns, never by a name: the original folder (with or without tables,
    or one split of it), `HuggingFaceM4/ChartQA`, `lmms-lab/ChartQA`, `ahmed-masry/ChartQA` (raw bytes),
    `ahmed-masry/chartqa_without_images` with `image_dir`, ChartQAPro, an image folder with `metadata.csv` or
    `metadata.jsonl`, a folder of Parquet files, a folder written by `save_to_disk`.

    Every record is checked in one pass that decodes no pixels: see `RecordError`. An image is looked at once, or again
    where its next question comes thousands of charts later. Damage inside the compressed pixels shows only when the
    row is read. A stream is checked while it is read; images that a stream from the Hub only names there are fetched,
    and fail, when they are decoded.

    Args:
        source: A file or folder, a data set on the Hugging Face Hub, or a loaded `Dataset`, `DatasetDict`,
            `IterableDataset`, `IterableDatasetDict` (or a dict of them).
        split: One split, as the source names it (`"val"`, `"validation"`, `"valid"` and `"dev"` mean the same), or an
            expression such as `"test[:100]"`, `"val[50%:]"`, `"train+val"`. None: all, in a dict.
        image_dir: The folder that image names are relative to; needed where records only name their images. It may
            have the folders of the original layout inside (`<split>/png/`, `png/`, `images/`). Default for files: the
            folder of the file. No path may lead out of it.
        column_map: `{canonical column: the source's column}` for columns that are not recognised. `image` may be a
            column of images, of bytes or of file names.
        streaming: Give an `IterableDataset` that reads and checks while it is iterated. Shuffle it, not the source.
        on_error: `"raise"`; `"skip"` drops records that cannot be used and says in one warning how many and why; a
            function does the same and is called with every `RecordError`. A stream warns at the end of each shard.
        revision: Branch, tag or commit on the Hub.
        token: Hub token; None takes the one that is logged in.
        max_pixels: Largest width x height of a chart (default: Pillow's own warning limit); None for no limit. Above
            twice the default Pillow itself refuses to decode, unless `PIL.Image.MAX_IMAGE_PIXELS` is raised.
        require_answers: False gives records without an answer (a hidden test set) the answer `""`.
        **load_kwargs: For `datasets.load_dataset`, where it is used (the Hub, Parquet): `cache_dir`, ...

    Returns:
        A `DatasetDict` or `IterableDatasetDict` with the source's split names; one data set where `split` is given or
        `source` is one. The order of the records is the source's; human questions come first in the original layout.

    Raises:
        RecordError: With `on_error="raise"`: a record has no image file, an unreadable, truncated or too large image,
            one narrower than 1:50 (image processors fail on it), a path that leaves `image_dir`, an empty question,
            no answer, several answers, or is malformed. It names split, index, file and cause. With `"skip"`, only if
            nothing is left of a split.
        LayoutError: No records are found, a file cannot be read as a whole, or a column is missing or misspelt. It
            lists the columns seen and the `column_map` to write.
        FileNotFoundError: `source` or `image_dir` does not exist, here or on the Hub.
        HubError: The Hub refuses the data set or cannot be reached; or `HF_HUB_OFFLINE=1` forbids to ask it and the
            cache does not hold this revision.
        ValueError: An unknown split or `on_error`, or a `revision` for a local source.
        TypeError: `source` is of another type, or arguments that its kind of source does not take.
    """
    policy = ErrorPolicy(on_error)
    if token is not None:
        load_kwargs["token"] = token
    if image_dir is not None and not Path(image_dir).expanduser().is_dir():
        raise FileNotFoundError(f"image_dir={os.fspath(image_dir)!r} is no folder (working directory: {Path.cwd()})")
    parts, label, top = _open(source, streaming, revision, load_kwargs)
    single = not isinstance(source, str | os.PathLike | Mapping)
    trusted = top is None and not isinstance(source, str | os.PathLike)

    from datasets import DatasetDict, IterableDataset, IterableDatasetDict, concatenate_datasets

    def folders_of(name: str) -> tuple[Path, ...] | None:
        part = parts[name]
        if image_dir is not None:
            return image_folders(Path(image_dir).expanduser(), name)
        if isinstance(part, FileSplit):
            places = dict.fromkeys([*(file.path.parent for file in part.files), top])
            return tuple(dict.fromkeys(folder for place in places for folder in image_folders(place, name)))
        return None if trusted else image_folders(top, name) if top is not None else ()

    is_whole = split is None and not single
    if is_whole:
        pieces = [(name, part, 0) for name, part in parts.items()]
    else:
        pieces = list(_select(split or next(iter(parts)), parts, label, streaming))
    folders = {name: folders_of(name) for name in parts}
    everywhere = [folder for some in folders.values() for folder in some or ()]
    table_ids = ChartIds(everywhere)
    stream_ids = ChartIds(everywhere, always_mark=sum(_shards(part, streaming) for _, part, _ in pieces) > 1)

    def prepare(name: str, part: Any, start: int) -> Dataset | IterableDataset:
        is_stream = isinstance(part, IterableDataset) or (streaming and isinstance(part, FileSplit))
        recipe = SplitReader(
            label,
            name,
            column_map,
            folders[name],
            on_error,
            max_pixels,
            require_answers,
            stream_ids if is_stream else table_ids,
            # A stream from the Hub, opened here or by the user, names its files there; records of files never may.
            from_hub=top is None and is_stream,
        )
        return convert(part, recipe, policy, start=start, streaming=streaming)

    chosen = [prepare(*piece) for piece in pieces]
    policy.report()
    if is_whole:
        result = dict(zip(parts, chosen, strict=True))
        is_stream = any(isinstance(part, IterableDataset) for part in chosen)
        return IterableDatasetDict(result) if is_stream else DatasetDict(result)
    return chosen[0] if len(chosen) == 1 else concatenate_datasets(chosen)


def _open(
    source: Any, streaming: bool, revision: str | None, load_kwargs: dict[str, Any]
) -> tuple[dict[str, Any], str, Path | None]:
    """`{split: FileSplit | Dataset | IterableDataset}`, what to call the source, and the folder of its images."""
    from datasets import Dataset, IterableDataset, load_dataset, load_from_disk

    if isinstance(source, Dataset | IterableDataset):
        source = {str(source.split or "train"): source}
    if isinstance(source, Mapping):
        if revision is not None or load_kwargs:
            raise TypeError(
                f"not for a loaded data set: {', '.join(['revision'] * (revision is not None) + [*load_kwargs])}"
            )
        for name, part in source.items():
            if not isinstance(part, Dataset | IterableDataset):
                raise TypeError(f"source[{name!r}] is a {type(part).__name__}, not a Dataset or IterableDataset")
        parts = {
            str(name): part.to_iterable_dataset() if streaming and isinstance(part, Dataset) else part
            for name, part in source.items()
        }
        return parts, "the given data set", None
    if not isinstance(source, str | os.PathLike):
        raise TypeError(
            f"source must be a path, the name of a data set or a loaded data set, not {type(source).__name__}"
        )
    name = os.fspath(source)
    path = Path(name).expanduser()
    if not path.exists():
        return (*_open_hub(name, streaming, revision, load_kwargs), None)
    if revision is not None:
        raise ValueError(f"revision={revision!r} is for data sets on the Hub; {name} is a local path")
    if path.is_dir() and is_saved_dataset(path):
        parts = load_from_disk(str(path))
        return (*_open(parts, streaming, None, {})[:1], name, path)
    top = top_folder(path)
    parts = find_splits(path if path.is_file() else top)
    if next(iter(parts.values())).is_parquet:
        files = {split: [str(file.path) for file in part.files] for split, part in parts.items()}
        parts = dict(load_dataset("parquet", data_files=files, streaming=streaming, **load_kwargs))
    elif unknown := set(load_kwargs) - {"cache_dir", "token", "num_proc"}:
        raise TypeError(f"load_chartqa got arguments that {name} has no use for: {', '.join(sorted(unknown))}")
    return parts, name, top


def _open_hub(
    name: str, streaming: bool, revision: str | None, load_kwargs: dict[str, Any]
) -> tuple[dict[str, Any], str]:
    here = f"{name!r} is no local file or folder (working directory: {Path.cwd()})"
    if Path(name).is_absolute() or re.match(r"[.~]|.*[\\]|.*/.*/|.*\.(jsonl?|csv|tsv|parquet|zip)$", name):
        raise FileNotFoundError(f"{here}, and no data set on the Hub has such a name")
    try:
        loaded = load_hub_dataset(name, revision=revision, streaming=streaming, **load_kwargs)
    except FileNotFoundError as error:
        status = getattr(error, "status", None)
        raise MissingDatasetError(f"{here}, and on the Hub: {error}", status=status) from error
    if not isinstance(loaded, Mapping):
        raise TypeError("pass split=... to load_chartqa itself, one name or an expression")
    return dict(loaded), name


def _shards(part: Any, streaming: bool) -> int:
    """How many pieces of a split are read independently of each other."""
    from datasets import IterableDataset

    if isinstance(part, FileSplit):
        return len(part.files) if streaming else 1
    return part.num_shards if isinstance(part, IterableDataset) else 1


def _select(expression: str, parts: Mapping[str, Any], label: str, streaming: bool) -> Iterator[tuple[str, Any, int]]:
    """The pieces of `"train+val[:10%]"`: split name, its (cut) records, the index of the first of them."""
    from datasets import Dataset, ReadInstruction

    for piece in str(expression).split("+"):
        match = re.fullmatch(r"\s*(.+?)\s*(\[.*\])?\s*", piece)
        wanted, cut = match.groups() if match else (piece, None)
        names = SPLIT_ALIASES if wanted in SPLIT_ALIASES else ()
        name = next((name for name in (wanted, *names) if name in parts), None)
        if name is None:
            raise ValueError(f"{label} has no split {wanted!r}; it has {', '.join(map(repr, parts))}")
        part, start = parts[name], 0
        if cut:
            if isinstance(part, Dataset):
                length = len(part)
            elif isinstance(part, FileSplit) and not streaming:
                length = sum(1 for file in part.files for _ in read_records(file.path))
            else:
                raise ValueError(f"split={piece!r}: a stream has no length to cut by; use .skip() and .take() on it")
            (bounds,) = ReadInstruction.from_spec(f"{name}{cut}").to_absolute({name: length})
            start, stop = bounds.from_ or 0, length if bounds.to is None else bounds.to
            part = (
                part.select(range(start, stop)) if isinstance(part, Dataset) else replace(part, start=start, stop=stop)
            )
        yield name, part, start
