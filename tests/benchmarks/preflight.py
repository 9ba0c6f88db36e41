"""P10: how long `trainer.check(measure=True)` takes before a training of ChartQA's size, the first time and again.

python -m tests.benchmarks.preflight [--quick] [--runs 3] [--records 28299]

The data sets have the sizes of ChartQA's training and validation splits, as Parquet files. Their charts are those of
the real test split, or drawn ones where it is not at hand: two thirds of them for training, the others for evaluation,
repeated as needed, with random bytes appended so that each counts as a different chart. Each run has a cache of its
own, which its first check fills; the second check is made in a new process. Loading and the start of Python are not
counted.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from .chart_files import REAL, questions_on
from .measure import Report, Row, Sample, arguments
from .startup import RECORDS, ROWS_PER_SHARD, drawn_pictures, write_model, write_shard

EVALUATION_RECORDS = 1_920
"""Questions of ChartQA's validation split."""
QUICK_RECORDS, QUICK_PICTURES = 60, 12
ROOT = Path(__file__).resolve().parents[2]


def main(argv: list[str] | None = None) -> None:
    parser = arguments(__doc__, runs=3)
    parser.add_argument("--records", type=int, help=f"questions of the training data ({RECORDS:,})")
    parser.add_argument("--child", nargs=2, metavar=("FOLDER", "CACHE"), help="one check, for internal use")
    args = parser.parse_args(argv)
    if args.child:
        print(check(*map(Path, args.child)))
        return
    records = args.records or (QUICK_RECORDS if args.quick else RECORDS)
    report = Report("P10", args.out, args.quick)
    times: dict[str, list[float]] = {"first": [], "again": []}
    with tempfile.TemporaryDirectory() as folder:
        charts = write_data(Path(folder), records, QUICK_PICTURES if args.quick else None)
        write_model(Path(folder) / "model")
        kind = "real" if REAL.is_dir() else "drawn"
        report.note(f"{records:,} questions on {charts:,} {kind} charts to train on")
        for number in range(args.runs):
            with tempfile.TemporaryDirectory() as cache:
                for which, seconds in times.items():
                    seconds.append(run(Path(folder), Path(cache)))
                    report.note(f"run {number + 1} of {args.runs}, {which}: {seconds[-1]:.1f} s")
    for which, goal in (("first", "< 120 s"), ("again", "-")):
        name = f"P10 preflight of {records:,} training records, {which}"
        report.add(Row(name, Sample(tuple(times[which])), records, goal=goal))


def run(folder: Path, cache: Path) -> float:
    """Return the seconds of a check in a new process."""
    environment = {**os.environ, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "tests.benchmarks.preflight", "--child", str(folder), str(cache)]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.splitlines()[-1])


def write_data(folder: Path, records: int, pictures: int | None) -> int:
    """Write both splits as Parquet files into `folder`; return the number of training charts."""
    paths = sorted((REAL / "test" / "png").glob("*.png"))[:pictures]
    contents = [path.read_bytes() for path in paths] or [content for content, _ in drawn_pictures()]
    cut = len(contents) * 2 // 3
    evaluated = max(2, round(records * EVALUATION_RECORDS / RECORDS))
    charts = _write_split(folder / "train", contents[:cut], records, seed=0)
    _write_split(folder / "validation", contents[cut:], evaluated, seed=1)
    return charts


def _write_split(folder: Path, contents: Sequence[bytes], records: int, *, seed: int) -> int:
    folder.mkdir()
    random, rows, chart = Random(seed), [], 0
    shard = 0
    for left in range(records, 0, -1):
        if not rows or rows[-1]["of_chart"] == questions_on(chart):
            chart += bool(rows or shard)
            content, number = contents[chart % len(contents)] + random.randbytes(8), 0
        number += 1
        rows.append(_row(content, chart, number))
        if len(rows) == ROWS_PER_SHARD or left == 1:
            write_shard(rows, folder / f"{folder.name}-{shard:05d}.parquet")
            rows, shard = [], shard + 1
    return chart + 1


def _row(content: bytes, chart: int, number: int) -> dict[str, Any]:
    return {
        "image": {"bytes": content, "path": f"{chart}.png"},
        "query": f"Question {number} about chart {chart}?",
        "label": [str(chart % 90)],
        "human_or_machine": number - 1,
        "of_chart": number,
    }


def check(folder: Path, cache: Path) -> float:
    """Return the seconds of a check of a trainer."""
    import datasets

    from chartqa_ft import ChartQATrainer, ChartQATrainingArguments, load_chartqa, load_checkpoint

    datasets.disable_progress_bars()
    splits = {name: load_chartqa(folder / name, split=name) for name in ("train", "validation")}
    model, processor, adapter = load_checkpoint(folder / "model", trainable=True)
    args = ChartQATrainingArguments(
        output_dir=str(cache / "out"), max_steps=100, report_to="none", use_cpu=True, disable_tqdm=True
    )
    trainer = ChartQATrainer(
        model,
        args,
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        adapter=adapter,
        processing_class=processor,
    )
    start = time.perf_counter()
    result = trainer.check(measure=True)
    seconds = time.perf_counter() - start
    text = str(result)
    if "evaluation charts is in the training data" not in text or "could not be read" in text:
        raise RuntimeError(f"the charts were not compared, or are not different: {text}")
    return seconds


if __name__ == "__main__":
    main()
