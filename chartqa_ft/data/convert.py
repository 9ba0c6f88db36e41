"""The raw records of one split -> a `Dataset` or `IterableDataset` of canonical records, images untouched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .chart_ids import ChartIds
from .columns import Columns, LayoutError, columns_of, find_columns
from .hub_datasets import explained_reading
from .record_files import FileSplit, RecordFile, read_records
from .records import ErrorPolicy, RecordError, RecordProblem, RecordReader

if TYPE_CHECKING:
    from datasets import Dataset, Features, IterableDataset

# Rows whose images are in memory at a time while they are checked.
_CHECK_ROWS = 32

# What a message calls the place of a record, and the arguments of `RecordReader`.
Raw = tuple[str, tuple[Any, ...]]


@dataclass(frozen=True)
class SplitReader:
    """Everything that turns the raw records of one split into canonical ones; it pickles.

    `folders` is as in `RecordReader`, `column_map` to `require_answers` are as in `load_chartqa`.
    """

    label: str  # what messages call the source
    split: str
    column_map: Mapping[str, str] | None
    folders: tuple[Path, ...] | None
    on_error: str | Callable[[RecordError], None]
    max_pixels: int | None
    require_answers: bool
    ids: ChartIds  # shared by all splits that are tables
    from_hub: bool = False  # a stream that may come from the Hub, whose records name files there

    def __deepcopy__(self, memo: dict[int, Any]) -> SplitReader:
        return self  # `datasets` copies the arguments of a stream, and a user's `on_error=errors.append` with them

    def columns(self, seen: list[str], where: str) -> Columns:
        """Which of the columns `seen` is which."""
        columns = find_columns(seen, self.column_map, where=where, require_answers=self.require_answers)
        if columns.image is None and not self.folders:
            raise LayoutError(
                f"{where}: the records name their images (column {columns.file!r}) but do not hold them; pass "
                "image_dir=<folder with the images> (the folder of the original ChartQA works as it is)"
            )
        return columns

    def columns_of_file(self, file: RecordFile) -> Columns:
        seen = columns_of(read_records(file.path))
        if not seen:
            raise LayoutError(f"{file.path}: holds no records")
        return self.columns(seen, str(file.path))

    def columns_of_stream(self, stream: IterableDataset) -> Columns:
        seen = stream.column_names or list(next(iter(stream), {}))
        return self.columns(seen, f"{self.label}, split {self.split!r}")

    def reader(self, **options: Any) -> RecordReader:
        return RecordReader(
            folders=self.folders,
            max_pixels=self.max_pixels,
            require_answers=self.require_answers,
            from_hub=self.from_hub,
            **{"ids": self.ids, **options},
        )


def convert(
    part: FileSplit | Dataset | IterableDataset,
    recipe: SplitReader,
    policy: ErrorPolicy,
    *,
    start: int,
    streaming: bool,
) -> Dataset | IterableDataset:
    """The canonical data set of one split; `start` is the index of its first record in the whole split."""
    from datasets import Dataset

    if isinstance(part, FileSplit):
        return _stream_files(part, recipe) if streaming else _convert_files(part, recipe, policy)
    return _convert_dataset(part, recipe, policy, start) if isinstance(part, Dataset) else _stream(part, recipe)


def canonical_features(is_pro: bool = False) -> Features:
    """The schema that `load_chartqa` documents."""
    from datasets import Features, Image, List, Value

    texts = {name: Value("string") for name in ("question", "answer", "source", "chart_id")}
    pro = {"question_type": Value("string"), "year_flags": List(Value("string"))} if is_pro else {}
    return Features({"image": Image(), **texts, **pro})


def _canonical(
    raws: Iterable[Raw], read: RecordReader, recipe: SplitReader, policy: ErrorPolicy, start: int = 0
) -> Iterator[dict[str, Any] | None]:
    """Canonical records, None for those that are dropped."""
    for index, (origin, arguments) in enumerate(raws, start):
        policy.seen[recipe.split] += 1
        try:
            record = read(*arguments)
        except RecordProblem as problem:
            file, cause = problem.file or origin, f"{problem.cause} (in {origin})"
            policy.handle(RecordError(recipe.split, index, file, problem.reason, cause))
            record = None
        yield record


def _progress(rows: Iterable[Any], recipe: SplitReader, total: int | None = None) -> Iterable[Any]:
    from datasets.utils import tqdm

    return tqdm(rows, total=total, desc=f"Checking {recipe.split}", unit=" records", delay=1)


def _table(records: Iterable[dict[str, Any]], features: Features, split: str) -> Dataset:
    """A `Dataset` in memory, of texts and paths; packed as it goes, so that a record costs no more than its text."""
    import pyarrow as pa
    from datasets import Dataset, DatasetInfo, NamedSplit
    from datasets.table import InMemoryTable

    schema = features.arrow_schema
    records = iter(records)
    chunks = iter(lambda: list(islice(records, 1000)), [])
    table = pa.concat_tables([schema.empty_table(), *(pa.Table.from_pylist(chunk, schema) for chunk in chunks)])
    return Dataset(InMemoryTable(table), info=DatasetInfo(features=features), split=NamedSplit(split))


# ------------------------------------------------------------------------------------------------------ record files


def _read_files(files: Iterable[RecordFile], recipe: SplitReader) -> Iterator[Raw]:
    for file in files:
        columns = recipe.columns_of_file(file)
        for number, raw in enumerate(read_records(file.path)):
            yield f"record {number} of {file.path}", (raw, columns, file.source)


def _convert_files(part: FileSplit, recipe: SplitReader, policy: ErrorPolicy) -> Dataset:
    features = canonical_features(any(recipe.columns_of_file(file).is_pro for file in part.files))
    raws = islice(_read_files(part.files, recipe), part.start, part.stop)
    records = _canonical(_progress(raws, recipe), recipe.reader(), recipe, policy, part.start)
    dataset = _table((record for record in records if record is not None), features, recipe.split)
    policy.check_something_left(recipe.split)
    return dataset


# ----------------------------------------------------------------------------------------------------------- datasets


def _convert_dataset(dataset: Dataset, recipe: SplitReader, policy: ErrorPolicy, start: int) -> Dataset:
    """The images are attached as they are stored (mapped from disk, not copied); only the texts are built anew."""
    from datasets import Image, concatenate_datasets

    dataset = dataset.with_format(None)
    columns = recipe.columns(dataset.column_names, f"{recipe.label}, split {recipe.split!r}")
    features = canonical_features(columns.is_pro)
    is_inside = columns.image is not None and _holds_bytes(dataset, columns.image)
    texts = features.copy()
    if is_inside:
        del texts["image"]
    empty = {name: [] if name == "year_flags" else "" for name in texts}
    kept: list[int] = []

    def rows() -> Iterator[dict[str, Any]]:
        reader = recipe.reader(**_source_names(dataset.features, columns))
        raws = _progress(_read_dataset(dataset, columns, recipe), recipe, len(dataset))
        for row, record in enumerate(
            _canonical(raws, _Inside(reader) if is_inside else reader, recipe, policy, start)
        ):
            if record is not None:
                kept.append(row)
                yield {name: record[name] for name in texts}
            elif is_inside:
                yield empty  # keeps the texts beside their images until both are selected

    table = _table(rows(), texts, recipe.split)
    policy.check_something_left(recipe.split)
    if not is_inside or len(dataset) == 0:
        return _table([], features, recipe.split) if is_inside else table
    images = _first_of_lists(dataset.select_columns([columns.image]), columns.image)
    images = images.rename_column(columns.image, "image") if columns.image != "image" else images
    result = concatenate_datasets([images.cast_column("image", Image()), table], axis=1, split=table.split)
    return result if len(kept) == len(dataset) else result.select(kept)


class _Inside:
    """A reader for a column whose images are stored in it: a path there could not be told from the others later."""

    def __init__(self, reader: RecordReader) -> None:
        self.reader = reader

    def __call__(self, raw: Mapping[str, Any], columns: Columns) -> dict[str, Any]:
        record = self.reader(raw, columns)
        if record["image"]["bytes"] is None:
            path = record["image"]["path"]
            raise RecordProblem("no image file", "it names a file where other records hold their image", path)
        return record


def _read_dataset(dataset: Dataset, columns: Columns, recipe: SplitReader) -> Iterator[Raw]:
    """Rows as they are stored: the Arrow format decodes no image."""
    restore = _restorer(dataset.features, columns)
    for table in dataset.select_columns(columns.used).with_format("arrow").iter(batch_size=_CHECK_ROWS):
        for raw in table.to_pylist():
            yield recipe.label, (restore(raw), columns)


def _restorer(features: Features | None, columns: Columns) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A function that gives the answer of a row back what its storage took: the name of a class, the shortest digits
    of a 32-bit float (0.1 is 0.10000000149011612 in Python's 64 bits)."""
    feature = (features or {}).get(columns.answer)
    names, dtype = getattr(feature, "names", None), getattr(feature, "dtype", "")
    if names is None and dtype not in ("float16", "float32"):
        return lambda raw: raw

    def restore(raw: dict[str, Any]) -> dict[str, Any]:
        import numpy as np

        value = raw[columns.answer]
        if value is not None:
            raw = {**raw, columns.answer: names[value] if names else float(str(np.dtype(dtype).type(value)))}
        return raw

    return restore


def _is_list(feature: Any) -> bool:
    return isinstance(feature, list) or type(feature).__name__ in ("List", "LargeList", "Sequence")


def _holds_bytes(dataset: Dataset, column: str) -> bool:
    """Whether the images are stored in the column; decided by its first image."""
    for table in dataset.select_columns([column]).with_format("arrow").iter(batch_size=1):
        value = table.to_pylist()[0][column]
        value = value[0] if isinstance(value, list) and value else value
        if value is not None and value != []:
            return isinstance(value, bytes) or (isinstance(value, dict) and value.get("bytes") is not None)
    return False


def _first_of_lists(images: Dataset, column: str) -> Dataset:
    """A column of lists of one image -> a column of images (copied by `datasets`, in its cache)."""
    from datasets import Features, Image

    if not _is_list(images.features[column]):
        return images
    features = Features({column: Image(decode=False)})

    def first(table: Any) -> Any:
        import pyarrow as pa

        rows = [(value or [None])[0] for value in table[column].to_pylist()]
        rows = [{"bytes": row, "path": None} if isinstance(row, bytes) else row for row in rows]
        return pa.Table.from_pylist([{column: row} for row in rows], features.arrow_schema)

    return (
        images.with_format("arrow")
        .map(first, batched=True, batch_size=_CHECK_ROWS, features=features)
        .with_format(None)
    )


def _source_names(features: Features | None, columns: Columns) -> dict[str, Any]:
    feature = (features or {}).get(columns.source)
    return {"source_names": tuple(feature.names)} if hasattr(feature, "names") else {}


# ------------------------------------------------------------------------------------------------------------ streams


def _stream_files(part: FileSplit, recipe: SplitReader) -> IterableDataset:
    features = canonical_features(any(recipe.columns_of_file(file).is_pro for file in part.files))
    return _from_shards(list(part.files), recipe, features)


def _stream(stream: IterableDataset, recipe: SplitReader) -> IterableDataset:
    columns = recipe.columns_of_stream(stream)
    if stream.features is not None:
        stream = stream.select_columns(columns.used).decode(False)
    number = stream.num_shards
    shards = [stream.shard(number, index) for index in range(number)] if number > 1 else [stream]
    return _from_shards(shards, recipe, canonical_features(columns.is_pro))


def _from_shards(shards: list[Any], recipe: SplitReader, features: Features) -> IterableDataset:
    from datasets import IterableDataset, NamedSplit

    # `datasets` deals the entries of a list among workers and nodes.
    return IterableDataset.from_generator(
        _generate, features=features, gen_kwargs={"shards": shards, "recipe": recipe}, split=NamedSplit(recipe.split)
    )


def _generate(shards: list[Any], recipe: SplitReader) -> Iterator[dict[str, Any]]:
    """The canonical records of some shards: record files, or streams. What was dropped is reported when they end."""
    policy = ErrorPolicy(recipe.on_error)
    ids = recipe.ids.fresh()  # each pass gives the same ids
    reader = recipe.reader(ids=ids)
    try:
        for shard in shards:
            if isinstance(shard, RecordFile):
                raws = _read_files([shard], recipe)
            else:
                columns = recipe.columns_of_stream(shard)
                reader = recipe.reader(ids=ids, **_source_names(shard.features, columns))
                restore = _restorer(shard.features, columns)
                rows = explained_reading(shard, recipe.label) if recipe.from_hub else shard
                raws = ((recipe.label, (restore(raw), columns)) for raw in rows)
            yield from (record for record in _canonical(raws, reader, recipe, policy) if record is not None)
    finally:
        policy.report()
