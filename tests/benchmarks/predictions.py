"""P7: the metric of many predictions, and `predictions.jsonl` written and read.

python -m tests.benchmarks.predictions [--quick] [--runs 5]

Questions and answers of drawn charts, over and over, each row with texts of its own; of eight predictions four are
right, the others near, far, empty or not a number. What is timed is what an evaluation does with its answered rows:
`score_rows` (every key of `relaxed_accuracy`, a verdict for each row) and `write_predictions`; then
`read_predictions`, as a report does. Every size is measured in a process of its own. Memory is what comes on top of
the rows themselves, which an evaluation holds anyway; ratios are of the time of a row, against the next smaller size.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from .measure import MIB, Apart, Report, Row, Sample, apart, arguments, forget_peak, peak_resident, ratio, resident

SIZES = (10_000, 100_000, 1_000_000)
QUICK_SIZES = (100, 200)
WORKS = ("metric", "writing", "reading")


def main(argv: list[str] | None = None) -> None:
    args = arguments(__doc__).parse_args(argv)
    report = Report("P7", args.out, args.quick)
    sizes = QUICK_SIZES if args.quick else SIZES
    found: dict[int, list[Apart]] = {size: [] for size in sizes}
    for number in range(args.runs):
        for size in sizes if number % 2 == 0 else reversed(sizes):
            found[size].append(apart(score_and_write, size))
    for work in (*WORKS, "metric and writing"):
        smaller = None
        for size, runs in found.items():
            parts = ("metric", "writing") if work == "metric and writing" else (work,)
            seconds = Sample(tuple(sum(run.result[part] for part in parts) for run in runs))
            each = Sample(tuple(value / size * 1e6 for value in seconds.values), "us/row")
            row = Row(
                f"P7 {work} of {size:,} predictions",
                ours=seconds,
                rows=size,
                ratio=None if smaller is None else ratio(each, smaller),
                goal="< 60 s, 0.9 - 1.1 x a row" if work == "metric and writing" else "-",
                memory=memory(runs, size, parts),
            )
            report.add(row)
            smaller = each


def memory(runs: list[Apart], size: int, parts: tuple[str, ...]) -> str:
    """How far the peak rose beyond the rows that are there, at most of any part, and what the rows take."""
    more = Sample(tuple(max(run.result[f"{part} bytes"] for part in parts) / MIB for run in runs), "MiB")
    rows = Sample(tuple(run.result["rows bytes"] / MIB for run in runs), "MiB")
    return f"+{more} beside rows of {rows.median:,.0f} MiB; {more.median * MIB / size:,.0f} bytes a row"


def answered_rows(number: int) -> list[dict[str, Any]]:
    """Rows as an evaluation has them before they are scored."""
    from chartqa_ft.data.synthetic.questions import synthetic_chartqa

    texts = synthetic_chartqa(50, seed=0).remove_columns("image").to_list()
    rows = []
    for index in range(number):
        text = texts[index % len(texts)]
        answer = text["answer"]
        near = f"{float(answer) * 1.04:.2f}" if answer.isdigit() else answer.upper()
        far = f"{float(answer) * 1.5 + 1:,.1f}%" if answer.isdigit() else f"not {answer}"
        prediction = (answer, answer, near, far, "", f"{answer} ", "about a half", answer)[index % 8]
        rows.append(
            {
                "index": index,
                "chart_id": f"{text['chart_id']}-{index}.png",
                "question": f"{text['question']} ({index})",
                "answer": answer,
                "source": text["source"],
                "prediction": prediction,
                "loss_sum": 0.5,
                "tokens": 3,
            }
        )
    return rows


def score_and_write(number: int) -> dict[str, float]:
    """Seconds of each part, and by how many bytes it raised the peak above what was resident before it."""
    from chartqa_ft.evaluation.scoring import score_rows
    from chartqa_ft.metrics.predictions import read_predictions, write_predictions

    score_rows(answered_rows(8), variant="pix2struct")
    found: dict[str, float] = {}
    empty = resident()
    rows = answered_rows(number)
    found["rows bytes"] = resident() - empty
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "predictions.jsonl"
        parts = {
            "metric": lambda: score_rows(rows, variant="pix2struct"),
            "writing": lambda: write_predictions(rows, path),
            "reading": lambda: read_predictions(path),
        }
        for work, part in parts.items():
            forget_peak()
            before = resident()
            start = time.perf_counter()
            result = part()
            found[work] = time.perf_counter() - start
            found[f"{work} bytes"] = max(peak_resident() - before, 0)
            if work == "metric" and not result["relaxed_accuracy"] > 0:
                raise RuntimeError("no prediction was right")
            if work == "reading" and result != [{key: row[key] for key in result[0]} for row in rows]:
                raise RuntimeError("what was read is not what was written")
    return found


if __name__ == "__main__":
    main()
