"""P5: charts from files on disk to a batch, in the first and in later epochs, and how long a step waits for them.

python -m tests.benchmarks.charts [--quick] [--size 960] [--charts 100] [--workers 0 2] [--runs 5]

The peer is the official recipe: for each row its file is opened, decoded and given to `DonutProcessor`, and the text
is padded to 512. Ours is the loader of a `ChartQATrainer` with its defaults (charts together, random padding, charts
resized once and kept on disk); its cache is empty before each first epoch and full before each later one, and turning
its bytes into the floats that the model takes is counted, here on the CPU. Files come from the page cache on both
sides. A rate counts different charts; the rows are the same on both sides, so the ratio is one of rows as well.

The wait is that of a real training run of UniChart-base's shape with two workers: what passes between the end of a
step and the beginning of the next. The first step, which waits for the workers to start, is told apart.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, Image, disable_progress_bars
from torch.utils.data import DataLoader
from transformers import TrainerCallback

from chartqa_ft import ChartQATrainer, ChartQATrainingArguments, load_chartqa
from chartqa_ft.images.opening import open_image
from chartqa_ft.images.rgb import to_rgb

from .chart_files import REAL, questions_on, write_charts
from .measure import Report, Row, Sample, alternate, arguments, digits, ratio, wait_for_device
from .unichart_base import OfficialRecipe, unichart, use_all_cores

BATCH_SIZE = 8
WAITING = {"cpu": (480, 4), "cuda": (960, 8)}
"""Side of the pictures in pixels and rows of a step, where the wait is measured."""
STEPS = 6
SAMPLE = 24
"""Charts whose pixels are compared and whose parts are timed."""


def main(argv: list[str] | None = None) -> None:
    parser = arguments(__doc__)
    parser.add_argument("--size", type=int, help="side of the pictures that the model takes, in pixels (960)")
    parser.add_argument("--charts", type=int, help="different charts of an epoch (100)")
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 2], help="worker processes (0 2)")
    parser.add_argument("--no-wait", action="store_true", help="leave out the training run")
    args = parser.parse_args(argv)
    use_all_cores()
    disable_progress_bars()
    report = Report("P5", args.out, args.quick)
    with tempfile.TemporaryDirectory() as folder:
        charts = args.charts or (4 if args.quick else 100)
        epochs = Epochs(some_records(charts, Path(folder)), args.size or (64 if args.quick else 960), Path(folder))
        report.note(f"largest difference of a pixel: {epochs.largest_difference():.1g}")
        for text in epochs.parts():
            report.note(text)
        for workers in args.workers:
            epochs.workers = workers
            for what, before, goal in (
                ("first epoch", epochs.start_empty, ">= 1.5x"),
                ("later epochs", epochs.start_full, ">= 3x"),
            ):
                times = alternate({"peer": epochs.peer, "ours": epochs.ours}, runs=args.runs, before=before)
                rates = {name: seconds.per_second(epochs.charts, "charts/s") for name, seconds in times.items()}
                name = f"P5 {what}, {epochs.size} px, {workers} workers"
                gain = ratio(rates["ours"], rates["peer"])
                report.add(Row(name, rates["ours"], len(epochs.rows), peer=rates["peer"], ratio=gain, goal=goal))
                share = BATCH_SIZE / len(epochs.rows)
                need = {side: digits(seconds.median * share) for side, seconds in times.items()}
                report.note(
                    f"a step of {BATCH_SIZE} rows waits if it is shorter than {need['ours']} s ({need['peer']} s)"
                )
        if not args.no_wait:
            add_wait(report, Path(folder), quick=args.quick)


def some_records(charts: int, folder: Path) -> Dataset:
    """All questions on `charts` charts of the real test split, or drawn ones in `folder` where it is not at hand."""
    if not REAL.is_dir():
        questions = sum(map(questions_on, range(charts)))
        return load_chartqa(write_charts(folder / "drawn", questions, drawn=charts), split="test")
    records = load_chartqa(REAL, split="test")
    names = records["chart_id"]
    chosen = set(random.Random(0).sample(sorted(set(names)), charts))
    return records.select([row for row, name in enumerate(names) if name in chosen])


class Epochs:
    """One pass over the same rows by either side, with `workers` worker processes."""

    def __init__(self, records: Dataset, size: int, folder: Path):
        self.records, self.size, self.folder, self.workers = records, size, folder, 0
        files = records.cast_column("image", Image(decode=False))
        self.rows = [{**row, "image": row["image"]["path"]} for row in files]
        self.charts = len({row["chart_id"] for row in self.rows})
        self.model, self.processor = unichart(size, self.rows, quick=True)
        self.recipe = OfficialRecipe(self.model, self.processor)
        self.caches = 0
        self.trainer: ChartQATrainer | None = None
        self.loader: Callable[[], Any] | None = None

    def new_trainer(self, **arguments: Any) -> ChartQATrainer:
        args = ChartQATrainingArguments(
            output_dir=str(self.folder / "out"),
            per_device_train_batch_size=BATCH_SIZE,
            dataloader_num_workers=self.workers,
            max_steps=1,
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
            **arguments,
        )
        return ChartQATrainer(self.model, args, train_dataset=self.records, processing_class=self.processor)

    def start_empty(self, side: str) -> None:
        """Before a first epoch of ours: a new run, whose cache is a new folder; its index of charts is counted."""
        if side == "ours":
            self.caches += 1
            self.trainer = self.new_trainer(chart_cache=str(self.folder / f"cache-{self.caches}"))
            self.loader = self.trainer.get_train_dataloader

    def start_full(self, side: str) -> None:
        """Before a later epoch of ours: the same run goes on."""
        if side == "ours":
            loader = self.trainer.get_train_dataloader()
            self.loader = lambda: loader

    def ours(self) -> None:
        rows = 0
        for batch in self.loader():
            rows += len(batch["labels"])
            self.check(self.trainer.adapter.model_inputs(batch)["pixel_values"])
        if rows != len(self.rows):
            raise RuntimeError(f"{rows} rows came of {len(self.rows)}")

    def peer(self) -> None:
        loader = DataLoader(
            self.rows, batch_size=BATCH_SIZE, shuffle=True, collate_fn=self.recipe.collate, num_workers=self.workers
        )
        for batch in loader:
            self.check(batch["pixel_values"])

    def check(self, pixels: torch.Tensor) -> None:
        if pixels.dtype != torch.float32 or pixels.shape[1:] != (3, self.size, self.size):
            raise RuntimeError(f"a batch of {pixels.dtype} {tuple(pixels.shape)}")

    def largest_difference(self) -> float:
        """Between the pixels of both sides, without random padding, of the first charts."""
        trainer = self.new_trainer(
            random_padding=False, chart_cache=str(self.folder / "compared"), group_by_chart=False
        )
        largest = 0.0
        for row in range(min(SAMPLE, len(self.rows))):
            for _ in range(2):  # written to the cache, and read from it
                batch = trainer.data_collator([self.records[row]])
                ours = trainer.adapter.model_inputs(batch)["pixel_values"]
                largest = max(largest, float((ours - self.recipe.pixels(self.rows[row])).abs().max()))
        return largest

    def parts(self) -> list[str]:
        """Where the time of one chart goes, in milliseconds: medians over the first charts."""
        trainer = self.new_trainer(chart_cache=str(self.folder / "parts"))
        adapter, collate = trainer.adapter, trainer.data_collator
        spent: dict[str, list[float]] = {}

        def timed(name: str, work: Callable[[], Any]) -> Any:
            start = time.perf_counter()
            result = work()
            spent.setdefault(name, []).append((time.perf_counter() - start) * 1000)
            return result

        for row in self.rows[:SAMPLE]:
            image = timed("file to pixels", partial(_decoded, row))
            timed("peer: processor", partial(self.processor, image, return_tensors="pt"))
            timed("ours: text", partial(adapter.encode_text, [row]))
            timed("ours: new chart and text", partial(collate, [row]))
            batch = timed("ours: kept chart and text", partial(collate, [row]))
            timed("ours: bytes to floats", partial(adapter.model_inputs, batch))
        return [f"{name}: {Sample(tuple(values), 'ms')}" for name, values in spent.items()]


def _decoded(row: dict[str, Any]) -> Any:
    return to_rgb(open_image(row["image"]))


class Waits(TrainerCallback):
    """Seconds of each step of a run, and those before it since the last."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.last = clock()
        self.waits: list[float] = []
        self.steps: list[float] = []

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.last = self.clock()

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self._since_last(self.waits)

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        wait_for_device()
        self._since_last(self.steps)

    def _since_last(self, found: list[float]) -> None:
        now = self.clock()
        found.append(now - self.last)
        self.last = now

    def shares(self) -> Sample:
        """Percent of the time of each step but the first that it was waited for."""
        pairs = list(zip(self.waits, self.steps, strict=True))[1:]
        return Sample(tuple(100 * wait / (wait + step) for wait, step in pairs), "% of a step")


def add_wait(report: Report, folder: Path, *, quick: bool) -> None:
    """Train UniChart-base for a few steps in a first epoch, with an empty cache, and a row of the share of waiting."""
    device = "cuda" if torch.cuda.is_available() and not quick else "cpu"
    size, rows = (64, 2) if quick else WAITING[device]
    records = some_records(4 if quick else (STEPS + 1) * rows, folder / "waiting")
    model, processor = unichart(size, list(records.remove_columns("image")), quick=quick)
    waits = Waits()
    args = ChartQATrainingArguments(
        output_dir=str(folder / "trained"),
        per_device_train_batch_size=rows,
        dataloader_num_workers=2,
        max_steps=STEPS // 3 if quick else STEPS,
        use_cpu=device == "cpu",
        chart_cache=str(folder / "waiting-cache"),
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    trainer = ChartQATrainer(model, args, train_dataset=records, processing_class=processor, callbacks=[waits])
    trainer.train()
    step = Sample(tuple(waits.steps[1:]))
    name = f"P5 waiting for data, {size} px on {device}, first epoch, 2 workers"
    report.add(Row(name, ours=waits.shares(), rows=rows, goal="<= 5 %"))
    report.note(f"steps of {rows} rows took {step}; the first batch came after {digits(waits.waits[0])} s")


if __name__ == "__main__":
    main()
