"""The benchmarks run in tiny sizes, and each figure is of what its row says."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch

from chartqa_ft import load_chartqa
from chartqa_ft.models.swin import layer
from tests.benchmarks import (
    charts,
    evaluated_rows,
    evaluation,
    predictions,
    preflight,
    records,
    startup,
    training_step,
)
from tests.benchmarks.chart_files import write_charts
from tests.benchmarks.measure import MIB, Apart, Report, read_rows
from tests.benchmarks.test_benchmarks import Clock


@pytest.fixture(autouse=True)
def one_thread():
    """Benchmarks take all cores; the tests after them run on one again."""
    yield
    torch.set_num_threads(1)


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_drawn_charts_are_files_of_their_own(tmp_path, suffix):
    rows = load_chartqa(write_charts(tmp_path / "charts", 26, size=96, drawn=3, suffix=suffix), split="test")
    assert len(rows) == 26
    names = [f"{number}.png" for number in range(16)]
    assert sorted(set(rows["chart_id"])) == sorted(names)  # 26 / 16 = 1.63 questions a chart
    assert {os.stat(tmp_path / "charts" / "png" / name).st_nlink for name in names} == {5, 6}
    assert [row["image"].size for row in rows] == [(128, 96)] * 26


class Here:
    """Takes the place of `apart`: calls in this process, and makes up the memory."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []

    def __call__(self, function, *args):
        self.calls.append((function.__name__, *args))
        return Apart(function(*args), 100 * MIB, 0)


def test_the_benchmark_of_records_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "apart", Here())
    monkeypatch.setattr(records, "QUICK_SIZES", (16, 24))
    records.main(["--quick", "--runs", "1", "--out", str(tmp_path)])
    ((_, found),) = read_rows(tmp_path, quick=True).items()
    rows = {row.work: row for _, row in found}
    figures = [
        ("table", name) for name in ("loading", "index of charts", "order of an epoch", "batches", "first batch")
    ]
    figures += [("stream", name) for name in ("reading", "batches", "first batch", "resident memory")]
    assert list(rows) == [f"P6 {what} of {size} records: {name}" for what, name in figures for size in (16, 24)]
    assert all(row.ours.values[0] > 0 and len(row.ours.values) == 1 for row in rows.values())


def test_the_time_of_a_record_is_set_against_the_next_smaller_size(tmp_path):
    def found(*seconds: float) -> list[Apart]:
        return [Apart({"loading": value, "first batch": 3.0}, 100 * MIB, 0) for value in seconds]

    runs = {10: found(1e-6, 2e-6, 1e-6), 100: found(2e-6, 2e-6, 3e-6), 1000: found(1e-6, 4e-6, 6e-6)}
    report = Report("P6", tmp_path, machine="a machine")
    for figure in ("loading", "first batch"):
        records.add_figure(report, "table", figure, runs)
    rows = [row for _, row in read_rows(tmp_path)["a machine"]]
    assert [str(row.ours) for row in rows[:3]] == ["1 us/record (1 - 2)", "2 us/record (2 - 3)", "4 us/record (1 - 6)"]
    assert [row.ratio and str(row.ratio) for row in rows[:3]] == [None, "2 x (1 - 3)", "2 x (0.5 - 2)"]
    assert [str(row.ours) for row in rows[3:]] == ["3 s (3 - 3)"] * 3
    assert [row.ratio for row in rows[3:]] == [None] * 3
    assert {row.memory for row in rows} == {"peak 100 MiB (100 - 100)"}


def test_the_benchmark_of_predictions_runs(tmp_path, monkeypatch):
    here = Here()
    monkeypatch.setattr(predictions, "apart", here)
    predictions.main(["--quick", "--runs", "3", "--out", str(tmp_path)])
    assert [call[1] for call in here.calls] == [100, 200, 200, 100, 100, 200]
    ((_, found),) = read_rows(tmp_path, quick=True).items()
    works = ("metric", "writing", "reading", "metric and writing")
    assert [row.work for _, row in found] == [f"P7 {work} of {n} predictions" for work in works for n in (100, 200)]
    rows = {row.work: row for _, row in found}
    parts = [rows[f"P7 {work} of 200 predictions"].ours.values for work in works]
    assert parts[3] == pytest.approx([metric + writing for metric, writing in zip(*parts[:2], strict=True)])
    small, large = (rows[f"P7 reading of {n} predictions"] for n in (100, 200))
    assert large.ratio.values == pytest.approx(
        [b / 200 / (a / 100) for a, b in zip(small.ours.values, large.ours.values, strict=True)]
    )


def test_half_of_the_predictions_are_right():
    rows = predictions.answered_rows(800)
    assert sum(row["prediction"] == row["answer"] for row in rows) == 300  # one more but for a space
    assert len({row["question"] for row in rows}) == 800


@pytest.mark.long
def test_the_benchmark_of_charts_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(charts, "REAL", tmp_path / "not here")
    charts.main(["--quick", "--runs", "1", "--workers", "0", "--charts", "3", "--out", str(tmp_path)])
    ((_, found),) = read_rows(tmp_path, quick=True).items()
    first, later, waiting = (row for _, row in found)
    assert [row.work for row in (first, later)] == [
        f"P5 {name}, 64 px, 0 workers" for name in ("first epoch", "later epochs")
    ]
    assert first.ratio.values == (first.ours.values[0] / first.peer.values[0],)
    assert (first.ours.unit, first.rows, waiting.ours.unit) == ("charts/s", 6, "% of a step")
    assert 0 < waiting.ours.median < 100
    assert "largest difference of a pixel: 0\n" in capsys.readouterr().out


def test_a_first_epoch_finds_no_chart_and_a_later_one_all(tmp_path, monkeypatch):
    monkeypatch.setattr(charts, "REAL", tmp_path / "not here")
    # Smaller pictures are quicker to resize than to keep, but a folder that is asked for is used.
    epochs = charts.Epochs(charts.some_records(3, tmp_path), 64, tmp_path)

    def kept() -> list[Path]:
        return sorted(path for path in (tmp_path / f"cache-{epochs.caches}").rglob("*") if path.is_file())

    for _ in range(2):
        epochs.start_empty("peer")
        epochs.start_empty("ours")
        assert kept() == []
        epochs.ours()
        entries = kept()
        written = [path.stat().st_mtime_ns for path in entries]
        assert len(entries) == 3
        epochs.start_full("ours")
        epochs.ours()
        assert (kept(), [path.stat().st_mtime_ns for path in entries]) == (entries, written)
    assert epochs.caches == 2


def test_waiting_is_what_passes_between_steps():
    clock = Clock()
    waits = charts.Waits(clock)
    clock.spend(1000.0)
    waits.on_train_begin()
    for wait, step in ((50.0, 7.0), (1.0, 9.0), (5.0, 15.0), (0.0, 4.0)):
        clock.spend(wait)
        waits.on_step_begin()
        clock.spend(step)
        waits.on_step_end()
    assert waits.waits == [50.0, 1.0, 5.0, 0.0]
    assert waits.shares().values == (10.0, 25.0, 0.0)  # without the first


@pytest.mark.long
def test_the_benchmark_of_a_step_runs(tmp_path, monkeypatch, capsys):
    here = Here()
    monkeypatch.setattr(training_step, "apart", here)
    training_step.main(["--quick", "--runs", "2", "--batch", "3", "2", "--out", str(tmp_path)])
    sides = ["official", "ours", "ours, recomputing"]
    timed = [("_seconds_of_steps", side) for side in (*sides, *reversed(sides))]
    assert [call[:2] for call in here.calls] == [
        *(("_two_steps", side) for side in sides),
        ("_differences", 64),
        *timed,
        ("_where_time_goes", 64),
    ]
    ((_, found),) = read_rows(tmp_path, quick=True).items()
    memory, time = "memory of a step, 64 px, 3 rows on 2 charts", "training step, 64 px, 3 rows on 2 charts"
    assert [row.work for _, row in found] == [
        f"{what} ({side})" for what in (time, memory) for side in ("ours", "ours, recomputing")
    ]
    rows = {row.work: row for _, row in found}
    assert len(rows[f"{time} (ours)"].ratio.values) == 2
    assert rows[f"{memory} (ours)"].ratio.values == (1.0,)
    printed = capsys.readouterr().out
    loss, gradient = map(float, re.search(r"losses differ by (\S+), gradients by (\S+) ", printed).groups())
    assert loss <= 1e-5
    assert gradient <= 1e-4
    shares = re.search(r"of our step at 64 px: (.*)", printed).group(1)
    assert 0 < sum(float(share) for share in re.findall(r"([\d.]+)%", shares)) <= 100.5


def test_the_official_side_of_a_step_goes_upstreams_way(monkeypatch):
    sides = training_step.Sides(64, 3, 2, quick=True)
    chunked = []
    true = layer.swin_block
    monkeypatch.setattr(layer, "swin_block", lambda *args: chunked.append(1) or true(*args))
    sides.go("official")
    sides.official()
    assert not chunked
    sides.go("ours")
    sides.ours()
    assert len(chunked) == 4


def test_the_benchmark_of_the_start_runs(tmp_path, monkeypatch, capsys):
    asked = []

    def here(side, folder):
        """In this process, where the imports are said to take a second."""
        asked.append(side)
        ended = startup.SIDES[side](folder)
        assert list(ended) == list(startup.PHASES)
        assert list(ended.values()) == sorted(ended.values())
        return startup.seconds(ended, ended["imports"] - 1)

    monkeypatch.setattr(startup, "run", here)
    startup.main(["--quick", "--runs", "1", "--out", str(tmp_path)])
    assert asked == ["ours", "peer", "peer", "ours"]
    ((_, found),) = read_rows(tmp_path, quick=True).items()
    whole, *parts, own = (row for _, row in found)
    assert [row.work.split(": ")[-1] for row in parts] == list(startup.PHASES)
    assert whole.ours.values[0] == pytest.approx(sum(row.ours.values[0] for row in parts))
    assert own.ours.values[0] == pytest.approx(parts[1].ours.values[0] + parts[3].ours.values[0])
    assert whole.ratio.values == (whole.peer.values[0] / whole.ours.values[0],)
    assert "40 questions on 25 charts" in capsys.readouterr().out


def test_the_charts_of_the_start_differ_and_have_a_size(tmp_path):
    assert startup.write_data(tmp_path, 13) == 8
    stored = [row["bytes"] for row in load_chartqa(tmp_path / "data", split="train").to_pandas()["image"]]
    assert {len(content) for content in stored} == {startup.CHART_BYTES}
    assert len(set(stored)) == 8


def test_the_benchmark_of_a_preflight_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(preflight, "run", preflight.check)
    preflight.main(["--quick", "--runs", "1", "--out", str(tmp_path)])
    ((_, found),) = read_rows(tmp_path, quick=True).items()
    assert [row.work for _, row in found] == [
        f"P10 preflight of 60 training records, {which}" for which in ("first", "again")
    ]
    assert all(len(row.ours.values) == 1 for _, row in found)


def test_the_charts_of_a_preflight_differ_in_their_bytes(tmp_path):
    assert preflight.write_data(tmp_path, 13, 3) == 8
    parts = {name: load_chartqa(tmp_path / name, split=name).to_pandas() for name in ("train", "validation")}
    stored = {name: {row["bytes"] for row in part["image"]} for name, part in parts.items()}
    assert {name: (len(part), len(stored[name])) for name, part in parts.items()} == {
        "train": (13, 8),
        "validation": (2, 1),
    }
    pictures = {name: {content[:-8] for content in contents} for name, contents in stored.items()}
    assert {name: len(found) for name, found in pictures.items()} == {"train": 2, "validation": 1}
    assert not pictures["train"] & pictures["validation"]


def test_the_benchmark_of_evaluated_rows_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluated_rows, "apart", Here())
    evaluated_rows.main(["--quick", "--runs", "1", "--out", str(tmp_path)])
    ((_, found),) = read_rows(tmp_path, quick=True).items()
    assert [row.work for _, row in found] == [f"P9 evaluation of {size} rows" for size in (20, 40)]
    first, second = (row.ours.values[0] for _, row in found)
    assert found[1][1].ratio.values == (second / first,)


def test_the_memory_of_a_row_is_what_further_rows_add():
    runs = {10: [{"bytes": 500.0}, {"bytes": 900.0}], 30: [{"bytes": 2500.0}, {"bytes": 1900.0}]}
    assert evaluated_rows.bytes_a_row(runs, 10) is None
    assert evaluated_rows.bytes_a_row(runs, 30).values == (100.0, 50.0)


@pytest.mark.long
def test_the_benchmark_of_validation_runs(tmp_path, capsys):
    evaluation.main(["--quick", "--runs", "1", "--out", str(tmp_path)])
    ((_, ((_, row),)),) = read_rows(tmp_path, quick=True).items()
    assert row.work.startswith("validation, 64 px, ")
    different, rows, distinct = map(
        int, re.search(r"(\d+) of (\d+) answers differ; (\d+) differ from", capsys.readouterr().out).groups()
    )
    assert (different, rows) == (0, row.rows)
    assert distinct > 0
