"""Streams in batches: every rank reads all records and decodes only its own, in its worker processes if it has any.

A stream has one order, which depends neither on the number of ranks nor on the number of workers. Shards are therefore
not dealt to ranks and workers: they have unequal lengths, and `take`, `skip` and `interleave_datasets` choose other
records where shards are read apart. The process of each rank reads the stored records and sends them to its workers in
turn, as a sampler sends row numbers. Reading a stored record takes a small part of the time of decoding its image, and
a resumed run reads up to its place in the same way.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from torch.utils.data import Dataset, Sampler

from ..adapters.text import describe
from .records import RecordStream, StreamDecoder, check_record, readable
from .rows import ROW_KEY, RowKey

logger = logging.getLogger(__name__)

_SHOWN = 3
"""Number of records that are left out whose reasons are logged."""
_PLACES = 1024
"""Number of places that are remembered: more than the batches that any loader fetches ahead."""


class StreamRow(NamedTuple):
    """A row of a stream on its way from the sampler to the process that decodes it."""

    key: RowKey
    record: Any
    """The stored record, pickled for a worker; `None` for a row of another rank."""


class StreamPlace(NamedTuple):
    """How far a stream was read in an epoch, and a digest of what was read."""

    rows: int
    digest: str


class StreamSampler(Sampler[StreamRow]):
    """Read a stream as rows with their `RowKey`s; the position in the stream is the row.

    Every `batch_size` rows are a batch, and ranks get the batches in turn. On several ranks, filler rows complete the
    last round of batches, so that all ranks get the same number of batches and no question counts twice. They also
    complete the last optimizer step: `Trainer` does not know where a stream ends, and would add the gradients of an
    incomplete step to the first one of the next epoch.

    Args:
        records: The stream.
        batch_size: Rows of one batch on one rank.
        accumulation: Batches of one optimizer step on one rank.
        num_replicas: Number of ranks.
        rank: Number of this rank. Rows of other ranks have no record.
        drop_last: Leave out the last, incomplete round of batches instead of completing it.
        pickled: Whether records are pickled, for workers.
        find_bad: Returns what is wrong with a record that is to be left out, and `None` for others. Records that are
            left out are not counted as rows.

    Raises:
        ValueError: A record cannot be read, or be sent to a worker; no record can be used; or the stream gives other
            records than before a resume (see `expect`).

    Example:
        >>> from datasets import Dataset
        >>> from chartqa_ft.batching.records import as_records
        >>> rows = [{"image": f"{row}.png", "question": "How many?"} for row in range(5)]
        >>> stream = as_records(Dataset.from_list(rows).to_iterable_dataset())
        >>> sampler = StreamSampler(stream, batch_size=2, num_replicas=2, rank=1)
        >>> [row.key.row for row in sampler], [row.key.counts for row in sampler]
        ([0, 1, 2, 3, 4, 3, 3, 3], [True, True, True, True, True, False, False, False])
        >>> [row.record and row.record["image"] for row in sampler]
        [None, None, '2.png', '3.png', None, '3.png', '3.png', '3.png']
    """

    def __init__(
        self,
        records: RecordStream,
        *,
        batch_size: int,
        accumulation: int = 1,
        num_replicas: int = 1,
        rank: int = 0,
        drop_last: bool = False,
        pickled: bool = False,
        find_bad: Callable[[Mapping[str, Any]], str | None] | None = None,
    ) -> None:
        self.accumulation, self.find_bad = accumulation, find_bad
        self.records, self.batch_size, self.num_replicas, self.rank = records, batch_size, num_replicas, rank
        self.drop_last, self.pickled, self.epoch = drop_last, pickled, 0
        self.batches_in_epoch: int | None = None
        """The number of batches of each rank in the current epoch; `None` until its end was read."""
        self.first_place: StreamPlace | None = None
        """The place after the first batch of every rank in the current epoch."""
        self._places: OrderedDict[int, StreamPlace] = OrderedDict()
        self._expected: tuple[int, StreamPlace, bool] | None = None
        self._end: tuple[Any, StreamPlace] = None, StreamPlace(0, "")
        """What filler rows show, and the place at the stream's end, once it was reached."""

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration, also on the stream of records if it has one."""
        self.epoch = epoch
        self.records.set_epoch(epoch)

    def place(self, batches: int) -> StreamPlace | None:
        """Return the place after so many batches of each rank in the current epoch; `None` if it was not read yet."""
        return self._places.get(batches)

    def expect(self, epoch: int, place: StreamPlace, *, strict: bool = True) -> None:
        """Compare what is read up to a place with what was read before a resume.

        Args:
            epoch: The epoch of the place.
            place: The place at which the run goes on.
            strict: Whether a difference is an error; otherwise a warning.
        """
        self._expected = epoch, place, strict

    def __iter__(self) -> Iterator[StreamRow]:
        round_size, held = self.batch_size * self.num_replicas, []
        if not self.drop_last:
            yield from self._rows()
        else:
            for row in self._rows():
                held.append(row)
                if len(held) == round_size:
                    yield from held
                    held = []
        yield from self._fillers()

    def _rows(self) -> Iterator[StreamRow]:
        epoch, number, round_size = self.epoch, 0, self.batch_size * self.num_replicas
        digest = hashlib.blake2b(digest_size=16)
        self._places.clear()
        self.first_place = self.batches_in_epoch = None
        spare: Any = None  # this rank's last row, or the first one of the stream: what filler rows show
        for number, record in enumerate(self._good_records(), start=1):
            key = RowKey(number - 1, epoch, True)
            digest.update(repr([_text(record.get(name)) for name in ("chart_id", "question", "answer")]).encode())
            own = key.row // self.batch_size % self.num_replicas == self.rank
            kept = self._keep(record, key.row) if own or (key.row == 0 and self.num_replicas > 1) else None
            if kept is not None:
                spare = StreamRow(key._replace(counts=False), kept)
            self._check(epoch, number, digest, at=number)
            if number % round_size == 0:
                self._note(number // round_size, StreamPlace(number, digest.hexdigest()))
            yield StreamRow(key, kept if own else None)
        self._check(epoch, number, digest)
        self._end = spare, StreamPlace(number, digest.hexdigest())

    def _good_records(self) -> Iterator[Any]:
        """Yield the records of the stream, without those that are to be left out, which are counted."""
        number = bad = 0
        for number, record in enumerate(readable(self.records.stored()), start=1):
            check_record(record, self.records.place(number - 1))
            reason = None if self.find_bad is None else self.find_bad(record)
            if reason is None:
                yield record
                continue
            bad += 1
            if bad <= _SHOWN and self.epoch == 0 and self.rank == 0:
                logger.warning("%s is left out: %s", self.records.place(number - 1), reason)
        if bad and bad == number:
            raise ValueError(
                f"none of the {number} records of {self.records.name} can be used, the last one: {reason}"
            )
        if bad and self.epoch == 0 and self.rank == 0:
            logger.warning("%d of %d records of %s were left out", bad, number, self.records.name)

    def _fillers(self) -> Iterator[StreamRow]:
        """Return the filler rows after the stream has ended, and note its end."""
        spare, end = self._end
        round_size = self.batch_size * self.num_replicas
        rounds = end.rows // round_size if self.drop_last else -(-end.rows // round_size)
        missing = -rounds % self.accumulation
        self.batches_in_epoch = rounds + missing
        for number in range(end.rows // round_size + 1, rounds + missing + 1):
            self._note(number, end)
        in_last_round = 0 if self.drop_last or (self.num_replicas == 1 and not missing) else -end.rows % round_size
        yield from [spare] * (in_last_round + missing * round_size)

    def _keep(self, record: Any, number: int) -> Any:
        kept = self.records.keep(record, number)
        if not self.pickled:
            return kept
        try:
            # A record that the loader's own thread could not pickle would never arrive, and the loader wait forever.
            return pickle.dumps(kept, protocol=pickle.HIGHEST_PROTOCOL)
        except Exception as error:  # a column may hold anything
            raise ValueError(
                f"{self.records.place(number)} cannot be sent to a worker process ({type(error).__name__}: {error}): "
                "drop the column, or set dataloader_num_workers=0"
            ) from error

    def _note(self, batches: int, place: StreamPlace) -> None:
        self.first_place = self.first_place or place
        self._places[batches] = place
        if len(self._places) > _PLACES:
            self._places.popitem(last=False)

    def _check(self, epoch: int, rows: int, digest: Any, at: int | None = None) -> None:
        """Compare what was read with what is expected, at the expected place or, without `at`, at the end."""
        if self._expected is None or self._expected[0] != epoch or at not in (None, self._expected[1].rows):
            return
        (_, place, strict), self._expected = self._expected, None
        if (rows, digest.hexdigest()) == place:
            return
        message = (
            f"{self.records.name} gives other records than before the checkpoint, among the first {place.rows} of "
            f"epoch {epoch}: it was shuffled without a seed or with another one, or its files have changed"
        )
        if strict:
            raise ValueError(
                f"{message}. Pass a seed to shuffle and interleave_datasets, and the data of the first run; or accept "
                "that some records are read twice and others not at all with allow_inexact_resume=True"
            )
        logger.warning("%s. Some are read twice, and others not at all (allow_inexact_resume=True)", message)


class StreamRows(Dataset):
    """A map-style dataset that is indexed by the rows of a `StreamSampler`, and decodes them.

    Args:
        decoder: The decoder of the stream's records, if they need one.
    """

    def __init__(self, decoder: StreamDecoder | None) -> None:
        self.decoder = decoder

    def __getitem__(self, row: StreamRow) -> dict[str, Any]:
        record = pickle.loads(row.record) if isinstance(row.record, bytes) else row.record
        if self.decoder is not None:
            record = _decoded(self.decoder, record, row.key.row)
        return {**record, ROW_KEY: row.key}


def _decoded(decoder: StreamDecoder, record: Mapping[str, Any], number: int) -> dict[str, Any]:
    try:
        return decoder(dict(record))
    except Exception as error:  # decoders may raise anything
        raise ValueError(
            f"record {number} of the stream, {describe(record)}, cannot be read ({type(error).__name__}: {error}): "
            "correct or drop the record. load_chartqa(..., on_error='skip') leaves out files that are damaged"
        ) from error


def _text(value: Any) -> Any:
    """Return a value if its `repr` is the same in another process, else the name of its type."""
    return value if isinstance(value, (str, int, float)) or value is None else type(value).__name__
