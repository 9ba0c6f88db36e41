"""Load any layout of ChartQA, and a user's own charts, as one schema with checked records and lazy images."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..files import repeated
from ..images.check import DEFAULT_MAX_PIXELS
from ..printable import printable_errors
from .cells import shorten
from .chart_ids import ChartIds
from .columns import LayoutError
from .convert import SplitReader, convert
from .hub_datasets import MissingDatasetError, load_hub_dataset
from .hub_files import HubFiles
from .reading import read_records
from .real_paths import check_links, nearest_path
from .record_errors import ErrorPolicy, RecordError
from .record_files import (
    SPLIT_ALIASES,
    FileSplit,
    find_splits,
    image_folders,
    is_saved_dataset,
    top_folder,
)
from .saved_datasets import check_saved_dataset
from .stored_columns import check_no_transform
from .tables import TABLE_TASK, table_splits

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

__all__ = ["load_chartqa"]


@printable_errors()
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
    task: str | None = None,
    **load_kwargs: Any,
) -> DatasetDict | Dataset | IterableDatasetDict | IterableDataset:
    """Load charts with questions from any copy of ChartQA, or from your own files, as one checked schema.

    The result has exactly these columns, whatever they are called in the source:

    | column     | type             | content                                                                   |
    |------------|------------------|---------------------------------------------------------------------------|
    | `image`    | `datasets.Image` | the chart, decoded only when a row is read                                |
    | `question` | `str`            | the question as it is written in the source                               |
    | `answer`   | `str`            | the answer; a list is one text in ChartQA's notation, `"[2017, 2023]"`    |
    | `source`   | `str`            | `"human"`, `"augmented"` or `"unknown"`                                   |
    | `chart_id` | `str`            | the image's file name, else a digest of its bytes; one for each chart     |

    If different charts have the same name (`train/png/1.png` and `val/png/1.png`), a digest of the content follows the
    name: `"1.png#..."`. A stream of several splits or shards cannot know all names, so it adds the digest to every
    name except those of image files.

    Records may name their task in a column `task` (`str`, `"qa"` where it is empty); records of other tasks than `qa`
    and `open_qa` need no question. A column `rationale` (`str`) is kept too: see `with_rationales`. A clone of OpenCQA
    gives records of `open_qa` with the abstractive answers, and a part of Chart-to-Text (`statista_dataset/dataset`)
    records of `summary`.

    With `task="table"`, the records are those of tables: one for each `tables/<chart>.csv` beside `png/<chart>.png` of
    the original folder (or of a folder of the same form), and for other sources one for each record, whose column
    `table` or `answer` holds a table: a text in any linearization that `parse_table` reads
    (`ahmed-masry/unichart-table-data` has Markdown), the name of a CSV file, or in JSON a list of rows, a list of
    dicts or `{"header": [...], "rows": [[...], ...]}`. `answer` is then the table with a row per line and cells
    divided by `|`.

    ChartQAPro keeps two more columns that its metric needs: `question_type` (`str`) and `year_flags` (`list[str]`, YES
    or NO). A dialogue becomes one row, as in its official evaluation: the last question is asked, `question` starts
    with the paragraph (if any) and the earlier turns with their answers, and `answer` is the last answer.

    Your own data can look like this (`charts.json`, or the same as JSON lines, CSV, TSV or Parquet, next to the
    images; a CSV file may use `;` or tabs between its columns):

    ```json
    [
      {"imgname": "sales.png", "query": "What was sold most?", "label": "Tea"},
      {"imgname": "sales.png", "query": "How many cups of tea?", "label": 120}
    ]
    ```

    Load it with `load_chartqa("charts.json")`; with other column names, `load_chartqa("charts.json",
    column_map={"image": "picture", "question": "text", "answer": "value"})`. A label that is a number becomes its
    plain text, and a list of one label becomes that label. `source` comes from a column (`source`, `type`,
    `human_or_machine`) or from the file's name (`test_human.json`).

    Layouts are recognized by their files and columns, never by a name: the original folder (with or without tables, or
    one split of it), `HuggingFaceM4/ChartQA`, `lmms-lab/ChartQA`, `ahmed-masry/ChartQA` (raw bytes),
    `ahmed-masry/chartqa_without_images` with `image_dir`, ChartQAPro, OpenCQA, Chart-to-Text, an image
    folder with `metadata.csv` or `metadata.jsonl`, a folder of Parquet files, a folder written by `save_to_disk`.

    A column must be in one of the first 1,000 records of a file, and in the first record of a stream without features:
    a record with a column that comes too late to be read is an error. (In JSON, unlike JSON lines, most may be late.)

    Every record is checked in one pass that decodes no pixels, see `RecordError`. An image is checked once, or again
    if its next question comes thousands of charts later. Damage inside the compressed pixels only shows when the row
    is read. A stream is checked while it is read; images that a stream from the Hub only names are fetched then, and
    must be files of its own repository.

    Args:
        source: A file or folder, a dataset on the Hugging Face Hub, or a loaded `Dataset`, `DatasetDict`,
            `IterableDataset`, `IterableDatasetDict` (or a dict of datasets).
        split: One split by its name in the source (`"val"`, `"validation"`, `"valid"` and `"dev"` mean the same), or
            an expression such as `"test[:100]"`, `"val[50%:]"`, `"train+val"`. None loads all splits into a dict.
        image_dir: The folder that image names are relative to; required if records only name their images. It may
            contain the folders of the original layout (`<split>/png/`, `png/`, `images/`). The default for files is
            the folder of the file. Paths must not lead out of it, nor links in it; the folder itself may be a link.
        column_map: `{canonical column: the source's column}` for columns that are not recognized. `image` may be a
            column of images, of bytes or of file names.
        streaming: Return an `IterableDataset` that reads and checks while it is iterated. Shuffle it, not the source.
        on_error: `"raise"`; `"skip"` drops records that cannot be used and logs one warning with how many and why; a
            function does the same and is called with every `RecordError`. A stream warns at the end of each shard.
        revision: Branch, tag or commit on the Hub.
        token: Hub token; None uses the one that is logged in.
        max_pixels: Largest width x height of a chart (default: the limit of Pillow's own warning); None for no limit.
            Above twice the default, Pillow itself refuses to decode unless `PIL.Image.MAX_IMAGE_PIXELS` is raised.
        require_answers: False gives records without an answer (a hidden test set) the answer `""`.
        task: The task of records that name none, such as `"table"` or `"summary"`, for a result with a column `task`.
        **load_kwargs: Passed to `datasets.load_dataset` where it is used (the Hub, Parquet): `cache_dir`, ...

    Returns:
        A `DatasetDict` or `IterableDatasetDict` with the source's split names; one dataset if `split` is given or
        `source` is one. The order of the records is the source's; human questions come first in the original layout.

    Raises:
        RecordError: With `on_error="raise"`: a record has no image file, an unreadable, truncated or too large image,
            an image narrower than 1:50 (image processors fail on it), a path that leaves `image_dir`, an empty
            question, no answer, several answers, or is malformed. It names split, index, file and cause. With
            `"skip"`: no record of a split is left.
        LayoutError: No records are found, a file cannot be read as a whole, a link leads out of the folder, or a
            column is missing or misspelled. It lists the columns found and the `column_map` to write.
        FileNotFoundError: `source` or `image_dir` does not exist, locally or on the Hub.
        HubError: The Hub refuses access or cannot be reached; or `HF_HUB_OFFLINE=1` is set and the cache does not hold
            this revision.
        ValueError: An unknown split or `on_error`, a `revision` for a local source, or a loaded dataset with a
            transform (`with_transform`).
        TypeError: `source` has another type, or an argument does not apply to its kind of source.

    Example:
        >>> import json, tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from chartqa_ft import load_chartqa
        >>> folder = Path(tempfile.mkdtemp())
        >>> Image.new("RGB", (32, 24)).save(folder / "sales.png")
        >>> records = [{"imgname": "sales.png", "query": "How many cups of tea?", "label": 120}]
        >>> _ = (folder / "charts.json").write_text(json.dumps(records))
        >>> dataset = load_chartqa(folder / "charts.json", split="train")
        >>> dataset["answer"][0], dataset["source"][0], dataset["chart_id"][0], dataset[0]["image"].size
        ('120', 'unknown', 'sales.png', (32, 24))
    """
    from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict, concatenate_datasets

    policy = ErrorPolicy(on_error)
    _check_arguments(source, split, image_dir, max_pixels, streaming=streaming, require_answers=require_answers)
    if task is not None and (not isinstance(task, str) or not task.isidentifier()):
        raise ValueError(f"task must be the name of a task, such as 'table', not {task!r}")
    if token is not None:
        load_kwargs["token"] = token
    if image_dir is not None:
        image_dir = Path(image_dir).expanduser()
        if not image_dir.is_dir():
            near = nearest_path(image_dir)
            raise FileNotFoundError(
                f"image_dir={str(image_dir)!r} is not a folder (working directory: {Path.cwd()})"
                f"{f': did you mean {near!r}?' if near else ''}"
            )
    opened = _open(source, streaming, revision, load_kwargs, task)
    if split is not None or isinstance(source, Dataset | IterableDataset):
        selections = list(_select(next(iter(opened.splits)) if split is None else split, opened, streaming))
    else:
        selections = [_Selection(name, records, 0) for name, records in opened.splits.items()]

    is_trusted = not isinstance(source, str | os.PathLike)  # the user's own dataset may name any file
    folders = {
        name: _folders(name, records, opened.folder, image_dir, is_trusted) for name, records in opened.splits.items()
    }
    all_folders = [folder for some in folders.values() for folder in some or ()]
    table_ids = ChartIds(all_folders)
    shards = sum(_num_shards(selection.records, streaming) for selection in selections)
    stream_ids = ChartIds(all_folders, always_add_digest=shards > 1)

    converted = []
    for selection in selections:
        is_stream = isinstance(selection.records, IterableDataset)
        is_stream |= streaming and isinstance(selection.records, FileSplit)
        split_reader = SplitReader(
            label=opened.label,
            split=selection.split,
            column_map=column_map,
            folders=folders[selection.split],
            on_error=on_error,
            max_pixels=max_pixels,
            require_answers=require_answers,
            task=task,
            ids=stream_ids if is_stream else table_ids,
            # A stream from the Hub, opened here or by the user, names its files there; records in files must not.
            hub=_hub_files(source, selection.records, load_kwargs) if opened.folder is None and is_stream else None,
        )
        converted.append(convert(selection.records, split_reader, policy, start=selection.start, streaming=streaming))
    policy.report()
    if split is None and not isinstance(source, Dataset | IterableDataset):
        result = dict(zip(opened.splits, converted, strict=True))
        is_stream = any(isinstance(dataset, IterableDataset) for dataset in converted)
        return IterableDatasetDict(result) if is_stream else DatasetDict(result)
    return converted[0] if len(converted) == 1 else concatenate_datasets(converted)


def _check_arguments(source: Any, split: Any, image_dir: Any, max_pixels: Any, **switches: Any) -> None:
    """Refuse arguments that would be taken for others: an empty path is the working folder, "false" is true."""
    from datasets import NamedSplit

    for name, path in (("source", source), ("image_dir", image_dir)):
        if isinstance(path, str) and not path.strip():
            raise ValueError(f"{name} is empty: pass a path ('.' for the working directory)")
    if image_dir is not None and not isinstance(image_dir, str | os.PathLike):
        raise TypeError(f"image_dir must be the path of a folder, not {image_dir!r}")
    if split is not None and not isinstance(split, str | NamedSplit):
        raise TypeError(f"split must be a name or an expression such as 'test[:100]', not {split!r}")
    if max_pixels is not None:
        if isinstance(max_pixels, bool) or not isinstance(max_pixels, int | float):
            raise TypeError(f"max_pixels must be a number of pixels or None, not {max_pixels!r}")
        if not max_pixels >= 1:
            raise ValueError(f"max_pixels must be at least 1, or None for no limit, not {max_pixels!r}")
    for name, value in switches.items():
        if not isinstance(value, bool):
            raise TypeError(f"{name} must be True or False, not {value!r}")


# ------------------------------------------------------------------------------------------------------- open a source


class _Source(NamedTuple):
    """The splits of a source that has been opened."""

    splits: dict[str, Any]
    """`FileSplit`, `Dataset` or `IterableDataset` by name."""
    label: str
    """What messages call the source."""
    folder: Path | None
    """The folder of its images; None for the Hub and for loaded datasets."""


def _open(
    source: Any, streaming: bool, revision: str | None, load_kwargs: dict[str, Any], task: str | None
) -> _Source:
    from datasets import Dataset

    if not isinstance(source, str | os.PathLike):
        return _open_loaded(source, streaming, revision, load_kwargs)
    name = os.fspath(source)
    path = Path(name).expanduser()
    if not path.exists():
        return _open_hub(name, streaming, revision, load_kwargs)
    if revision is not None:
        raise ValueError(f"revision={revision!r} is for datasets on the Hub; {name} is a local path")
    if task == TABLE_TASK and path.is_dir() and not is_saved_dataset(path):
        records = table_splits(top_folder(path))
        if records:
            _check_unused(load_kwargs, name)
            tables = {split: Dataset.from_list(rows) for split, rows in records.items()}
            return _open_loaded(tables, streaming, None, {})._replace(label=name, folder=top_folder(path))
    return _open_local(path, name, streaming, load_kwargs)


def _open_loaded(source: Any, streaming: bool, revision: str | None, load_kwargs: dict[str, Any]) -> _Source:
    from datasets import Dataset, IterableDataset

    is_one = isinstance(source, Dataset | IterableDataset)
    if is_one:
        # A part of a split is called "train[:10%]", and several "train+test": the name is that of the first split.
        source = {re.split(r"[+\[]", str(source.split or "train"))[0]: source}
    if not isinstance(source, Mapping):
        raise TypeError(
            f"source must be a path, the name of a dataset or a loaded dataset, not {type(source).__name__}"
        )
    if revision is not None or load_kwargs:
        names = [*(["revision"] if revision is not None else []), *load_kwargs]
        raise TypeError(f"arguments that do not apply to a loaded dataset: {', '.join(names)}")
    if not source:
        raise LayoutError("source has no splits: it is empty")
    splits = {}
    for name, dataset in source.items():
        if not isinstance(dataset, Dataset | IterableDataset):
            raise TypeError(f"source[{name!r}] is a {type(dataset).__name__}, not a Dataset or IterableDataset")
        is_table = isinstance(dataset, Dataset)
        if is_table:
            check_no_transform(dataset, "source" if is_one else f"source[{name!r}]")
        splits[str(name)] = dataset.to_iterable_dataset() if streaming and is_table else dataset
    return _Source(splits, "the given dataset", None)


def _open_local(path: Path, name: str, streaming: bool, load_kwargs: dict[str, Any]) -> _Source:
    from datasets import load_dataset, load_from_disk
    from datasets.exceptions import DatasetGenerationError
    from pyarrow import ArrowException

    if path.is_dir() and is_saved_dataset(path):
        _check_unused(load_kwargs, name)
        check_links(path)
        check_saved_dataset(path)
        try:
            saved = load_from_disk(str(path))
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise LayoutError(
                f"{path} has a dataset_dict.json or state.json, as save_to_disk writes them, but cannot be read as "
                f"a dataset ({type(error).__name__}: {error}): save it again, or remove the file if it is another's"
            ) from error
        loaded = _open_loaded(saved, streaming, None, {})
        return loaded._replace(label=name, folder=path)
    folder = top_folder(path)
    splits: dict[str, Any] = dict(find_splits(path if path.is_file() else folder))
    if next(iter(splits.values())).is_parquet:
        # `datasets` takes names of files for patterns.
        files = {split: [glob.escape(str(file.path)) for file in found.files] for split, found in splits.items()}
        try:
            splits = dict(load_dataset("parquet", data_files=files, streaming=streaming, **load_kwargs))
        except (DatasetGenerationError, ArrowException, OSError, RecursionError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # not Arrow's, which has none
                raise
            raise _parquet_error([file.path for found in splits.values() for file in found.files], error) from error
    else:
        _check_unused(load_kwargs, name)
    return _Source(splits, name, folder)


def _check_unused(load_kwargs: Mapping[str, Any], name: str) -> None:
    """Refuse arguments that have no effect on a local source: they may be misspelled."""
    unknown = set(load_kwargs) - {"cache_dir", "token", "num_proc"}
    if unknown:
        raise TypeError(f"load_chartqa got arguments that do not apply to {name}: {', '.join(sorted(unknown))}")


def _parquet_error(paths: Sequence[Path], error: Exception) -> LayoutError:
    """Return an error that names the first file that cannot be read, or all files if each alone can."""
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    rows = 0
    for path in paths:
        try:
            with ParquetFile(path) as file:
                rows += file.metadata.num_rows
                names = file.schema_arrow.names
        except (ArrowException, OSError) as cause:
            return LayoutError(f"{path}: not a readable Parquet file ({cause})")
        if len(set(names)) < len(names):
            name = repeated(names) or ""
            return LayoutError(
                f"{path}: {names.count(name)} columns are called {shorten(name)}; rename or remove all but one"
            )
    shown = ", ".join(map(str, paths[:5]))
    if not rows:
        return LayoutError(f"{shown}: contains no records")
    return LayoutError(f"{shown}: cannot be read together as Parquet ({error.__cause__ or error})")


def _open_hub(name: str, streaming: bool, revision: str | None, load_kwargs: dict[str, Any]) -> _Source:
    missing = f"{name!r} is not a local file or folder (working directory: {Path.cwd()})"
    if Path(name).is_absolute() or re.match(r"[.~]|.*[\\]|.*/.*/|.*\.(jsonl?|csv|tsv|parquet|zip)$", name):
        near = nearest_path(name)
        raise FileNotFoundError(
            f"{missing}, nor can it be the name of a dataset on the Hub{f' (did you mean {near!r}?)' if near else ''}"
        )
    try:
        loaded = load_hub_dataset(name, revision=revision, streaming=streaming, **load_kwargs)
    except FileNotFoundError as error:
        status = getattr(error, "status", None)
        raise MissingDatasetError(f"{missing}, and on the Hub: {error}", status=status) from error
    if not isinstance(loaded, Mapping):
        raise TypeError("pass split= to load_chartqa as one name or an expression")
    return _Source(dict(loaded), name, None)


def _folders(
    split: str, records: Any, folder: Path | None, image_dir: Path | None, is_trusted: bool
) -> tuple[Path, ...] | None:
    """Return the folders where a split's image files may be, None if they may be anywhere."""
    if image_dir is not None:
        return image_folders(image_dir, split)
    if folder is None:
        # A stream that `datasets` has opened on the Hub is a stranger's, whoever hands it over.
        return None if is_trusted and not getattr(records, "_token_per_repo_id", None) else ()
    tops = [folder]
    if isinstance(records, FileSplit):
        tops = [*(file.path.parent for file in records.files), folder]
    return tuple(
        dict.fromkeys(place for top in dict.fromkeys(tops) for place in image_folders(top, split, within=folder))
    )


def _hub_files(source: Any, stream: Any, load_kwargs: Mapping[str, Any]) -> HubFiles:
    """Return the files on the Hub that the records of a stream may name: those of the data set that it comes from."""
    if isinstance(source, str | os.PathLike):
        return HubFiles(os.fspath(source), {os.fspath(source): load_kwargs.get("token")})
    # `datasets` notes where a stream comes from; it notes nothing for a stream that the user has made.
    return HubFiles("the given dataset", dict(getattr(stream, "_token_per_repo_id", None) or {}))


def _num_shards(records: Any, streaming: bool) -> int:
    """Return how many parts of a split are read independently of each other."""
    from datasets import IterableDataset

    if isinstance(records, FileSplit):
        return len(records.files) if streaming else 1
    return records.num_shards if isinstance(records, IterableDataset) else 1


# --------------------------------------------------------------------------------------------------- select its splits


class _Selection(NamedTuple):
    """Records of one split, all or a range of them."""

    split: str
    records: Any
    """`FileSplit`, `Dataset` or `IterableDataset`."""
    start: int
    """The index of the first of them in the whole split."""


def _select(expression: str, source: _Source, streaming: bool) -> Iterator[_Selection]:
    """Yield the selections of an expression such as `"train+val[:10%]"`."""
    from datasets import Dataset, ReadInstruction

    for term in str(expression).split("+"):
        match = re.fullmatch(r"\s*(.+?)\s*(\[.*\])?\s*", term)
        wanted, bounds = match.groups() if match else (term, None)
        aliases = SPLIT_ALIASES if wanted in SPLIT_ALIASES else ()
        name = next((name for name in (wanted, *aliases) if name in source.splits), None)
        if name is None:
            raise ValueError(f"{source.label} has no split {wanted!r}; it has {', '.join(map(repr, source.splits))}")
        records = source.splits[name]
        if not bounds:
            yield _Selection(name, records, 0)
            continue
        if isinstance(records, Dataset):
            length = len(records)
        elif isinstance(records, FileSplit) and not streaming:
            length = sum(1 for file in records.files for _ in read_records(file.path))
        else:
            raise ValueError(f"split={term!r}: a stream has no length to slice by; use .skip() and .take() on it")
        try:
            (absolute,) = ReadInstruction.from_spec(f"{name}{bounds}").to_absolute({name: length})
        except (ValueError, AssertionError) as error:
            raise ValueError(
                f"split={term!r} cannot be read ({error}); slices are like 'test[:100]', 'test[50%:]' or 'test[-10:]'"
            ) from error
        start, stop = absolute.from_ or 0, length if absolute.to is None else absolute.to
        if isinstance(records, Dataset):
            yield _Selection(name, records.select(range(start, stop)), start)
        else:
            yield _Selection(name, replace(records, start=start, stop=stop), start)
