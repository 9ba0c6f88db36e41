"""Streams in batches: each row once, in one order, on any number of ranks and workers, decoded where it is used."""

from __future__ import annotations

import io
import logging
import os
import tracemalloc
from collections import Counter
from pathlib import Path

import datasets
import pytest
import torch
from accelerate import skip_first_batches
from accelerate.data_loader import prepare_data_loader
from datasets import Dataset, Features, IterableDataset, Value, concatenate_datasets, interleave_datasets, load_dataset
from PIL import Image, ImageFile

from chartqa_ft import load_chartqa
from chartqa_ft.batching import streams
from chartqa_ft.batching.loader import chart_loader
from chartqa_ft.batching.records import as_records
from chartqa_ft.batching.rows import ROW_KEY
from chartqa_ft.batching.streams import StreamPlace, StreamSampler
from chartqa_ft.data.hub_files import HubFiles

NUMBER = 11
FEATURES = Features({"image": datasets.Image(), **dict.fromkeys(("question", "answer", "chart_id"), Value("string"))})


def picture(number: int) -> Image.Image:
    return Image.new("RGB", (number + 3, 5), (20 * number, 0, 255 - 20 * number))


def png(number: int) -> bytes:
    out = io.BytesIO()
    picture(number).save(out, "PNG")
    return out.getvalue()


def row(number: int, image=None) -> dict:
    stored = {"bytes": png(number), "path": None} if image is None else image
    return {"image": stored, "question": f"Q {number}?", "answer": str(number), "chart_id": f"{number}.png"}


def rows(shards=(range(NUMBER),)):
    for shard in shards:
        yield from map(row, shard)


def table(numbers=range(NUMBER)) -> Dataset:
    return Dataset.from_list([row(number) for number in numbers], features=FEATURES)


def plain(folder: Path) -> IterableDataset:
    return table().to_iterable_dataset()


def tables_in_shards(folder: Path) -> IterableDataset:
    return table().to_iterable_dataset(num_shards=4)


def generated_in_shards(folder: Path) -> IterableDataset:
    shards = [range(0, 1), range(1, 7), range(7, 7), range(7, NUMBER)]
    return IterableDataset.from_generator(rows, features=FEATURES, gen_kwargs={"shards": shards})


def generated_without_features(folder: Path) -> IterableDataset:
    return IterableDataset.from_generator(rows)


def pictures_without_features(folder: Path) -> IterableDataset:
    return IterableDataset.from_generator(lambda: (row(number, picture(number)) for number in range(NUMBER)))


def one_parquet_file(folder: Path) -> IterableDataset:
    table().to_parquet(folder / "train.parquet")
    return load_dataset("parquet", data_files=str(folder / "train.parquet"), split="train", streaming=True)


def loaded_from_parquet(folder: Path) -> IterableDataset:
    for number, part in enumerate((range(5), range(5, NUMBER))):
        table(part).to_parquet(folder / f"train-{number}.parquet")
    return load_chartqa(folder, split="train", streaming=True)


def mapped(folder: Path) -> IterableDataset:
    return plain(folder).map(lambda record: {"question": record["question"].lower()}, features=FEATURES)


def mapped_in_batches(folder: Path) -> IterableDataset:
    return plain(folder).map(lambda batch: {"question": [q.lower() for q in batch["question"]]}, batched=True)


def filtered(folder: Path) -> IterableDataset:
    return plain(folder).filter(lambda record: int(record["answer"]) % 3 > 0)


def interleaved(folder: Path) -> IterableDataset:
    parts = [table(range(7)).to_iterable_dataset(), table(range(7, NUMBER)).to_iterable_dataset()]
    return interleave_datasets(parts, probabilities=[0.6, 0.4], seed=1, stopping_strategy="all_exhausted")


def concatenated(folder: Path) -> IterableDataset:
    return concatenate_datasets([plain(folder), table(range(3)).to_iterable_dataset()])


def taken_and_skipped(folder: Path) -> IterableDataset:
    return tables_in_shards(folder).skip(2).take(7)


def repeated(folder: Path) -> IterableDataset:
    return plain(folder).repeat(2)


def shuffled(folder: Path) -> IterableDataset:
    return tables_in_shards(folder).shuffle(seed=3, buffer_size=4)


def decoded_by_threads(folder: Path) -> IterableDataset:
    return plain(folder).decode(num_threads=2)


def never_decoded(folder: Path) -> IterableDataset:
    return plain(folder).decode(False)


def in_gray(folder: Path) -> IterableDataset:
    return plain(folder).cast_column("image", datasets.Image(mode="L"))


def with_a_format(folder: Path) -> IterableDataset:
    return plain(folder).with_format("numpy")


def two_pictures(folder: Path) -> IterableDataset:
    thumbs = Dataset.from_dict({"thumb": [png(n) for n in range(NUMBER)]}, features=Features(thumb=datasets.Image()))
    return concatenate_datasets([table(), thumbs], axis=1).to_iterable_dataset()


class OwnStream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return rows()


def of_torch(folder: Path) -> OwnStream:
    return OwnStream()


STREAMS = [
    plain,
    tables_in_shards,
    generated_in_shards,
    generated_without_features,
    pictures_without_features,
    one_parquet_file,
    loaded_from_parquet,
    mapped,
    mapped_in_batches,
    filtered,
    interleaved,
    concatenated,
    taken_and_skipped,
    repeated,
    shuffled,
    decoded_by_threads,
    never_decoded,
    in_gray,
    with_a_format,
    two_pictures,
    of_torch,
]


def loaders(stream, ranks: int = 1, workers: int = 0, *, batch_size: int = 2, **changes) -> list:
    """The loader of every rank, as accelerate prepares it."""
    return [
        prepare_data_loader(
            chart_loader(
                as_records(stream),
                list,
                batch_size=batch_size,
                num_replicas=ranks,
                rank=rank,
                group_by_chart=True,
                shuffle=False,
                seed=0,
                num_workers=workers,
                **{"drop_last": False, "accumulation": 1, **changes},
            ),
            num_processes=ranks,
            process_index=rank,
        )
        for rank in range(ranks)
    ]


def in_order(batches_of_ranks: list[list[list[dict]]]) -> list[dict]:
    """The records of all ranks in the order of the stream, with the fillers left out."""
    assert len({len(batches) for batches in batches_of_ranks}) == 1, "every rank has the same number of batches"
    return [
        record
        for together in zip(*batches_of_ranks, strict=True)
        for batch in together
        for record in batch
        if record[ROW_KEY].counts
    ]


def seen(record: dict) -> tuple:
    image = record["image"]
    if isinstance(image, dict):
        image = Image.open(io.BytesIO(image["bytes"]))
    if hasattr(image, "__array__") and not isinstance(image, Image.Image):
        image = Image.fromarray(image)
    assert isinstance(record.get("thumb", image), Image.Image)
    return record["question"], image.size, image.getpixel((0, 0))


@pytest.fixture
def decoded(monkeypatch, tmp_path) -> Path:
    """A file with the width of every image file that is decoded, in whichever process."""
    log, load = tmp_path / "decoded", ImageFile.ImageFile.load

    def counted(self):
        if self.tile:  # not yet decoded
            with open(log, "a") as file:
                file.write(f"{os.getpid()} {self.width}\n")
        return load(self)

    monkeypatch.setattr(ImageFile.ImageFile, "load", counted)
    log.touch()
    return log


@pytest.mark.parametrize("make", STREAMS, ids=lambda make: make.__name__)
def test_each_row_once_in_one_order(tmp_path, make):
    wanted = [seen(record) for record in make(tmp_path)]
    assert len(wanted) >= 7
    for ranks, workers, batch_size in ((1, 0, 2), (2, 0, 2), (3, 0, 3), (2, 0, 50)):
        stream = make(tmp_path)
        found = in_order([list(loader) for loader in loaders(stream, ranks, workers, batch_size=batch_size)])
        assert [seen(record) for record in found] == wanted
        assert [record[ROW_KEY].row for record in found] == list(range(len(wanted)))


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(
    ("ranks", "batch_size", "accumulation"), [(1, 2, 2), (1, 1, 3), (2, 1, 4), (2, 2, 3), (3, 1, 2)]
)
def test_batches_of_fillers_complete_the_last_optimizer_step(tmp_path, ranks, batch_size, accumulation, drop_last):
    number = len(list(plain(tmp_path)))
    readers = loaders(plain(tmp_path), ranks, batch_size=batch_size, accumulation=accumulation, drop_last=drop_last)
    batches = [list(loader) for loader in readers]
    round_size = ranks * batch_size
    kept = number - number % round_size if drop_last else number
    assert [record[ROW_KEY].row for record in in_order(batches)] == list(range(kept))
    steps = -(-kept // (round_size * accumulation))
    assert {len(of_rank) for of_rank in batches} == {steps * accumulation}


@pytest.mark.parametrize("make", [loaded_from_parquet, pictures_without_features, of_torch])
def test_workers_share_the_rows_of_their_rank(tmp_path, make):
    wanted = [seen(record) for record in make(tmp_path)]
    for ranks, workers in ((1, 2), (2, 2)):
        found = in_order([list(loader) for loader in loaders(make(tmp_path), ranks, workers)])
        assert [seen(record) for record in found] == wanted


def test_a_row_is_decoded_once_and_only_by_the_worker_that_uses_it(tmp_path, decoded):
    stream = loaded_from_parquet(tmp_path)
    batches = [list(loader) for loader in loaders(stream, 2, 2)]
    processes, widths = zip(*(line.split() for line in decoded.read_text().splitlines()), strict=True)
    # 11 rows in batches of 2 on 2 ranks: rank 1 gets one row that only completes its last batch.
    assert len(widths) == 12
    assert set(Counter(widths).values()) == {1, 2}
    assert len(set(processes)) == 4
    assert str(os.getpid()) not in processes
    assert [record["image"].width for record in in_order(batches)] == [number + 3 for number in range(NUMBER)]


def test_a_filter_that_needs_no_pixels_can_leave_them_encoded(tmp_path, decoded):
    stream = never_decoded(tmp_path).filter(lambda record: int(record["answer"]) % 2 == 0)
    batches = [list(loader) for loader in loaders(stream.cast_column("image", datasets.Image()), 2, 1)]
    assert [record["image"].width for record in in_order(batches)] == [3, 5, 7, 9, 11, 13]
    assert len(decoded.read_text().splitlines()) == 8  # 6 rows and 2 fillers


def test_skipped_batches_are_not_decoded(tmp_path, decoded):
    (loader,) = loaders(one_parquet_file(tmp_path))
    rest = [record for batch in skip_first_batches(loader, 3) for record in batch]
    assert [record["question"] for record in rest] == [f"Q {number}?" for number in range(6, NUMBER)]
    assert len(decoded.read_text().splitlines()) == NUMBER - 6


def test_batches_after_a_skip_are_those_of_an_unbroken_epoch(tmp_path):
    for workers in (0, 2):
        for loader in loaders(shuffled(tmp_path), 2, workers):
            loader.set_epoch(1)
            unbroken = [[seen(record) for record in batch] for batch in loader]
            (again,) = loaders(shuffled(tmp_path), 2, workers)[loader.batch_sampler.process_index :][:1]
            again.set_epoch(1)
            rest = skip_first_batches(again, 1)
            again.batch_sampler.batch_sampler.sampler.set_epoch(1)
            assert [[seen(record) for record in batch] for batch in rest] == unbroken[1:]


def test_an_epoch_has_its_own_order(tmp_path):
    (loader,) = loaders(shuffled(tmp_path))
    orders = []
    for epoch in (0, 1, 0):
        loader.set_epoch(epoch)
        records = [record for batch in loader for record in batch]
        assert {record[ROW_KEY].epoch for record in records} == {epoch}
        orders.append([record["question"] for record in records])
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


def test_fillers_complete_the_last_round_and_count_for_nothing(tmp_path):
    first, second = ([list(batch) for batch in loader] for loader in loaders(plain(tmp_path), 2, batch_size=4))
    assert [record[ROW_KEY].counts for record in first[-1]] == [True, True, True, False]
    assert [record[ROW_KEY].counts for record in second[-1]] == [False] * 4
    # Each shows a chart that its rank has decoded for the batch, or before.
    assert first[-1][3]["question"] == first[-1][2]["question"] == "Q 10?"
    assert {record["question"] for record in second[-1]} == {"Q 7?"}
    assert [list(loader) for loader in loaders(filtered(tmp_path).take(0), 2)] == [[], []]


@pytest.mark.parametrize(("ranks", "wanted"), [(1, 10), (2, 8), (3, 6)])
def test_drop_last_leaves_out_the_incomplete_round(tmp_path, ranks, wanted):
    found = in_order([list(loader) for loader in loaders(plain(tmp_path), ranks, drop_last=True)])
    assert [record["question"] for record in found] == [f"Q {number}?" for number in range(wanted)]


def test_a_file_that_is_written_anew_for_each_record(tmp_path):
    def generate():
        for number in range(4):
            picture(number).save(tmp_path / "chart.png")
            yield row(number, str(tmp_path / "chart.png"))

    for features in (FEATURES, None):
        (loader,) = loaders(IterableDataset.from_generator(generate, features=features), batch_size=4)
        assert [seen(record)[1] for record in next(iter(loader))] == [(number + 3, 5) for number in range(4)]


def test_a_record_of_the_hub_names_no_local_file(tmp_path):
    """Also where the file is read before its record is sent to a worker."""
    picture(1).save(tmp_path / "secret.png")
    table = Dataset.from_list([row(0, {"bytes": None, "path": str(tmp_path / "secret.png")})], features=FEATURES)
    records = as_records(table.to_iterable_dataset())
    assert [seen(record)[1] for record in next(iter(loaders(records)[0]))] == [(4, 5)]
    records._hub = HubFiles("bob/charts", {"bob/charts": None})  # as `datasets` notes where it has opened a stream
    for workers in (0, 1):
        with pytest.raises(ValueError, match=r"secret.png', which is not in bob/charts"):
            next(iter(loaders(records, workers=workers)[0]))


def test_a_record_that_cannot_be_sent_to_a_worker_is_named():
    class Odd:
        def __iter__(self):
            return ({**record, "note": lambda: 1} for record in rows())

    assert len(next(iter(loaders(Odd())[0]))) == 2
    with pytest.raises(ValueError, match=r"record 0 of the data set cannot be sent to a worker .*dataloader_num_work"):
        next(iter(loaders(Odd(), workers=1)[0]))


def test_a_record_without_its_columns_is_named_on_every_rank():
    class Odd:
        def __iter__(self):
            yield from rows([range(3)])
            yield {"image": png(1), "text": "Q?"}

    for loader in loaders(Odd(), 2):
        with pytest.raises(ValueError, match="record 3 of the data set has no 'question'"):
            list(loader)


# ---------------------------------------------------------------------- the place in a stream
def sampler(stream, **changes) -> StreamSampler:
    return StreamSampler(as_records(stream, "train_dataset"), **{"batch_size": 2, **changes})


def test_the_place_is_the_same_on_all_ranks_and_grows_with_the_batches(tmp_path):
    one, two = (sampler(plain(tmp_path), num_replicas=2, rank=rank) for rank in range(2))
    for reader in (one, two):
        assert reader.place(1) is None
        list(reader)
    places = [one.place(batches) for batches in range(5)]
    assert places == [two.place(batches) for batches in range(5)]
    assert [place and place.rows for place in places] == [None, 4, 8, NUMBER, None]
    assert one.first_place == places[1]
    filled = sampler(plain(tmp_path), accumulation=4)
    list(filled)
    rounds = -(-NUMBER // 2)
    assert [filled.place(batches).rows for batches in range(rounds, rounds + -rounds % 4 + 1)] == [NUMBER] * (
        -rounds % 4 + 1
    )
    assert filled.place(rounds + -rounds % 4 + 1) is None
    other = sampler(shuffled(tmp_path))
    list(other)
    assert other.place(2).rows == 4
    assert other.place(2) != one.place(1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: table().to_iterable_dataset().shuffle(seed=4, buffer_size=9),
        lambda: table(range(NUMBER)[::-1]).to_iterable_dataset(),
        lambda: table(range(3)).to_iterable_dataset(),
    ],
    ids=["another seed", "another order", "shorter"],
)
def test_other_records_than_before_a_resume_are_noticed(make, caplog):
    before = sampler(table().to_iterable_dataset())
    list(before)
    same = sampler(table().to_iterable_dataset())
    same.expect(0, before.place(3))
    assert len(list(same)) == NUMBER
    later = sampler(make())
    later.expect(2, before.place(3))
    list(later)  # another epoch
    later.set_epoch(2)
    with pytest.raises(ValueError, match=r"train_dataset gives other records than .* first 6 of epoch 2: .* a seed"):
        list(later)
    told = sampler(make())
    told.expect(0, StreamPlace(*before.place(3)), strict=False)
    with caplog.at_level(logging.WARNING, logger="chartqa_ft"):
        list(told)
    assert caplog.text.count("gives other records than before the checkpoint") == 1


def test_memory_does_not_grow_with_the_stream(monkeypatch):
    class Long:
        def __init__(self, number: int) -> None:
            self.number = number

        def __iter__(self):
            return (row(n, {"bytes": bytes(3000), "path": None}) for n in range(self.number))

    def peak(number: int) -> int:
        tracemalloc.start()
        for _ in sampler(Long(number), batch_size=1, num_replicas=2, pickled=True):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    monkeypatch.setattr(streams, "_PLACES", 16)
    short, long = peak(1500), peak(4500)
    assert long < short + 3 * 3000  # three records
