"""The data sets that users give to a trainer, as records that are read by number or as a stream.

Everything else in this room reads records through `as_records`, so that lists, `datasets` with or without a format or
transform, PyTorch data sets and streams behave alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import Any, TypeGuard

import datasets
from datasets.features.features import require_decoding
from PIL.Image import Image as PillowImage
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset

from ..adapters.text import describe, has_answer
from ..data.chart_groups import chart_ids, check_chart_id
from ..data.columns import LayoutError, find_columns
from ..data.hub_files import HubFiles, fetched
from ..data.stored_columns import column_values
from ..images.opening import decoded, snapshot
from ..resources import is_out_of_memory, same_kind

_HOW = "Load it with load_chartqa, which knows the columns of published data sets"


class Records(Dataset):
    """Records that code makes when they are read: by a transform of `datasets`, a PyTorch data set, or a list's
    subclass.

    A record holds its picture as it was when it was read, even if the code draws on the same image, or writes the same
    file, for the next record.

    Args:
        data: has a length, and a record for every number.
        name: what error messages call the data set.
    """

    def __init__(self, data: Any, name: str) -> None:
        self.data, self.name = data, name

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return read_record(self.data[row], f"{self.name}[{row}]")


class RecordStream(IterableDataset):
    """Records that are read in order, each with its picture as it was when it was read.

    Args:
        data: is iterated anew in every epoch.
        name: what error messages call the data set.
    """

    def __init__(self, data: Any, name: str) -> None:
        self.data, self.name = data, name
        features = getattr(data, "features", None) or {}
        # `datasets` decodes an image anew for every record, so that no copy is needed.
        self._copies = not isinstance(features.get("image"), datasets.Image)
        self._decoded: dict[str, Any] = {}
        self._hub: HubFiles | None = None
        if isinstance(data, datasets.IterableDataset):
            self._decoded = {name: feature for name, feature in features.items() if require_decoding(feature)}
        if self._decoded:
            self.data = data.decode(False)
            self._hub = HubFiles(name, dict(getattr(data, "_token_per_repo_id", None) or {}))

    @property
    def decoder(self) -> StreamDecoder | None:
        """Decodes a record of `stored`; `None` if its records are as they are."""
        return StreamDecoder(self._decoded, self._hub) if self._hub is not None else None

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration, if the data set has epochs."""
        if hasattr(self.data, "set_epoch"):
            self.data.set_epoch(epoch)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        decoder = self.decoder
        for number, record in enumerate(self.stored()):
            opened = record if decoder is None else decoder(record)
            yield read_record(opened, self.place(number), copy=self._copies)

    def place(self, number: int) -> str:
        """Return how error messages name a record by its number."""
        return f"record {number} of {self.name}"

    def stored(self) -> Iterator[Any]:
        """Yield the records without decoding their images, which `keep` and then `decoder` do for those in use."""
        yield from self.data

    def keep(self, record: Any, number: int) -> dict[str, Any]:
        """Return a copy of a record of `stored` that later changes of its picture or its file do not reach."""
        kept = read_record(record, self.place(number), copy=False)
        # An image that `datasets` has decoded (for a filter, for instance) belongs to this record alone. The records
        # of a data set on the Hub may name no local file: the decoder says so.
        named_on_hub = self._hub is not None and bool(self._hub.tokens)
        if self._copies or not (named_on_hub or isinstance(kept["image"], PillowImage)):
            kept["image"] = snapshot(kept["image"])
        return kept


class StreamDecoder:
    """Decodes the columns of a record of a stream that `datasets` would decode. It can be sent to workers.

    Plain images are opened by this library, see `opened`.

    Args:
        features: the features of the columns to decode, by name.
        hub: the files on the Hub that a record may name.
    """

    def __init__(self, features: Mapping[str, Any], hub: HubFiles) -> None:
        self.plain = decodes_plainly(features.get("image"))
        self.others = datasets.Features({n: f for n, f in features.items() if not (self.plain and n == "image")})
        self.hub = hub

    def __call__(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return a record with its images decoded; what is decoded already stays as it is."""
        stored = {name: value for name, value in record.items() if not isinstance(value, PillowImage)}
        others = {name: stored[name] for name in self.others if name in stored}
        decoded_record = {**record, **self.others.decode_example(others, token_per_repo_id=dict(self.hub.tokens))}
        if self.plain and "image" in stored:
            decoded_record["image"] = opened(stored["image"], self.hub)
        return decoded_record


def decodes_plainly(feature: Any) -> TypeGuard[datasets.Image]:
    """Return whether a column of `datasets` holds images that it decodes without changing them."""
    return type(feature).__name__ == "Image" and feature.decode and feature.mode is None


def with_content(image: Any, hub: HubFiles | None = None) -> Any:
    """Return a stored image, with the content of its file if that has an address (`https://`, `zip://`).

    Args:
        image: a dict of `bytes` and `path`, or `None`.
        hub: the files on the Hub that a record may name, if it comes from there.

    Raises:
        OSError, ValueError: the file cannot be read, or a record of a data set on the Hub names a file elsewhere.
    """
    path = None if image is None or image["bytes"] is not None else image["path"]
    if path is not None and hub is not None and hub.tokens and not hub.names(path):
        raise ValueError(f"the record names the image {path!r}, which is not in {' or '.join(hub.tokens)}")
    if path is None or "://" not in path:
        return image
    return {"bytes": hub.read(path) if hub is not None and hub.names(path) else fetched(path), "path": path}


def opened(image: Any, hub: HubFiles | None = None) -> Any:
    """Return the PIL image of a stored one; see `with_content` and `images.opening.decoded`."""
    return None if image is None else decoded(with_content(image, hub))


def as_records(data: Any, name: str = "the data set", *, answers: bool = False) -> Any:
    """Return the records of a data set, after checking what can be checked without reading all of them.

    Args:
        data: a `datasets.Dataset` or `IterableDataset`, with or without a format or a transform; a list of dicts; a
            PyTorch data set whose items are dicts; or another object with such items. A format (`"torch"`,
            `"pandas"`, ...) is ignored, because it only changes how stored values are returned.
        name: what error messages call the data set.
        answers: whether the records need a column of answers.

    Returns:
        A `datasets.Dataset` without a format or a list of dicts, where nothing stands between the stored record and
        its reader; else `Records`, or `RecordStream` if there is no length.

    Raises:
        TypeError: `data` is not a data set, or its items are not dicts.
        ValueError: `data` holds several splits, can be read only once, or lacks a column.

    Example:
        >>> as_records([{"image": "a.png", "query": "How many?", "answer": "3"}], "train_dataset")
        Traceback (most recent call last):
        ...
        ValueError: train_dataset[0] has no 'question', but the columns 'image', 'query', 'answer'. Load it with \
load_chartqa, which knows the columns of published data sets, or rename 'query' to 'question'.
    """
    if isinstance(data, (Records, RecordStream)):
        return data
    if isinstance(data, type):
        raise TypeError(f"{name} is the class {data.__name__}, not a data set: pass one that is loaded or created")
    if isinstance(data, datasets.Dataset):
        return _of_dataset(data, name, answers)
    if isinstance(data, datasets.IterableDataset):
        if data.column_names is not None:
            check_columns(data.column_names, name, answers=answers)
        return RecordStream(data.with_format(None), name)
    if type(data) in (list, tuple):
        for row, record in enumerate(data):
            check_record(record, f"{name}[{row}]", answers=answers)
        return data
    _refuse_others(data, name)
    if hasattr(data, "__len__") and not isinstance(data, IterableDataset):
        if not hasattr(data, "__getitem__"):
            return as_records(list(data), name, answers=answers)
        return _checked(Records(data, name), answers)
    return RecordStream(data, name)


def is_stream(data: Any) -> bool:
    """Return whether a data set has records in an order of its own and no length."""
    return isinstance(data, (IterableDataset, datasets.IterableDataset)) or not hasattr(data, "__len__")


def _of_dataset(data: datasets.Dataset, name: str, answers: bool) -> Any:
    if data.format["type"] == "custom":
        return _checked(Records(data, f"{name} (with its transform)"), answers)
    check_columns(data.column_names, name, answers=answers)
    return data.with_format(None)


def _checked(records: Records, answers: bool) -> Records:
    if len(records):
        try:
            record = records.data[0]
        except (KeyError, IndexError, TypeError, AttributeError, NotImplementedError) as error:
            raise TypeError(
                f"{records.name} is a {type(records.data).__name__}, and reading its record 0 failed "
                f"({type(error).__name__}: {error}). Pass a list of dicts, a datasets.Dataset (there is "
                "Dataset.from_pandas), or a PyTorch data set whose items are dicts with the columns image, question "
                "and answer"
            ) from error
        check_record(record, f"{records.name}[0]", answers=answers)
    return records


def _refuse_others(data: Any, name: str) -> None:
    if isinstance(data, (str, bytes, Path)):
        raise TypeError(f"{name} is {data!r}, the name of a data set: pass {name}=load_chartqa({str(data)!r})[split]")
    if isinstance(data, Mapping):
        keys = [str(key) for key in data]
        if isinstance(data.get("question"), str):
            raise TypeError(f"{name} is a single record: pass {name}=[record]")
        if {"image", "question"} <= set(keys):
            raise TypeError(f"{name} is a dict of columns: pass {name}=datasets.Dataset.from_dict(...)")
        raise ValueError(
            f"{name} is a {type(data).__name__} of {', '.join(map(repr, keys)) or 'nothing'}: pass one of its data "
            f"sets, such as {name}=data[{keys[0] if keys else 'train'!r}]"
        )
    if isinstance(data, Iterator):
        raise ValueError(
            f"{name} is a {type(data).__name__}, which can be read only once, and every epoch and evaluation reads "
            "it anew: pass a list of its records, or datasets.IterableDataset.from_generator(function)"
        )
    if not isinstance(data, Iterable) and not hasattr(data, "__getitem__"):
        raise TypeError(
            f"{name} is a {type(data).__name__}, not a data set: pass a list of dicts, a datasets.Dataset or a "
            "PyTorch data set"
        )


def read_record(record: Any, where: str, *, copy: bool = True) -> dict[str, Any]:
    """Return a copy of a record, with its picture copied too if `copy`.

    Raises:
        TypeError: it is not a dict.
        ValueError: it has no image or no question.
    """
    check_record(record, where)
    # By __getitem__, which a dict's subclass may define.
    read = {name: record[name] for name in record}
    if copy:
        read["image"] = snapshot(read["image"])
    return read


def check_record(record: Any, where: str, *, answers: bool = False) -> None:
    """Check that a record is a dict with an image and a question, and an answer if `answers`.

    Raises:
        TypeError: it is not a dict, or its `chart_id` cannot be compared with others.
        ValueError: a column is missing.
    """
    if not isinstance(record, Mapping):
        raise TypeError(
            f"{where} is a {type(record).__name__}, not a dict with image, question and answer. Pass a list of dicts, "
            "a datasets.Dataset or a PyTorch data set whose items are dicts"
        )
    check_columns(record, where, answers=answers)
    if "chart_id" in record:
        check_chart_id(record["chart_id"], where)


def check_columns(columns: Iterable[str], where: str, *, answers: bool = False) -> None:
    """Check the columns of a data set or a record; see `check_record`.

    Raises:
        ValueError: a column is missing, or answers stand in a column of another name.
    """
    seen = {str(name): None for name in columns}
    needed = ("image",) if "task" in seen else ("image", "question")  # a task may need no question
    missing = [name for name in needed if name not in seen]
    wrong = [*missing, "answer"] if "answer" not in seen else missing
    if not wrong or (wrong == ["answer"] and not answers and _other_name(seen, "answer") is None):
        return
    found = {name: _other_name(seen, name) for name in wrong}
    renamed = [f"{theirs!r} to {name!r}" for name, theirs in found.items() if theirs is not None]
    rename = f", or rename {' and '.join(renamed)}" if renamed else ""
    raise ValueError(
        f"{where} has no {' and no '.join(map(repr, wrong))}, but the columns "
        f"{', '.join(map(repr, seen)) or '(none)'}. {_HOW}{rename}."
    )


def _other_name(seen: Mapping[str, None], name: str) -> str | None:
    """Return the column that published data sets use for a canonical one."""
    # The columns that are not asked for stand under names that are always found.
    others = [f"{column}" for column in ("image", "question", "answer") if column != name]
    try:
        return getattr(find_columns([*others, *(c for c in seen if c not in others)], None, where=""), name)
    except LayoutError:
        return None


def has_answers(data: Any) -> bool:
    """Return whether records can be scored: a hidden test set has no answers, or empty ones.

    The records are asked as they are handed out, up to the first one with an answer: a transform may make answers, and
    0 and `False` are answers. The columns of a stream decide where they are known.

    Example:
        >>> record = {"image": "a.png", "question": "How many?"}
        >>> has_answers([record]), has_answers([{**record, "answer": ""}]), has_answers([{**record, "answer": 0}])
        (False, False, True)
    """
    records = as_records(data)
    if isinstance(records, datasets.Dataset):
        return "answer" in records.column_names and any(
            _may_have_answer({"answer": answer}) for answer in column_values(records, "answer")
        )
    columns = getattr(getattr(records, "data", None), "column_names", None)
    if isinstance(records, RecordStream) and columns is not None:
        return "answer" in columns
    if isinstance(records, Records):  # without their pictures, which are copied
        return any(_may_have_answer(records.data[row]) for row in range(len(records)))
    return any(_may_have_answer(record) for record in records)


def _may_have_answer(record: Mapping[str, Any]) -> bool:
    """Return whether a record has an answer, be it one that is refused by name when it is used."""
    try:
        return has_answer(record)
    except ValueError:
        return True


def column(data: Any, name: str) -> list[Any]:
    """Return one column of a map-style data set as its records hand it out, `None` where a record lacks it.

    Example:
        >>> column([{"image": "a.png", "question": "?", "source": "human"}], "source")
        ['human']
    """
    records = as_records(data)
    if isinstance(records, datasets.Dataset):
        return list(column_values(records, name)) if name in records.column_names else [None] * len(records)
    return [record.get(name) for record in (records[row] for row in range(len(records)))]


def first_records(data: Any, number: int) -> list[Mapping[str, Any]]:
    """Return the first records of a data set, fewer if it has fewer. A stream is read anew.

    Example:
        >>> len(first_records([{"image": "a.png", "question": "?"}], 4))
        1
    """
    records = as_records(data)
    if isinstance(records, RecordStream):
        return list(islice(readable(records), number))
    feature = (getattr(records, "features", None) or {}).get("image")
    is_stored = False
    if isinstance(records, datasets.Dataset) and decodes_plainly(feature):
        records, is_stored = records.cast_column("image", replace(feature, decode=False)), True
    return [read_row(records, row, opens=is_stored) for row in range(min(number, len(records)))]


def read_row(records: Any, row: int, *, opens: bool = False) -> Any:
    """Return a record of a map-style data set, with its stored image opened if `opens`.

    Raises:
        ValueError: It cannot be read, because its image is damaged, for instance; the message names the record.
    """
    try:
        record = records[row]
        return {**record, "image": opened(record["image"])} if opens else record
    except Exception as error:  # decoders and users' transforms may raise anything
        raise unreadable(records, row, error) from error


def readable(stream: Iterable[Any]) -> Iterator[Any]:
    """Yield the records of a stream.

    Raises:
        ValueError: One cannot be read; the message says after which record.
    """
    records = iter(stream)
    last: Any = None
    for number in count():
        try:
            record = next(records)
        except StopIteration:
            return
        except Exception as error:
            place = "the first record" if last is None else f"record {number}, after {describe(last)},"
            if is_out_of_memory(error):
                raise same_kind(error, f"no memory to read {place} of the stream ({error})") from error
            raise ValueError(f"{place} of the stream cannot be read ({type(error).__name__}: {error})") from error
        last = record
        yield record


def unreadable(records: Any, row: int, error: Exception) -> Exception:
    """Return an error that names the record which cannot be read: a `ValueError`, or that of the memory."""
    texts, file = {}, None
    try:  # what can be read without its image
        if hasattr(records, "remove_columns"):
            stored = records.with_format("arrow")[row : row + 1]
            image = stored["image"][0].as_py() if "image" in stored.column_names else None
            file = image.get("path") if isinstance(image, dict) else None
            texts = stored.select([c for c in ("chart_id", "question") if c in stored.column_names]).to_pylist()[0]
    except Exception:
        texts = {}
    name = f"row {row}, {describe(texts)}" if texts else f"row {row}"
    at = f", image {file!r}" if file else ""
    if is_out_of_memory(error):
        return same_kind(error, f"{name}{at}: no memory to read the record ({error})")
    return ValueError(
        f"{name}{at}, cannot be read ({type(error).__name__}: {error}): correct or drop the record. "
        "load_chartqa(..., on_error='skip') leaves out files that are damaged"
    )


def hinted_chart_ids(data: Any) -> Sequence[Any] | None:
    """Return the `chart_id` of every record as it is stored, or `None` if it is not known without reading records.

    A transform may hand out other pictures: these ids say only which records should be read together.
    """
    if isinstance(data, Records):
        data = data.data
    if isinstance(data, datasets.Dataset):
        if "chart_id" not in data.column_names:
            return None
        stored = list(column_values(data, "chart_id"))
        for row, chart in enumerate(stored):
            check_chart_id(chart, f"row {row}")
        return stored
    if type(data) in (list, tuple):
        return chart_ids(data)
    if isinstance(data, Subset):
        ids = hinted_chart_ids(data.dataset)
        return None if ids is None else [ids[row] for row in data.indices]
    if isinstance(data, ConcatDataset):
        parts = [hinted_chart_ids(part) for part in data.datasets]
        return None if None in parts else [chart for part in parts for chart in part or ()]
    return None
