"""P9: what an evaluation of many rows costs in time and memory.

python -m tests.benchmarks.evaluated_rows [--quick] [--runs 3] [--sizes 1000 10000 100000]

A tiny UniChart answers questions on drawn charts of 96 pixels in batches of 64, greedily, at most two tokens each;
`trainer.evaluate` then scores them and writes `predictions.jsonl`. Every size is measured in a process of its own,
after an evaluation of 200 rows. Ratios are of the time of a row, against the next smaller size. Memory is how far the
peak rose above what was resident before the evaluation began, with the table of records loaded; that of a row is what
the rows beyond the next smaller size added.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from .chart_files import write_charts
from .measure import MIB, Report, Row, Sample, apart, arguments, forget_peak, peak_resident, ratio, resident

SIZES = (1_000, 10_000, 100_000)
QUICK_SIZES = (20, 40)
FIRST = 200
PICTURE = 96


def main(argv: list[str] | None = None) -> None:
    parser = arguments(__doc__, runs=3)
    parser.add_argument("--sizes", type=int, nargs="+", help="numbers of rows")
    args = parser.parse_args(argv)
    report = Report("P9", args.out, args.quick)
    sizes = sorted(args.sizes or (QUICK_SIZES if args.quick else SIZES))
    found: dict[int, list[dict[str, float]]] = {size: [] for size in sizes}
    with tempfile.TemporaryDirectory() as folder:
        files = {size: write_charts(Path(folder) / str(size), size, size=PICTURE) for size in sizes}
        for number in range(args.runs):
            for size in sizes if number % 2 == 0 else reversed(sizes):
                found[size].append(apart(evaluate, files[size]).result)
                report.note(f"run {number + 1} of {args.runs}, {size:,} rows: {found[size][-1]}")
    smaller = None
    for size, runs in found.items():
        ours = Sample(tuple(run["seconds"] / size * 1e3 for run in runs), "ms/row")
        grown, each = Sample(tuple(run["bytes"] / MIB for run in runs), "MiB"), bytes_a_row(found, size)
        report.add(
            Row(
                f"P9 evaluation of {size:,} rows",
                ours=ours,
                rows=size,
                ratio=None if smaller is None else ratio(ours, smaller),
                goal="0.9 - 1.1 x",
                memory=f"+{grown}" + (f"; a further row {each}" if each else ""),
            )
        )
        smaller = ours


def bytes_a_row(found: dict[int, list[dict[str, float]]], size: int) -> Sample | None:
    """Return the bytes that each row beyond the next smaller size added to the peak; `None` for the smallest size."""
    smaller = max((other for other in found if other < size), default=None)
    if smaller is None:
        return None
    pairs = zip(found[size], found[smaller], strict=True)
    return Sample(tuple((a["bytes"] - b["bytes"]) / (size - smaller) for a, b in pairs), "bytes")


def evaluate(file: Path) -> dict[str, float]:
    """Seconds of the evaluation of all records of a file, and by how many bytes it raised the peak."""
    import datasets

    from chartqa_ft import ChartQATrainer, ChartQATrainingArguments, load_chartqa
    from chartqa_ft.models.tiny import tiny_unichart

    datasets.disable_progress_bars()
    records = load_chartqa(file, split="test")
    model, processor = tiny_unichart("test", image_size=PICTURE)
    with tempfile.TemporaryDirectory() as folder:
        args = ChartQATrainingArguments(
            output_dir=folder,
            per_device_eval_batch_size=64,
            generation_max_new_tokens=2,
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
        )
        trainer = ChartQATrainer(model, args, processing_class=processor)
        trainer.evaluate(records.select(range(min(FIRST, len(records)))))
        forget_peak()
        before = resident()
        start = time.perf_counter()
        metrics = trainer.evaluate(records)
        seconds = time.perf_counter() - start
        grown = max(peak_resident() - before, 0)
    if "eval_relaxed_accuracy" not in metrics:
        raise RuntimeError(f"nothing was scored: {sorted(metrics)}")
    return {"seconds": seconds, "bytes": float(grown)}


if __name__ == "__main__":
    main()
