"""Convert the raw records of one split to a `Dataset` or `IterableDataset` of canonical records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..printable import printable
from .cells import shorten
from .chart_ids import ChartIds
from .columns import FIRST_RECORDS, Columns, LayoutError, columns_of, find_columns, may_be_read
from .hub_datasets import explained_reading
from .hub_files import HubFiles
from .reading import read_records
from .record_errors import ErrorPolicy, OnError, RecordError, RecordProblem
from .record_files import FileSplit, RecordFile
from .records import RecordReader
from .stored_columns import ROWS_PER_READ, holds_images, row_restorer, rows_of, single_images, source_names

if TYPE_CHECKING:
    from datasets import Dataset, Features, IterableDataset

# Columns that may be known late, since records without one are read as if there were none.
_MAY_BE_LATE = ("question", "answer", "file", "chart_id", "question_type", "year", "paragraph", "task", "rationale")

# Where a record is, for messages, and the arguments of `RecordReader`.
Raw = tuple[str, tuple[Any, ...]]


@dataclass(frozen=True)
class SplitReader:
    """All settings for reading one split. Can be pickled.

    `folders` is as in `RecordReader`; `column_map`, `on_error`, `max_pixels` and `require_answers` are as in
    `load_chartqa`.
    """

    label: str  # what messages call the source
    split: str
    column_map: Mapping[str, str] | None
    folders: tuple[Path, ...] | None
    on_error: OnError
    max_pixels: int | None
    require_answers: bool
    ids: ChartIds  # shared by all splits that are not streams
    task: str | None = None  # of records that name none
    hub: HubFiles | None = None  # of a stream that may come from the Hub: the files that its records may name there

    def __deepcopy__(self, memo: dict[int, Any]) -> SplitReader:
        # `datasets` copies the arguments of a stream; a copied `on_error=errors.append` would fill another list.
        return self

    def columns(self, seen: list[str], where: str) -> Columns:
        """Match the columns `seen` with the canonical ones.

        Raises:
            LayoutError: A column is missing, or images are only named and there is no folder to find them in.
        """
        columns = find_columns(
            seen, self.column_map, where=where, require_answers=self.require_answers, task=self.task
        )
        if columns.image is None and not self.folders:
            raise LayoutError(
                f"{where}: the records name their images (column {columns.file!r}) but do not contain them; pass "
                "image_dir=<folder with the images> (the folder of the original ChartQA works as it is)"
            )
        return columns

    def columns_of_file(self, file: RecordFile) -> Columns:
        """Match the columns of a file of records."""
        records = read_records(file.path)
        seen = columns_of(records)
        if not seen:
            problem = next((record for record in read_records(file.path) if isinstance(record, str)), None)
            raise LayoutError(f"{file.path}: contains no records" + (f" ({problem})" if problem else ""))
        columns = self.columns(seen, str(file.path))
        if file.path.suffix.lower() != ".json":
            return columns
        # The other records of such a file have been parsed with the first ones.
        try:
            late = self.late_columns(columns_of(records, limit=None), columns, str(file.path))
        except LayoutError:
            return columns  # the record is named when it is read
        found: dict[str, Any] = {kind: name for kind, name in late.items() if kind in _MAY_BE_LATE}
        return replace(columns, **found, seen=(*columns.seen, *found.values()))

    def columns_of_stream(self, stream: IterableDataset) -> Columns:
        """Match the columns of a stream; its first record is read if it does not list its columns."""
        seen = stream.column_names or list(next(iter(stream), {}))
        return self.columns(seen, f"{self.label}, split {self.split!r}")

    def late_columns(self, names: Iterable[str], columns: Columns, where: str) -> dict[str, str]:
        """Return the columns among `names` that would be read, had they been seen when `columns` were chosen.

        Args:
            names: Columns of later records.
            columns: The columns of the first ones.
            where: What error messages call the source.

        Returns:
            Field of `columns`, which has none -> the source's column.

        Raises:
            LayoutError: One of them differs from an earlier one only in its spelling.
        """
        late = [name for name in names if may_be_read(name) and name not in columns.seen]
        if not late:
            return {}
        now = self.columns([*columns.seen, *late], where)
        missing = (field.name for field in fields(columns) if getattr(columns, field.name) is None)
        return {kind: name for kind in missing if (name := getattr(now, kind)) is not None}

    def record_reader(self, **options: Any) -> RecordReader:
        """Return a `RecordReader` with these settings; `options` replace them."""
        return RecordReader(
            folders=self.folders,
            max_pixels=self.max_pixels,
            require_answers=self.require_answers,
            hub=self.hub,
            **{"ids": self.ids, **options},
        )


def convert(
    records: FileSplit | Dataset | IterableDataset,
    split_reader: SplitReader,
    policy: ErrorPolicy,
    *,
    start: int,
    streaming: bool,
) -> Dataset | IterableDataset:
    """Convert the records of one split.

    Args:
        records: Files of records, or a loaded dataset.
        split_reader: The settings.
        policy: What happens to records that cannot be used; a stream has its own.
        start: The index of the first record in the whole split.
        streaming: Whether files of records become a stream.
    """
    from datasets import Dataset

    if isinstance(records, FileSplit):
        if streaming:
            return _stream_files(records, split_reader)
        return _convert_files(records, split_reader, policy)
    if isinstance(records, Dataset):
        return _convert_dataset(records, split_reader, policy, start)
    return _convert_stream(records, split_reader)


def canonical_features(extras: Iterable[str] = ()) -> Features:
    """Return the schema that `load_chartqa` documents, with the columns that only some layouts have."""
    from datasets import Features, Image, List, Value

    texts = {name: Value("string") for name in ("question", "answer", "source", "chart_id")}
    more = {name: List(Value("string")) if name == "year_flags" else Value("string") for name in extras}
    return Features({"image": Image(), **texts, **more})


def _read(
    raws: Iterable[Raw],
    read: Callable[..., dict[str, Any]],
    split_reader: SplitReader,
    policy: ErrorPolicy,
    start: int = 0,
) -> Iterator[dict[str, Any] | None]:
    """Yield canonical records, None for those that are dropped."""
    for index, (origin, arguments) in enumerate(raws, start):
        policy.seen[split_reader.split] += 1
        record: dict[str, Any] | None
        try:
            record = read(*arguments)
        except RecordProblem as problem:
            file, cause = problem.file or origin, f"{problem.cause} (in {origin})"
            policy.handle(RecordError(split_reader.split, index, file, problem.reason, cause))
            record = None
        yield record


def _progress(rows: Iterable[Any], split_reader: SplitReader, total: int | None = None) -> Iterable[Any]:
    from datasets.utils import tqdm

    return tqdm(rows, total=total, desc=f"Checking {printable(split_reader.split)}", unit=" records", delay=1)


def _table(records: Iterable[dict[str, Any]], features: Features, split: str) -> Dataset:
    """Return a `Dataset` in memory. It is packed in chunks, so that a record takes no more space than its text."""
    import pyarrow as pa
    from datasets import Dataset, DatasetInfo, NamedSplit
    from datasets.table import InMemoryTable

    schema = features.arrow_schema
    records = iter(records)
    chunks = iter(lambda: list(islice(records, 1000)), [])
    table = pa.concat_tables([schema.empty_table(), *(pa.Table.from_pylist(chunk, schema) for chunk in chunks)])
    return Dataset(InMemoryTable(table), info=DatasetInfo(features=features), split=NamedSplit(split))


# -------------------------------------------------------------------------------------------------- files of records


def _read_files(files: Iterable[tuple[RecordFile, Columns]], split_reader: SplitReader) -> Iterator[Raw]:
    chosen_by = f"the first {FIRST_RECORDS:,} records"
    for file, columns in files:
        records = _without_late_columns(read_records(file.path), columns, split_reader, chosen_by)
        for number, raw in enumerate(records):
            yield f"record {number} of {file.path}", (raw, columns, file.source)


def _without_late_columns(
    records: Iterable[dict[str, Any] | str], columns: Columns, split_reader: SplitReader, chosen_by: str
) -> Iterator[dict[str, Any] | str]:
    """Yield records; a str in place of one with a column that would be left out says so.

    Args:
        records: The records as they are stored.
        columns: The columns that are read.
        split_reader: The settings by which they were chosen.
        chosen_by: The records by which they were chosen, for messages.
    """
    known = set(columns.seen)
    for record in records:
        if isinstance(record, str) or record.keys() <= known:  # nearly every record
            yield record
            continue
        filled = [name for name, value in record.items() if value is not None]
        try:
            late = split_reader.late_columns(filled, columns, split_reader.label)
        except LayoutError as error:
            yield str(error)
            continue
        if late:
            name = shorten(next(iter(late.values())))
            yield (
                f"the column {name} first appears here, but the columns were chosen by {chosen_by}: write it there "
                "too, even if it is empty"
            )
            continue
        known.update(filled)
        yield record


def _with_columns(files: Iterable[RecordFile], split_reader: SplitReader) -> list[tuple[RecordFile, Columns]]:
    return [(file, split_reader.columns_of_file(file)) for file in files]


def _features_of_files(files: Iterable[tuple[RecordFile, Columns]]) -> Features:
    return canonical_features(dict.fromkeys(name for _, columns in files for name in columns.extras))


def _convert_files(split: FileSplit, split_reader: SplitReader, policy: ErrorPolicy) -> Dataset:
    files = _with_columns(split.files, split_reader)  # once: to know its columns, a JSON file is read to its end
    features = _features_of_files(files)
    raws = islice(_read_files(files, split_reader), split.start, split.stop)
    reader = split_reader.record_reader()
    records = _read(_progress(raws, split_reader), reader, split_reader, policy, split.start)
    dataset = _table((record for record in records if record is not None), features, split_reader.split)
    policy.check_something_left(split_reader.split)
    return dataset


# ---------------------------------------------------------------------------------------------------- loaded datasets


def _convert_dataset(dataset: Dataset, split_reader: SplitReader, policy: ErrorPolicy, start: int) -> Dataset:
    """Convert the texts; images inside the dataset are attached as they are stored (mapped from disk, not copied)."""
    from datasets import Image, concatenate_datasets

    dataset = dataset.with_format(None)
    columns = split_reader.columns(dataset.column_names, f"{split_reader.label}, split {split_reader.split!r}")
    features = canonical_features(columns.extras)
    image_column = columns.image if columns.image is not None and holds_images(dataset, columns.image) else None
    texts = features.copy()
    if image_column is not None:
        del texts["image"]
    empty = {name: [] if name == "year_flags" else "" for name in texts}
    kept: list[int] = []

    def rows() -> Iterator[dict[str, Any]]:
        reader = split_reader.record_reader(**source_names(dataset.features, columns))
        read = reader if image_column is None else _only_inside(reader)
        raws = _progress(_read_dataset(dataset, columns, split_reader), split_reader, len(dataset))
        for row, record in enumerate(_read(raws, read, split_reader, policy, start)):
            if record is not None:
                kept.append(row)
                yield {name: record[name] for name in texts}
            elif image_column is not None:
                yield empty  # keeps the texts aligned with their images until both are selected

    table = _table(rows(), texts, split_reader.split)
    policy.check_something_left(split_reader.split)
    if image_column is None:
        return table
    if len(dataset) == 0:
        return _table([], features, split_reader.split)
    images = single_images(dataset.select_columns([image_column]), image_column)
    images = images.rename_column(image_column, "image") if image_column != "image" else images
    result = concatenate_datasets([images.cast_column("image", Image()), table], axis=1, split=table.split)
    return result if len(kept) == len(dataset) else result.select(kept)


def _only_inside(reader: RecordReader) -> Callable[[Mapping[str, Any], Columns], dict[str, Any]]:
    """Return a reader that refuses paths in a column of stored images, as they would stay in it unchecked."""

    def read(raw: Mapping[str, Any], columns: Columns) -> dict[str, Any]:
        record = reader(raw, columns)
        if record["image"]["bytes"] is None:
            path = record["image"]["path"]
            raise RecordProblem("no image file", "it names a file, while other records contain their image", path)
        return record

    return read


def _read_dataset(dataset: Dataset, columns: Columns, split_reader: SplitReader) -> Iterator[Raw]:
    """Yield rows as they are stored: the Arrow format decodes no image."""
    restore = row_restorer(dataset.features, columns)
    for table in dataset.select_columns(columns.used).with_format("arrow").iter(batch_size=ROWS_PER_READ):
        for raw in rows_of(table):
            yield split_reader.label, (raw if isinstance(raw, str) else restore(raw), columns)


# ------------------------------------------------------------------------------------------------------------ streams


def _stream_files(split: FileSplit, split_reader: SplitReader) -> IterableDataset:
    files = _with_columns(split.files, split_reader)
    return _from_shards(files, split_reader, _features_of_files(files))


def _convert_stream(stream: IterableDataset, split_reader: SplitReader) -> IterableDataset:
    stream = stream.with_format(None)  # rows of pandas and Arrow are no dicts
    columns = split_reader.columns_of_stream(stream)
    if stream.features is not None:
        # In this order: `datasets` decodes images in threads of their own, as the last step of a stream, which only a
        # `decode` that comes directly after it removes.
        stream = stream.decode(False).select_columns(columns.used)
    number = stream.num_shards
    shards = [stream.shard(number, index) for index in range(number)] if number > 1 else [stream]
    # The columns of the whole stream: without features, a shard of its own may have others than the result.
    return _from_shards([(shard, columns) for shard in shards], split_reader, canonical_features(columns.extras))


def _from_shards(shards: list[tuple[Any, Columns]], split_reader: SplitReader, features: Features) -> IterableDataset:
    from datasets import IterableDataset, NamedSplit

    return IterableDataset.from_generator(
        _generate,
        features=features,
        # `datasets` distributes the entries of a list among workers and nodes.
        gen_kwargs={"shards": shards, "split_reader": split_reader},
        split=NamedSplit(split_reader.split),
    )


def _generate(shards: list[tuple[Any, Columns]], split_reader: SplitReader) -> Iterator[dict[str, Any]]:
    """Yield the canonical records of shards (files of records, or streams), then report what was dropped."""
    policy = ErrorPolicy(split_reader.on_error)
    ids = split_reader.ids.fresh()  # so that each pass assigns the same ids
    reader = split_reader.record_reader(ids=ids)
    raws: Iterable[Raw]
    try:
        for shard, columns in shards:
            if isinstance(shard, RecordFile):
                raws = _read_files([(shard, columns)], split_reader)
            else:
                reader = split_reader.record_reader(ids=ids, **source_names(shard.features, columns))
                raws = _named(_read_stream(shard, columns, split_reader), split_reader)
            yield from (record for record in _read(raws, reader, split_reader, policy) if record is not None)
    finally:
        policy.report()


def _read_stream(stream: IterableDataset, columns: Columns, split_reader: SplitReader) -> Iterator[Raw]:
    restore = row_restorer(stream.features, columns)
    records: Iterable[dict[str, Any]] = stream
    if split_reader.hub is not None:
        records = explained_reading(stream, split_reader.label)
    for raw in _without_late_columns(records, columns, split_reader, "the first record"):
        yield split_reader.label, (raw if isinstance(raw, str) else restore(raw), columns)


def _named(raws: Iterable[Raw], split_reader: SplitReader) -> Iterator[Raw]:
    """Yield the records of a stream; errors of a damaged Parquet file, which name no file, are explained."""
    from pyarrow import ArrowException

    try:
        yield from raws
    except (ArrowException, UnicodeDecodeError, OverflowError, OSError) as error:
        if isinstance(error, OSError) and (error.errno is not None or type(error) is not OSError):  # not Arrow's
            raise
        where = f"{split_reader.label}, split {split_reader.split!r}"
        raise LayoutError(f"{where}: the stream cannot be read to its end ({error})") from error
