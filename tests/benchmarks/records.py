"""P6: what a record costs when there are many: time of loading, ordering and batching, memory, and start-up.

python -m tests.benchmarks.records [--quick] [--runs 5] [--sizes 1000 10000 100000]

Drawn charts of 128 x 96 pixels, 1.63 questions on each. Sixty are drawn; the others are hard links under names of
their own, so that every chart is a file that is opened and read (from the page cache). Every size is measured in a
process of its own: a table from one list of records (`.json`) and a stream from a record a line (`.jsonl`). A stream
is read to its end without decoding its charts; the batches of both are decoded, as in training. Times do not contain
the start of Python or the imports; ratios are against the next smaller size, those of memory against the smallest.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from .chart_files import write_charts
from .measure import MIB, Apart, Report, Row, Sample, apart, arguments, ratio

SIZES = (1_000, 10_000, 100_000)
QUICK_SIZES = (50, 100)
BATCH_SIZE = 8
BATCHES = 100
LINEAR = "0.9 - 1.1 x"
PICTURE = 96


def main(argv: list[str] | None = None) -> None:
    parser = arguments(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", help="numbers of records, in ascending order")
    args = parser.parse_args(argv)
    report = Report("P6", args.out, args.quick)
    sizes = args.sizes or (QUICK_SIZES if args.quick else SIZES)
    batches = 2 if args.quick else BATCHES
    with tempfile.TemporaryDirectory() as folder:
        files = {
            (size, suffix): write_charts(Path(folder) / suffix[1:] / str(size), size, size=PICTURE, suffix=suffix)
            for size in sizes
            for suffix in (".json", ".jsonl")
        }
        tables: dict[int, list[Apart]] = {size: [] for size in sizes}
        streams: dict[int, list[Apart]] = {size: [] for size in sizes}
        for number in range(args.runs):
            for size in sizes if number % 2 == 0 else reversed(sizes):
                tables[size].append(apart(use_table, files[size, ".json"], batches))
                streams[size].append(apart(use_stream, files[size, ".jsonl"], batches))
                report.note(f"run {number + 1} of {args.runs}, {size:,} records: {spent(tables, streams, size)}")
    for what, found in (("table", tables), ("stream", streams)):
        for figure in next(iter(found.values()))[0].result:
            add_figure(report, what, figure, found)
    add_peaks(report, streams)


def spent(tables: dict[int, list[Apart]], streams: dict[int, list[Apart]], size: int) -> str:
    """The last run in words, for who waits for the others."""
    table, stream = tables[size][-1].result, streams[size][-1].result
    return f"loading {table['loading'] * size:.1f} s, reading as a stream {stream['reading'] * size:.1f} s"


def add_figure(report: Report, what: str, figure: str, found: dict[int, list[Apart]]) -> None:
    """One row of each size: the time of a record beside that at the next smaller size, or the seconds as they are."""
    smaller = None
    for size, runs in found.items():
        each = figure != "first batch"
        values = tuple(run.result[figure] for run in runs)
        ours = Sample(tuple(value * 1e6 for value in values), "us/record") if each else Sample(values)
        row = Row(
            f"P6 {what} of {size:,} records: {figure}",
            ours=ours,
            rows=size,
            ratio=None if smaller is None or not each else ratio(ours, smaller),
            goal=LINEAR if each else "<= 10 s",
            memory=f"peak {Sample(tuple(run.resident / MIB for run in runs), 'MiB')}",
        )
        report.add(row)
        smaller = ours


def add_peaks(report: Report, streams: dict[int, list[Apart]]) -> None:
    smallest = None
    for size, runs in streams.items():
        peak = Sample(tuple(run.resident / MIB for run in runs), "MiB")
        smallest = smallest or peak
        name = f"P6 stream of {size:,} records: resident memory"
        report.add(Row(name, ours=peak, rows=size, ratio=ratio(peak, smallest), goal="0.95 - 1.05 x"))


def _trainer(records: Any) -> Any:
    from chartqa_ft import ChartQATrainer, ChartQATrainingArguments
    from chartqa_ft.models.tiny import tiny_unichart

    model, processor = tiny_unichart("test", image_size=PICTURE)
    args = ChartQATrainingArguments(
        output_dir=tempfile.gettempdir(),
        per_device_train_batch_size=BATCH_SIZE,
        max_steps=1,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
    )
    return ChartQATrainer(model, args, train_dataset=records, processing_class=processor)


def _load(file: Path, streaming: bool) -> Any:
    import datasets

    from chartqa_ft import load_chartqa

    datasets.disable_progress_bars()
    return load_chartqa(file, split="test", streaming=streaming)


def _import_all() -> None:
    """Have everything imported and called once, on a table and a stream of two records."""
    with tempfile.TemporaryDirectory() as folder:
        for streaming in (False, True):
            file = write_charts(Path(folder) / str(streaming), 2, size=PICTURE, drawn=2, suffix=".jsonl")
            next(iter(_trainer(_load(file, streaming)).get_train_dataloader()))


def use_table(file: Path, batches: int) -> dict[str, float]:
    """Seconds a record of each thing that a run does with all of its records, and those until the first batch."""
    _import_all()
    start = time.perf_counter()
    records = _load(file, streaming=False)
    loaded = time.perf_counter()
    trainer = _trainer(records)
    made = time.perf_counter()
    loader = trainer.get_train_dataloader()
    indexed = time.perf_counter()
    iterator = iter(loader)
    first = next(iterator)
    began = time.perf_counter()
    rows = sum(len(batch["labels"]) for batch, _ in zip(iterator, range(batches), strict=False))
    batched = time.perf_counter()
    order = [key.row for batch in loader.batch_sampler for key in batch]
    ordered = time.perf_counter()
    if sorted(order) != list(range(len(records))) or len(first["labels"]) != BATCH_SIZE:
        raise RuntimeError(f"{len(order)} rows in the order of {len(records)}, {len(first['labels'])} in a batch")
    return {
        "loading": (loaded - start) / len(records),
        "index of charts": (indexed - made) / len(records),
        "order of an epoch": (ordered - batched) / len(records),
        "batches": (batched - began) / rows,
        "first batch": began - start,
    }


def use_stream(file: Path, batches: int) -> dict[str, float]:
    """The same for a stream, which has no index and no order."""
    _import_all()
    start = time.perf_counter()
    records = _load(file, streaming=True)
    iterator = iter(_trainer(records).get_train_dataloader())
    next(iterator)
    began = time.perf_counter()
    rows = sum(len(batch["labels"]) for batch, _ in zip(iterator, range(batches), strict=False))
    batched = time.perf_counter()
    count = sum(1 for _ in records.decode(False))
    read = time.perf_counter()
    return {
        "reading": (read - batched) / count,
        "batches": (batched - began) / rows,
        "first batch": began - start,
    }


if __name__ == "__main__":
    main()
